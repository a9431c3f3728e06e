import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tmkt_train.recipe.load import load_recipe
from tmkt_train.recipe.recipe import Recipe, flat_items, inferred_choices, recipe_text, toml_value

from ..conftest import make_recipe
from .conftest import PLAIN, problems, write


def test_resolved_text_has_every_key():
    recipe = make_recipe()
    written = tomllib.loads(recipe_text(recipe))
    for key, _, _ in flat_items(recipe):
        table = written
        for part in key.split("."):
            table = table[part]


def test_cross_field_problems_come_all_at_once(tmp_path):
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
            "data.event_share: found 0.1 with data.recordings_per_class = 3, expected only one of them",
        ),
        (
            ["data.image_share=0.1", "data.pairing=twin"],
            "data.image_share: found 0.1, expected 1.0 with data.pairing = 'twin'",
        ),
        (
            ["data.shrink_validation=true", "data.recordings_per_class=3"],
            "data.shrink_validation: found true with data.recordings_per_class = 3, expected data.event_share instead",
        ),
        (["data.event_share=0.0"], "data.event_share: found 0.0, expected a number above 0 and at most 1"),
        (
            ["optim.schedule=step"],
            "optim.step_epochs: found [], expected the epochs of the steps with optim.schedule = 'step'",
        ),
        (
            ["method.name=fine-tune", "optim.warmup_epochs=2", "train.image_epochs=2"],
            "train.image_epochs: found 2, expected more than optim.warmup_epochs = 2; each stage has its own warm-up",
        ),
        (
            ["method.name=kt", "optim.warmup_epochs=2", "train.image_epochs=1"],
            "train.image_epochs: found 1, expected more than optim.warmup_epochs = 2; each stage has its own warm-up",
        ),
        (
            ["optim.second_stage_learning_rate=1e-6"],
            "optim.min_learning_rate: found 1e-05, expected at most optim.second_stage_learning_rate = 1e-06",
        ),
        (
            ["loss.classification=mean-logits"],
            (
                "loss.coefficients: found 'learned', expected 'off' with loss.classification = 'mean-logits', "
                "which has no loss per step to weight"
            ),
        ),
        (
            ["mix.law=renormalised", "mix.ratio=by-count"],
            "mix.ratio: found 'by-count', expected a number with mix.law = 'renormalised', whose ratio has a minimum",
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


def test_unused_settings_are_not_checked_together(tmp_path):
    settings = ["mix.law=renormalised", "method.name=event-only"]
    assert load_recipe(write(tmp_path, PLAIN), settings).mix.law == "renormalised"


@given(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_written_values_come_back_from_toml(value):
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


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


@pytest.mark.parametrize(
    ("method", "chosen", "expected"),
    [
        ("event-only", 2, 0), ("images-only", 2, 0), ("fine-tune", 2, 2), ("kt", 2, 2), ("kt+tsm", 2, 2),
        ("tmkt", 2, 2), ("fine-tune", "auto", 3), ("kt", "auto", 0), ("tmkt", "auto", 0),
    ],
)  # fmt: skip
def test_epochs_on_images_come_before_those_of_the_method(method, chosen, expected):
    recipe = make_recipe(method={"name": method}, train__epochs=3, train__image_epochs=chosen)
    assert (recipe.image_epochs, recipe.num_epochs) == (expected, 3 + expected)
    assert recipe.uses("train.image_epochs") == (method not in ("event-only", "images-only"))


def test_rate_of_a_stage_that_there_is_not_is_warned_about():
    rate = {"optim__second_stage_learning_rate": 0.001}
    (warning,) = make_recipe(**rate).warnings()
    assert warning.startswith("optim.second_stage_learning_rate is 0.001 but there is one stage only")
    assert list(make_recipe(**rate, train__image_epochs=2).warnings()) == []
    assert list(make_recipe(**rate, method={"name": "event-only"}).warnings()) == []


def test_learned_coefficients_without_alignment_are_warned_about():
    assert list(make_recipe().warnings()) == []
    (warning,) = make_recipe(loss__alignment=0).warnings()
    assert "loss.coefficients=off" in warning
    assert list(make_recipe(loss__alignment=0, loss__coefficients="off").warnings()) == []
    assert list(make_recipe(loss__alignment=0, method__name="event-only").warnings()) == []
