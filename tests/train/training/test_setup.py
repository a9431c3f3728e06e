from dataclasses import replace

import numpy as np
import pytest
import torch
from altered_caches import write_altered

from tmkt_data.datasets.digits import open_digits
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_train.errors import RunError
from tmkt_train.training.setup import build_setup, setup_warnings

from ..conftest import TINY_SPEC, make_recipe

CPU = torch.device("cpu")


def test_every_parameter_is_trained_and_the_coefficients_have_no_weight_decay(tiny_cache):
    setup = build_setup(make_recipe(), tiny_cache, CPU)
    decayed, plain = setup.optimizer.param_groups
    assert any(p is setup.method.coefficients.eta for p in plain["params"])
    given = [*setup.model.parameters(), *setup.method.parameters()]
    assert len(given) == len(decayed["params"]) + len(plain["params"])


def test_training_split_smaller_than_a_batch_is_refused(tiny_cache):
    with pytest.raises(RunError, match=r"expected at least train\.batch_size = 500"):
        build_setup(make_recipe(train__batch_size=500, train__drop_last=True), tiny_cache, CPU)


def test_event_only_has_one_head(tiny_cache):
    setup = build_setup(make_recipe(method={"name": "event-only"}), tiny_cache, CPU)
    assert setup.model.image_head is None
    assert setup.frames.pairing == "none"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.5),
        ({"data__event_share": 1e-3}, 10 / (10 + 100)),
        # The other images are no twins of the recordings.
        ({"data__event_share": 1e-3, "data__pairing": "twin"}, 0.5),
    ],
)
def test_ratio_by_count_is_the_share_of_the_recordings(tiny_cache, changes, expected):
    recipe = make_recipe(mix__ratio="by-count", **changes)
    setup = build_setup(recipe, tiny_cache, CPU)
    assert setup.method.mixer.start == pytest.approx(expected)


@pytest.mark.parametrize("num_epochs", [2, 3, 4, 5])
def test_late_step_slides_in_the_epochs_above_half_of_their_number(tiny_cache, num_epochs):
    recipe = make_recipe(
        method={"name": "kt"}, mix__slide="late-step", train__epochs=num_epochs, optim__warmup_epochs=0
    )
    mixer = build_setup(recipe, tiny_cache, CPU).method.mixer
    num_batches = 7
    for epoch in range(num_epochs):
        progress = [(epoch * num_batches + number) / (num_epochs * num_batches) for number in range(num_batches)]
        assert {mixer.ratio(value) for value in progress} == {float(epoch > num_epochs / 2)}


def test_validation_shrinks_with_the_recordings_if_that_is_chosen(digits_root, tmp_path):
    spec = replace(TINY_SPEC, val_share=0.4)
    for _ in prepare_cache(plan_prepare(open_digits(digits_root), spec, tmp_path / "c.h5")):
        pass
    prepare = {"time_bins": 4, "size": 16, "val_share": 0.4}
    whole, shrunk = (
        make_recipe(
            data={"dataset": "digits", "event_share": 0.4, "shrink_validation": is_shrunk, "prepare": prepare},
            train__batch_size=4,
        )
        for is_shrunk in (False, True)
    )
    before, after = (build_setup(recipe, tmp_path / "c.h5", CPU) for recipe in (whole, shrunk))
    counts = np.bincount(before.selection.labels)
    assert set(counts.tolist()) == {5}
    assert np.bincount(after.selection.labels).tolist() == [2] * len(counts)
    assert set(after.selection.ids) < set(before.selection.ids)
    assert after.frames.ids == before.frames.ids
    assert len(list(setup_warnings(whole, before))) == 1
    assert not list(setup_warnings(shrunk, after))


def test_baked_images_of_an_earlier_version_are_named_where_they_are_trained_on(digits_root, tmp_path):
    path = tmp_path / "baked.h5"
    for _ in prepare_cache(plan_prepare(open_digits(digits_root), replace(TINY_SPEC, bake="gradient"), path)):
        pass

    def change(content):
        content.frames["images/spikes"][7, :, :, 3, 15] += 1

    altered = write_altered(path, tmp_path / "altered.h5", change)
    data = {"dataset": "digits", "prepare": {"time_bins": 4, "size": 16, "bake": "gradient"}}

    def notes(cache, **changes):
        recipe = make_recipe(data=data | changes.pop("data", {}), **changes)
        return list(setup_warnings(recipe, build_setup(recipe, cache, CPU)))

    baked = {"image_encoding": "baked"}
    assert notes(altered, data=baked) == [
        (
            f"{altered}: an earlier version baked the images, with an edge where each one ends; prepare it again with "
            "--force, or set data.image_encoding=gradient"
        )
    ]
    assert notes(altered) == notes(path, data=baked) == notes(altered, data=baked, method={"name": "event-only"}) == []
