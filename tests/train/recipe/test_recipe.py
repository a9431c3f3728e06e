import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tmkt_data.datasets.registry import default_spec
from tmkt_data.spec import EventScale, PrepareSpec
from tmkt_train.errors import RecipeError
from tmkt_train.recipe.contradictions import doubts
from tmkt_train.recipe.load import (
    find_recipe,
    list_recipes,
    load_recipe,
    read_tables,
    recipe_folders,
    recipe_text,
    toml_value,
)
from tmkt_train.recipe.overrides import apply_overrides, split_setting
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.schema import DataTable, PrepareTable
from tmkt_train.recipe.settings import flat_items, inferred_choices

from ..conftest import make_recipe

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.toml"))
NAMES = [path.stem for path in RECIPES]

PLAIN = """
name = "plain"
title = "A plain one"
[data]
dataset = "digits"
[model]
backbone = "scnn"
[method]
name = "tmkt"
[optim]
learning_rate = 0.001
[train]
epochs = 9
batch_size = 8
"""


def write(folder: Path, text: str, name: str = "plain.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, *settings: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, settings)
    return list(caught.value.problems)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipe_comes_back_from_its_resolved_text(name, tmp_path):
    recipe = load_recipe(find_recipe(name))
    assert recipe.name == name
    assert load_recipe(write(tmp_path, recipe_text(recipe))) == recipe


def test_list_has_every_shipped_recipe_and_no_broken_one():
    entries = {entry.name: entry for entry in list_recipes()}
    assert len(NAMES) > 20
    assert set(NAMES) <= set(entries)
    assert all(not entries[name].problem and entries[name].dataset for name in NAMES)


def test_resolved_text_has_every_key():
    recipe = make_recipe()
    written = tomllib.loads(recipe_text(recipe))
    for key, _, _ in flat_items(recipe):
        table = written
        for part in key.split("."):
            table = table[part]


def test_paper_recipe_has_the_published_numbers():
    recipe = load_recipe(find_recipe("vggsnn_ncaltech"))
    assert recipe.optim.learning_rate == 5e-3 * 120 / 1024
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.crop_padding) == (300, 120, 4)
    assert (recipe.optim.min_learning_rate, recipe.optim.warmup_epochs) == (1e-5, 5)
    assert (recipe.optim.warmup_learning_rate, recipe.optim.weight_decay) == (1e-6, 0.01)
    assert recipe.optim.betas == (0.9, 0.999)
    assert recipe.train.sampler == "class-balanced"
    assert recipe.train.drop_last
    assert (recipe.model.backbone, recipe.model.batch_norm) == ("vgg-snn", "per-step")
    assert (recipe.loss.alignment, recipe.loss.coefficients, recipe.mix.ratio) == (0.5, "learned", 0.5)
    assert recipe.data.prepare.to_spec() == PrepareSpec(time_bins=10, size=48, canvas="tight", image_decode="scaled")


@pytest.mark.parametrize("name", ["scnn_digits", "scnn_nmnist", "vggsnn_ncaltech"])
def test_what_prepare_makes_by_default_is_what_the_recipe_needs(name):
    recipe = load_recipe(find_recipe(name))
    assert recipe.data.prepare.to_spec() == default_spec(recipe.data.dataset)


@pytest.mark.parametrize("name", ["scnn_digits", "scnn_nmnist"])
def test_baseline_differs_from_its_twin_in_the_method_alone(name):
    with_images, without = (load_recipe(find_recipe(n)) for n in (name, f"{name}_event_only"))
    here = {key: value for key, value, _ in flat_items(with_images) if without.uses(key)}
    there = {key: value for key, value, _ in flat_items(without) if without.uses(key)}
    assert {key for key in here if here[key] != there[key]} == {"name", "title", "description", "method.name"}


