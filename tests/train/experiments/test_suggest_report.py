import csv
import json
from dataclasses import replace

import pytest

from tmkt_train.experiments.decision import Stage, Tried, decide
from tmkt_train.experiments.suggest_report import suggested_text, suggestion_notes, write_suggestion
from tmkt_train.recipe.load import load_recipe, read_tables
from tmkt_train.recipe.recipe import recipe_text

from ..conftest import make_recipe
from ..report.pages import Page
from .conftest import suggest


def decided(key, own, other):
    stage = Stage(key.rpartition(".")[2], key, own, (other,))
    return decide(
        stage, [Tried(own, {3: 0.1, 4: 0.1, 5: 0.1}, {}), Tried(other, {3: 0.9, 4: 0.9, 5: 0.9}, {})], num_val=60
    )


@pytest.fixture
def chosen():
    return [decided("data.image_encoding", "repeat", "saccade"), decided("train.image_epochs", "auto", 2)]


def test_files_of_a_suggestion(suggestion):
    plan, decisions = suggestion
    files = write_suggestion(plan, decisions)
    assert [path.name for path in files] == ["suggested.toml", "suggest.csv", "suggest.json", "report.html"]
    with (plan.out / "suggest.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["value"] for row in table] == ["repeat", "gradient", "saccade"]
    assert [row["is_chosen"] for row in table].count("True") == 1
    for row, one in zip(table, decisions[0].tried, strict=True):
        assert float(row["mean_last_epoch_val_accuracy"]) == pytest.approx(one.last_spread.mean)
        assert float(row["sd_last_epoch_val_accuracy"]) == pytest.approx(one.last_spread.sd)
        assert float(row["last_epoch_val_accuracy_seed_4"]) == pytest.approx(one.last[4])
    assert table[0]["mean_difference"] == ""
    assert float(table[2]["correlation"]) == pytest.approx(plan.correlations["saccade"])
    record = json.loads((plan.out / "suggest.json").read_text())
    assert record["chosen"] == {"data.image_encoding": decisions[0].chosen.value}
    assert (record["seeds"], record["num_train"], record["num_val"]) == ([3, 4], 100, 10)
    page = Page((plan.out / "report.html").read_text(encoding="utf-8"))
    assert (page.links, page.unnamed) == ([], [])
    for words in ("Settings suggested for tiny", "No run has read a test recording", "Image encoders before training"):
        assert words in page.text, words


def test_suggested_recipe_extends_the_given_one(recipe, tiny_cache, tmp_path, chosen):
    plan = suggest(recipe, tiny_cache, tmp_path / "out", "data.event_share=0.1", "method.name=kt")
    write_suggestion(plan, chosen)
    file = tmp_path / "out" / "suggested.toml"
    assert read_tables(file)["extends"].endswith("tiny.toml")
    found = load_recipe(file)
    assert (found.name, found.method.name, found.data.event_share) == ("tiny_suggested", "kt", 0.1)
    assert (found.data.image_encoding, found.train.image_epochs) == ("saccade", 2)
    # One batch in an epoch of 10 recordings: as long as the short runs, not as the recipe says.
    assert (found.train.epochs, found.train.steps_per_epoch) == (2, 3)
    assert found.train.final_split == "test"


def test_recipe_that_extends_another_is_written_whole(recipe, tiny_cache, tmp_path, chosen):
    own = tmp_path / "own.toml"
    own.write_text(f'extends = "{recipe}"\nname = "own"\nloss.ratio = 0.3\n')
    plan = suggest(own, tiny_cache, tmp_path / "out")
    (tmp_path / "whole.toml").write_text(suggested_text(plan, chosen))
    found = load_recipe(tmp_path / "whole.toml")
    assert (found.name, found.loss.ratio, found.data.image_encoding) == ("own_suggested", 0.3, "saccade")


def test_named_recipe_is_extended_by_name(tiny_cache, tmp_path, monkeypatch, chosen):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(
        recipe_text(make_recipe()) + '\n[variants.kt]\nmethod.name = "kt"\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    plan = suggest("tiny_kt", tiny_cache, tmp_path / "out")
    write_suggestion(plan, chosen)
    assert read_tables(tmp_path / "out" / "suggested.toml")["extends"] == "tiny_kt"
    assert load_recipe(tmp_path / "out" / "suggested.toml").method.name == "kt"


def test_notes_say_what_counts_as_noise(suggestion):
    plan = replace(suggestion[0], num_val=60)
    own = decide(Stage("mix ratio", "mix.ratio", 0.5, (0.1,)), [Tried(0.5, {3: 0.9}, {}), Tried(0.1, {3: 0.9}, {})], 60)
    noise, stays = suggestion_notes(plan, [own])[-2:]
    assert noise.startswith("with 60 validation recordings and 2 seeds, differences below 10.0 points count as noise")
    assert stays == "no value is better than the recipe's own beyond noise: the recipe stays as it is"
