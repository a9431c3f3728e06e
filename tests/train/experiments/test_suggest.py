import shutil
from dataclasses import replace

import pytest

from tmkt_data.datasets.digits import open_digits
from tmkt_data.errors import TmktError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_train.errors import RunError
from tmkt_train.experiments.plan import RunOptions
from tmkt_train.experiments.suggest import Budget, default_recipe, plan_suggestion
from tmkt_train.recipe.load import load_recipe

from ..conftest import TINY_SPEC
from .conftest import suggest


def keys(plan):
    return {stage.key: (stage.own, *stage.others) for stage in plan.stages}


def test_stages_of_a_method_with_two_streams(recipe, tiny_cache, tmp_path):
    plan = suggest(recipe, tiny_cache, tmp_path / "out", "data.event_share=0.1")
    assert keys(plan) == {
        "data.image_encoding": ("repeat", "gradient", "saccade"),
        "model.separate_heads": (True, False),
        "mix.ratio": (0.5, "by-count"),
        "train.image_epochs": ("auto", 2),
    }
    # By count is 10 / 110: 0.1 would be the same.
    assert plan.notes == ("mix.ratio = 0.1 is not tried: it gives 0.1, as another value",)
    assert (plan.num_runs, plan.num_train, plan.num_val) == (12, 10, 10)
    assert plan.recipe.train.final_split == "val"
    assert plan.correlations["saccade"] > plan.correlations["repeat"]


@pytest.mark.parametrize(
    ("method", "found"),
    [
        ("kt", ["data.image_encoding", "model.separate_heads", "train.image_epochs"]),
        ("fine-tune", ["data.image_encoding"]),
        ("images-only", ["data.image_encoding"]),
    ],
)
def test_only_what_a_method_uses_is_tried(recipe, tiny_cache, tmp_path, method, found):
    assert list(keys(suggest(recipe, tiny_cache, tmp_path / "out", f"method.name={method}"))) == found


def test_ratio_beside_by_count(recipe, tiny_cache, tmp_path):
    plan = suggest(recipe, tiny_cache, tmp_path / "out", "mix.ratio=by-count", "data.event_share=0.5")
    # By count is 50 / 150.
    assert (keys(plan)["mix.ratio"], plan.notes) == (("by-count", 0.1, 0.5), ())


def test_encoder_far_behind_is_not_trained(recipe, tiny_cache, tmp_path):
    # The path of the simulated camera with the wrong polarity.
    plan = suggest(recipe, tiny_cache, tmp_path / "out", "data.camera.corners=[[0, 0], [2.8, 5.6], [5.6, 0], [0, 0]]")
    assert "saccade" not in keys(plan)["data.image_encoding"]
    assert any(note.startswith("saccade is not trained: its frames correlate ") for note in plan.notes)


def test_unknown_camera_gives_microsaccades(recipe, digits_root, tmp_path):
    cache = prepared(digits_root, tmp_path / "cache.h5", orientation="rotate-180")
    plan = suggest(recipe, cache, tmp_path / "out", "data.prepare.orientation=rotate-180")
    assert keys(plan)["data.image_encoding"] == ("repeat", "gradient", "microsaccade")
    assert plan.notes[0].startswith("saccade is not tried: ")


def test_length_of_the_short_runs_and_of_the_suggested_recipe(recipe, tiny_cache, tmp_path):
    def plan(budget, *settings):
        options = RunOptions(settings, tiny_cache, tmp_path / "out")
        return plan_suggestion(str(recipe), options, budget=budget)

    short = plan(Budget(None, None)).recipe
    assert (short.train.epochs, short.train.steps_per_epoch, short.optim.warmup_epochs) == (3, 20, 0)
    long = plan(Budget(10, 4), "train.epochs=100", "optim.warmup_epochs=5")
    assert (long.recipe.train.epochs, long.recipe.optim.warmup_epochs) == (10, 2)
    full = load_recipe(recipe, long.settings_with({"train.image_epochs": 10}))
    assert (full.train.epochs, full.train.steps_per_epoch, full.train.image_epochs) == (100, "auto", 100)
    # One recording of each class makes an epoch of one batch: the suggested recipe trains as long as the runs.
    few = plan(Budget(10, 4), "data.event_share=0.1")
    full = load_recipe(recipe, few.settings_with({"train.image_epochs": 10}))
    assert (full.train.epochs, full.train.steps_per_epoch, full.train.image_epochs) == (10, 4, 10)
    stepped = plan(Budget(10), "train.epochs=100", 'optim.schedule="step"', "optim.step_epochs=[50, 80]").recipe
    assert stepped.optim.step_epochs == (5, 8)
    warm = plan(Budget(10), "train.epochs=20", "train.image_epochs=6")
    assert keys(warm)["train.image_epochs"] == (3, "auto")