def test_all_mistakes_come_at_once_each_with_file_and_key(tmp_path):
    text = PLAIN.replace('"tmkt"', '"tkmt"').replace("epochs = 9", 'epochs = "ten"').replace("batch_size", "bach_size")
    path = write(tmp_path, "seed = -1\n" + text + "[loss]\nalignment = nan\n")
    assert problems(path) == [
        f"{path}: seed: found -1, expected a whole number of 0 or more",
        f"{path}: method.name: found 'tkmt', expected one of 'event-only', 'fine-tune', 'kt', 'kt+tsm', 'tmkt'",
        f"{path}: loss.alignment: found nan, expected a number of 0 or more",
        f"{path}: train.epochs: found 'ten', expected a whole number of 1 or more",
        f"{path}: train.batch_size: found nothing, expected a whole number of 1 or more",
        (
            f"{path}: train.bach_size: found an unknown key, expected one of epochs, image_epochs, steps_per_epoch, "
            "batch_size, sampler, drop_last, crop_padding, flip, rotation, eval_batch_size, device, precision, "
            "num_threads; did you mean batch_size?"
        ),
    ]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("train.epochs=0", "train.epochs: found 0, expected a whole number of 1 or more"),
        ("train.epochs=1.5", "train.epochs: found 1.5, expected a whole number of 1 or more"),
        ("train.drop_last=1", "train.drop_last: found 1, expected true or false"),
        (
            "mix.schedule=self-setting",
            "mix.schedule: found 'self-setting', expected one of 'constant', 'linear', 'cubic'",
        ),
        ("data=3", "data: found 3, expected a key inside this table, such as data.NAME=VALUE"),
        ("optim.betas=[0.9]", "optim.betas: found [0.9], expected a list of 2 numbers"),
        ("optim.betas=[1.0, 0.5]", "optim.betas: found [1.0, 0.5], expected two numbers from 0 to below 1"),
        (
            "data.recordings_per_class=most",
            "data.recordings_per_class: found 'most', expected a whole number of 1 or more or 'all'",
        ),
        (
            "optim.warmup_epochs=9",
            "optim.warmup_epochs: found 9, expected fewer than train.epochs = 9, or 0 for no warm-up",
        ),
        (
            "optim.min_learning_rate=0.5",
            "optim.min_learning_rate: found 0.5, expected at most optim.learning_rate = 0.001",
        ),
        ("train.crop_padding=25", "train.crop_padding: found 25, expected at most half of data.prepare.size = 48"),
        (
            "data.image_encoding=baked",
            "data.image_encoding: found 'baked', expected another one while data.prepare.bake = 'none'",
        ),
    ],
)
def test_mistake_in_a_setting_names_its_key(setting, line, tmp_path):
    assert problems(write(tmp_path, PLAIN), setting) == [f"--set {line}"]


def test_contradictions_come_all_at_once(tmp_path):
    found = problems(
        write(tmp_path, PLAIN),
        "mix.law=renormalised",
        "data.prepare.representation=voxel",
        "data.prepare.bin_rule=tonic",
    )
    assert len(found) == 2
    assert found[0].startswith("--set data.prepare.bin_rule: found 'tonic' with representation 'voxel'")
    assert "mix.ratio: found 0.5, expected at least 0.55" in found[1]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            ["data.event_share=0.1", "data.recordings_per_class=3"],
            "data.event_share: found 0.1 beside data.recordings_per_class = 3, expected one of the two",
        ),
        (
            ["data.image_share=0.1", "data.pairing=twin"],
            "data.image_share: found 0.1, expected 1.0 with data.pairing = 'twin'",
        ),
        (["data.event_share=0.0"], "data.event_share: found 0.0, expected a number above 0"),
        (
            ["optim.schedule=step"],
            "optim.step_epochs: found [], expected the epochs of the steps with optim.schedule = 'step'",
        ),
        (
            ["method.name=fine-tune", "optim.warmup_epochs=2", "train.image_epochs=2"],
            "train.image_epochs: found 2, expected more than optim.warmup_epochs = 2; each stage warms up by itself",
        ),
        (
            ["loss.classification=mean-logits"],
            (
                "loss.coefficients: found 'learned', expected 'off' with loss.classification = 'mean-logits', "
                "which has no loss per step to weigh"
            ),
        ),
        (
            ["mix.law=renormalised", "mix.ratio=by-count"],
            "mix.ratio: found 'by-count', expected a number with mix.law = 'renormalised', which has a floor",
        ),
        (
            ["data.image_pool=all", "data.pairing=twin"],
            "data.image_pool: found 'all', expected 'split' with data.pairing = 'twin'",
        ),
    ],
)
def test_settings_that_exclude_each_other(settings, line, tmp_path):
    found = problems(write(tmp_path, PLAIN), *settings)
    assert [text.partition("--set ")[2] or text.partition(": ")[2] for text in found] == [line]


