import json

from tmkt_train.recipe.load import load_recipe
from tmkt_train.recipe.recipe import recipe_text

from ..conftest import make_recipe
from .commands import call


def test_command_from_start_to_end_and_its_errors(tiny_cache, tmp_path, monkeypatch):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(recipe_text(make_recipe(method__name="images-only")), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = ("suggest", recipe, "--cache", tiny_cache, "--epochs", "1", "--steps", "1", "--seeds", "3")
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    for text in (
        "9 runs of 1 epoch of 1 step, seeds 3, 4, 5\n  recordings     100 of training, 10 of validation\n",
        "  image encoder  repeat (the recipe's) or gradient, saccade\n  correlation    repeat 0.",
        " of training left\n",
        "   9/9 trial 3 (data.image_encoding=saccade) seed 5: val ",
        "  * image encoder   repeat        3 ",
        "note: with 10 validation recordings and 3 seeds, differences below 60.0 points count as noise",
        f"evaluate on the test split:\n  tmkt-train recipe runs/suggest-tiny/suggested.toml --cache {tiny_cache}\n",
    ):
        assert text in out, text
    assert max(map(len, out.replace(str(tiny_cache), "").splitlines()[:4])) <= 80
    assert load_recipe(tmp_path / "runs/suggest-tiny/suggested.toml").name == "tiny_suggested"
    code, out, err = call(*words, "--json")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert record["chosen"] == {"data.image_encoding": "repeat"}
    assert record["command"].startswith("tmkt-train recipe runs/suggest-tiny/suggested.toml --cache ")
    for arguments, found, text in (
        (("--seeds", "2"), 2, "2 is not in the range"),
        (("--event-share", "0"), 2, "0.0 is not in the range"),
        (("--event-share", "0.1"), 1, "holds a run with data.event_share = 1.0, expected 0.1"),
        (("--set", "method.name=event-only"), 1, "so there is nothing to choose; add --set method.name=tmkt"),
        (("--set", "data.protocol=kt-paper"), 1, "has no validation split, and suggest never selects on test"),
    ):
        code, _, err = call(*words, *arguments)
        assert code == found
        assert text in err
        assert "Traceback" not in err


def test_neither_recipe_nor_cache():
    code, _, err = call("suggest")
    assert code == 2
    assert "found neither RECIPE nor --cache, expected one or both" in err


def test_recipe_that_cannot_be_trained(tiny_cache, tmp_path, monkeypatch):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(recipe_text(make_recipe(method__name="images-only")), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    rate = ("--set", "optim.learning_rate=1e30", "--epochs", "2", "--steps", "1", "--seeds", "3", "--out", "out")
    code, _, err = call("suggest", recipe, "--cache", tiny_cache, *rate)
    assert code == 1
    assert err.startswith("error: data.image_encoding: no value could be trained: epoch ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / "suggested.toml").exists()
