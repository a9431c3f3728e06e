from tmkt_train.recipe.recipe import recipe_text

from ..conftest import make_recipe
from .commands import call


def test_command_from_start_to_end_and_its_errors(tiny_cache, tmp_path, monkeypatch):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(recipe_text(make_recipe()), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = ("sweep", recipe, "--cache", tiny_cache, "--set", "train.epochs=2")
    code, out, err = call(*words, "--over", "mix.schedule=constant,linear", "--grid")
    assert (code, err) == (0, "")
    folder = "runs/sweep-tiny-mix.schedule"
    for text in (
        '   1 mix.schedule = "constant": ', "best: mix.schedule = ", f"report.html       {folder}/report.html",
        "next, train the best values and evaluate them on the test split:\n  tmkt-train recipe ", "--set mix.schedule=",
    ):  # fmt: skip
        assert text in out, text
    code, out, err = call(*words, "--over", "optim.learning_rate=1e30,0.002", "--grid")
    assert (code, err) == (
        1, "error: 1 of 2 trials failed; runs/sweep-tiny-optim.learning_rate/sweep.csv says why\n"
    )  # fmt: skip
    assert "optim.learning_rate = 1e+30: failed: epoch 2" in out
    for arguments, found, text in (
        (("--over", "mix.ratio=1:0"), 1, "error: --over mix.ratio=1:0: found an empty range"),
        (("--over", "mix.ratio=0:1", "--seeds", "0"), 2, "0 is not in the range"),
        (("--over", "mix.ratio=0:1", "--trials", "0"), 2, "0 is not in the range"),
        ((), 2, "Missing option '--over'"),
        (("--over", "mix.ratio=0:1", "--jobs", "0"), 2, "0 is not in the range"),
        (("--over", "mix.ratio=0:1", "--devices", "0,x"), 2, "found 'x', expected numbers of GPUs"),
        (("--over", "mix.ratio=0:1", "--devices", "99"), 1, "error: --devices 99: "),
        (
            ("--over", "mix.ratio=0:1", "--jobs", "2", "--set", "train.num_threads=auto"),
            1,
            "error: tiny: train.num_threads is 'auto' with 2 runs at once, expected a number",
        ),
        (("--over", "mix.ratio=0:1", "--out", recipe), 1, "cannot be written (File exists)"),
    ):
        code, _, err = call(*words, *arguments)
        assert code == found
        assert text in err
        assert "Traceback" not in err