def test_recipe_extends_another_by_path_or_name(tmp_path):
    base = write(tmp_path, PLAIN)
    above = tmp_path / "above.toml"
    above.write_text(f'extends = "{base.stem}"\nname = "above"\n[method]\nname = "kt"\n[train]\nepochs = 7\n')
    recipe, below = load_recipe(above), load_recipe(base)
    assert (recipe.name, recipe.method.name, recipe.train.epochs) == ("above", "kt", 7)
    assert recipe.train.batch_size == below.train.batch_size
    assert recipe.data == below.data
    assert load_recipe(above, ["train.epochs=8"]).train.epochs == 8
    named = tmp_path / "named.toml"
    named.write_text('extends = "scnn_digits"\nname = "named"\n')
    assert load_recipe(named).model == load_recipe(find_recipe("scnn_digits")).model


def test_written_recipe_extends_nothing(tmp_path):
    recipe = load_recipe(find_recipe("scnn_digits_kt"))
    written = write(tmp_path, recipe_text(recipe))
    assert "extends" not in read_tables(written)
    assert load_recipe(written) == recipe


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('extends = "nowhere"', "extends: nowhere: no recipe of this name"),
        ("extends = 3", "extends: found 3, expected the name or the path of a recipe"),
        ('extends = "scnn_digits_kt"', "extends scnn_digits_kt, which extends 'scnn_digits'; expected one level"),
    ],
)
def test_what_cannot_be_extended(line, message, tmp_path):
    path = tmp_path / "above.toml"
    path.write_text(f'{line}\nname = "above"\n')
    [problem] = problems(path)
    assert problem.startswith(f"{path}: ")
    assert message in problem


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_every_recipe_is_whole_and_bears_the_name_of_its_file(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert not list(doubts(recipe))


def test_contradiction_of_unused_settings_is_none(tmp_path):
    settings = ["mix.law=renormalised", "method.name=event-only"]
    assert load_recipe(write(tmp_path, PLAIN), settings).mix.law == "renormalised"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("a.b=0.8", 0.8),
        ("a.b=3", 3),
        ("a.b=true", True),
        ("a.b=1e-3", 1e-3),
        ("a.b = [1, 2]", [1, 2]),
        ('a.b="x y"', "x y"),
        ("a.b=event-only", "event-only"),
        ("a.b=runs/x.h5", "runs/x.h5"),
    ],
)
def test_values_of_settings_are_toml_or_bare_words(setting, value):
    assert split_setting(setting) == ("a.b", value)


@pytest.mark.parametrize("setting", ["a", "=3", "a..b=3", "a=", "a=[1", "a=1\nb=2", "a='", "a b=3"])
def test_setting_that_is_none_is_refused_by_name(setting):
    with pytest.raises(RecipeError, match="--set") as caught:
        split_setting(setting)
    assert len(caught.value.problems) == 1


def test_all_bad_settings_come_at_once_and_the_tables_stay():
    tables = {"seed": 1}
    _, keys, left_out = apply_overrides(tables, ["a", "seed.x=3", "seed=2", "b=[1"])
    assert (keys, len(left_out)) == (("seed",), 3)
    assert tables == {"seed": 1}