def test_recipe_of_the_dataset_is_adapted_to_the_cache(tiny_cache):
    name, settings = default_recipe(tiny_cache)
    assert (name, settings) == ("scnn_digits", ["data.prepare.time_bins=4", "data.prepare.size=16"])


def test_method_without_images(recipe, tiny_cache, tmp_path):
    with pytest.raises(RunError, match="'event-only', which uses no images, so there is nothing to choose; add --set"):
        suggest(recipe, tiny_cache, tmp_path / "out", "method.name=event-only")


def test_no_validation_split(recipe, tiny_cache, tmp_path):
    with pytest.raises(
        RunError, match="kt-paper has no validation split, and suggest never selects on test; add --set"
    ):
        suggest(recipe, tiny_cache, tmp_path / "out", "data.protocol=kt-paper")


def prepared(root, out, **changes):
    for _ in prepare_cache(plan_prepare(open_digits(root), replace(TINY_SPEC, **changes), out)):
        pass
    return out


def test_cache_without_validation_recordings(recipe, digits_root, tmp_path):
    cache = prepared(digits_root, tmp_path / "cache.h5", val_share=0.0)
    with pytest.raises(TmktError, match="no recording in split 'val' of twin-disjoint; prepare more recordings"):
        suggest(recipe, cache, tmp_path / "out", "data.prepare.val_share=0.0")


def test_cache_without_images(recipe, digits_root, tmp_path):
    cache = tmp_path / "cache.h5"
    catalogue = replace(open_digits(digits_root), images=())
    for _ in prepare_cache(plan_prepare(catalogue, TINY_SPEC, cache)):
        pass
    with pytest.raises(TmktError, match="but no images of that class; add images and prepare again"):
        suggest(recipe, cache, tmp_path / "out")


def test_cache_of_one_class_and_too_few_validation_recordings(recipe, digits_root, tiny_cache, tmp_path):
    cache = tmp_path / "one.h5"
    digits = open_digits(digits_root)
    one = replace(digits, recordings=tuple(found for found in digits.recordings if found.label == 0))
    for _ in prepare_cache(plan_prepare(one, TINY_SPEC, cache)):
        pass
    with pytest.raises(RunError, match="recordings of one class only, expected two or more; prepare more classes"):
        suggest(recipe, cache, tmp_path / "out")
    with pytest.raises(RunError, match="5 validation recordings, expected at least 6: no difference would be beyond"):
        suggest(recipe, tiny_cache, tmp_path / "out", "data.held_out_classes=5")


def test_encoder_of_the_recipe_that_the_cache_does_not_serve(recipe, tiny_cache, tmp_path):
    with pytest.raises(TmktError, match="bake is none, expected repeat; make the right one with: tmkt-data prepare"):
        suggest(recipe, tiny_cache, tmp_path / "out", "data.image_encoding=baked", "data.prepare.bake=repeat")


def test_folder_of_other_runs_is_refused_before_training(recipe, tiny_cache, suggestion, tmp_path):
    shutil.copytree(suggestion[0].out, tmp_path / "out")
    with pytest.raises(RunError, match=r"holds a run with .*; choose another folder with --out"):
        suggest(recipe, tiny_cache, tmp_path / "out", "method.name=kt")