@given(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_written_values_come_back_from_toml(value):
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


def test_no_toml_and_no_file_are_one_line_each(tmp_path):
    assert "no valid TOML" in problems(write(tmp_path, "a = = 3"))[0]
    assert "cannot be read" in problems(tmp_path)[0]
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    assert "cannot be read" in problems(tmp_path / "latin.toml")[0]


def test_recipe_here_comes_before_the_packaged_one_and_a_path_before_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    here = write(tmp_path / "recipes", PLAIN, "scnn_digits.toml")
    assert find_recipe("scnn_digits").resolve() == here
    other = write(tmp_path, PLAIN, "other.toml")
    assert find_recipe("other.toml").resolve() == other
    assert find_recipe("vggsnn_ncaltech").parent.resolve() in [f.resolve() for f in recipe_folders()[1:]]
    write(tmp_path / "recipes", "x = 1", "broken.toml")
    assert {e.name: e.problem for e in list_recipes()}["broken"]


def test_unknown_recipe_suggests_a_near_name():
    with pytest.raises(RecipeError, match="did you mean scnn_digits"):
        find_recipe("scnn_digit")
    with pytest.raises(RecipeError, match="no such recipe file"):
        find_recipe("nowhere/x.toml")


def test_choices_of_the_data_package_are_those_of_the_recipe():
    assert get_args(DataTable.model_fields["event_scale"].annotation) == get_args(EventScale)
    assert set(PrepareTable.model_fields) == set(PrepareSpec().to_dict())
    assert PrepareTable().to_spec() == PrepareSpec()


def test_recipe_is_frozen_and_never_converts():
    recipe = make_recipe()
    with pytest.raises(ValidationError):
        recipe.seed = 4
    with pytest.raises(ValidationError):
        Recipe.model_validate({**recipe.model_dump(), "seed": "4"})


def test_inferred_choices_are_those_that_the_method_uses():
    tmkt = inferred_choices(make_recipe())
    event_only = inferred_choices(make_recipe(method={"name": "event-only"}))
    assert {"mix.ratio = 0.5", "loss.modality = 0.1", "loss.ratio = 0.1", "loss.alignment = 0.5"} <= set(tmkt)
    assert set(event_only) < set(tmkt)
    assert not any(choice.startswith(("mix.", "data.pairing")) for choice in event_only)


def test_bad_setting_hides_no_mistake_of_the_file(tmp_path):
    path = write(tmp_path, "seed = -1\n" + PLAIN)
    found = problems(path, "train.epochs=[1", "mix.ratio=2.0")
    assert [line.split(":")[0] for line in found] == ["--set train.epochs", str(path), "--set mix.ratio"]


def test_contradictions_come_with_other_mistakes_where_their_tables_are_valid(tmp_path):
    path = write(tmp_path, "seed = -1\n" + PLAIN + "crop_padding = 30\n[mix]\nlaw = 'renormalised'\nratio = 0.5\n")
    found = problems(path, "optim.schedule=sine")
    assert [line.removeprefix(f"{path}: ").split(":")[0] for line in found] == [
        "seed", "--set optim.schedule", "train.crop_padding", "mix.ratio",
    ]  # fmt: skip


@pytest.mark.parametrize("setting", ["a.b=1", "data.prepar.size=3"])
def test_unknown_table_of_a_setting_is_blamed_on_it(tmp_path, setting):
    table = setting.rpartition(".")[0]
    assert problems(write(tmp_path, PLAIN), setting)[0].startswith(f"--set {table}: found an unknown key")
    path = write(tmp_path, PLAIN + "[a]\nc = 1\n")
    assert problems(path, "a.b=1")[0].startswith(f"{path}: a: found an unknown key")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("seed = " + "9" * 5000, "found a huge integer"),
        ("seed = 0x" + "f" * 5000, "found a huge integer"),
        ("seed = " + str(2**63), "found a huge integer"),
        ("x = " + "[" * 5000 + "]" * 5000, "deep"),
        (".".join("a" * 60) + " = 1", "deep"),
    ],
    ids=["digits", "hex", "65 bits", "lists", "tables"],
)
def test_toml_beyond_reason_is_one_line(tmp_path, text, found):
    path = write(tmp_path, text + "\n")
    (line,) = problems(path)
    assert line.startswith(f"{path}: ")
    assert found in line
    key, _, value = text.partition(" = ")
    if not key.startswith("a."):
        left_out = problems(write(tmp_path, PLAIN), f"{key}={value}")
        assert len(left_out) == 1
        assert left_out[0].startswith(f"--set {key}: ")
        assert found in left_out[0]


def test_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_text(PLAIN, encoding="utf-8-sig")
    assert load_recipe(path).name == "plain"


def test_huge_file_is_refused_by_its_size(tmp_path):
    path = write(tmp_path, PLAIN + "#" * 1_000_000)
    assert "expected a recipe of at most 1,000,000" in problems(path)[0]


def test_threads_have_an_upper_bound(tmp_path):
    path = write(tmp_path, PLAIN)
    assert load_recipe(path, ["train.num_threads=1024"]).train.num_threads == 1024
    assert problems(path, "train.num_threads=1025") == [
        "--set train.num_threads: found 1025, expected a whole number from 1 to 1024 or 'auto'"
    ]


def test_learned_coefficients_without_alignment_are_doubted():
    assert list(doubts(make_recipe())) == []
    (doubt,) = doubts(make_recipe(loss__alignment=0))
    assert "loss.coefficients=off" in doubt
    assert list(doubts(make_recipe(loss__alignment=0, loss__coefficients="off"))) == []
    assert list(doubts(make_recipe(loss__alignment=0, method__name="event-only"))) == []
