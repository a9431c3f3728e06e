"""Pitfalls of the KT reference code: what it does, and that we do not.

See docs/method.md, "Where tmkt departs from the KT code on purpose"; the numbers are those of our own list.

The functions called `reference_...` restate a rule of that code in our own words, so that a test shows the difference.
Pitfalls 1, 14, 17 and 18 are properties of datasets: see tests/data/datasets.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tmkt_data import PairedFrames, PrepareSpec
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.events.events import SensorSize, validate_events
from tmkt_data.events.frames import FrameSpec, event_frames
from tmkt_data.images.frames import intensity
from tmkt_data.pairs.pools import ImagePools, draw_same_class
from tmkt_data.pairs.report import report_pairs
from tmkt_train.data.batches import EpochPlan, training_batches
from tmkt_train.method.auxiliary import RegularizationCoefficients
from tmkt_train.method.losses import alignment_loss, cka, tet_loss, weighted_event_loss
from tmkt_train.method.mixer import slide_probability_at
from tmkt_train.method.mixing import mix
from tmkt_train.recipe.schema import TrainTable
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.result import evaluate_run
from tmkt_train.training.run import start_run
from tmkt_train.training.setup import build_setup

from .conftest import make_recipe

CPU = torch.device("cpu")


def batches_of(frames, batch_size=8):
    train = TrainTable(epochs=1, batch_size=batch_size, drop_last=False, crop_padding=1)
    return training_batches(frames, train, EpochPlan(0, 0), CPU)


def test_trap_2_the_rest_of_a_class_keeps_its_images_when_one_goes():
    labels = np.zeros(20, np.int64)
    uids = np.arange(20, dtype=np.uint64) + 1
    drawn = {}
    for kept in (np.arange(20), np.delete(np.arange(20), 3)[::-1]):
        pools = ImagePools.of(labels, np.arange(20), 1)
        zeros = np.zeros(len(kept), np.int64)
        rows = draw_same_class(pools, labels[kept], uids[kept], zeros, seed=1, epoch=0)
        drawn[len(kept)] = dict(zip(kept.tolist(), rows.tolist(), strict=True))
    assert drawn[19] == {at: row for at, row in drawn[20].items() if at != 3}

    def reference_pairs(listing):
        return {recording: position for position, recording in enumerate(listing)}

    whole, shorter = reference_pairs(range(20)), reference_pairs([at for at in range(20) if at != 3])
    assert sum(whole[at] != shorter[at] for at in shorter) == 16


def test_trap_3_no_image_of_a_held_out_recording_is_in_reach_and_the_record_says_so(tiny_cache, tmp_path):
    def reference_pool(split_of_event, order):
        # The first nine tenths of the images in the order of their listing, whatever the recordings' own order.
        return np.asarray(order)[: round(0.9 * len(split_of_event))]

    frames = PairedFrames(tiny_cache, "train")
    codes = frames.cache.splits("events", "twin-disjoint")
    shuffled = np.random.default_rng(0).permutation(len(codes))
    leaked = (codes[reference_pool(codes, shuffled)] == SplitCode.TEST).sum()
    assert leaked > 0.7 * (codes == SplitCode.TEST).sum()
    assert report_pairs(frames).num_reachable_heldout == 0
    run = start_run(make_recipe(train__epochs=1, optim__warmup_epochs=0), cache=tiny_cache, out=tmp_path / "run")
    list(run.train())
    assert json.loads((tmp_path / "run" / "result.json").read_text())["pair_report"]["num_reachable_heldout"] == 0


def test_trap_4_the_draw_ends_where_the_pool_ends():
    pools = ImagePools.of(np.repeat([0, 1], 10), np.flatnonzero(np.tile(np.arange(10) < 9, 2)), 2)
    uids = np.arange(5000, dtype=np.uint64)
    drawn = draw_same_class(pools, np.zeros(5000, np.int64), uids, np.zeros(5000, np.int64), seed=0, epoch=0)
    assert set(drawn.tolist()) == set(range(9))


def test_trap_5_each_switch_changes_one_thing():
    def reference_switches(no_sliding):
        return {"alignment": not no_sliding, "slide": "step" if no_sliding else "cubic"}

    off, on = reference_switches(True), reference_switches(False)
    assert [key for key in on if on[key] != off[key]] == ["alignment", "slide"]
    whole = make_recipe(method={"name": "kt"})
    without = make_recipe(method={"name": "kt"}, mix__slide="off")
    assert (whole.slide, without.slide) == ("cubic", "off")
    assert whole.loss == without.loss
    assert slide_probability_at(0.9, "off") == 0


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_trap_6_a_fixed_coefficient_holds_for_both_terms_and_may_be_0(value):
    logits, labels = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])
    losses = tet_loss(logits, labels, margin_weight=0.3, margin=0.5)
    sigma = RegularizationCoefficients(3, "fixed", value)()
    assert sigma.tolist() == [value] * 3
    assert weighted_event_loss(losses, sigma).item() == pytest.approx((1 - value) * losses.mean().item())
    alignment = torch.tensor([0.2, 0.4, 0.9])
    assert alignment_loss(alignment, sigma).item() == pytest.approx(value * (1 - alignment).mean().item())

    def reference_loss():
        learned = torch.ones(3).sigmoid()
        entropy = tet_loss(logits, labels, margin_weight=0.0) * 0.7
        coefficient = torch.full((3,), value) if value else learned
        return ((1 - coefficient) * entropy + (1 - learned) * (losses - entropy)).mean()

    assert reference_loss().item() != pytest.approx((1 - value) * losses.mean().item(), rel=1e-3)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_trap_7_a_last_batch_may_be_short(tiny_cache, batch_size):
    setup = build_setup(make_recipe(train__batch_size=batch_size), tiny_cache, CPU)
    batches = batches_of(setup.frames, batch_size)
    last = list(batches)[-1]
    assert len(last) == (len(setup.frames) % batch_size or batch_size)
    assert torch.isfinite(setup.method(setup.model, last, 0.0).loss)


def test_trap_8_the_cache_holds_every_sample_once(tiny_cache):
    frames = PairedFrames(tiny_cache, "train")
    spec, cache = frames.spec, frames.cache
    frame = spec.size * spec.size
    least = len(cache.event_ids) * spec.time_bins * 2 * frame + len(cache.image_ids) * frame
    assert least < tiny_cache.stat().st_size < least + 300_000


@pytest.mark.parametrize("change", [{"size": 20}, {"canvas": "tight"}, {"image_channel": "blue"}, {"resize": "area"}])
def test_trap_9_a_cache_made_otherwise_is_another_one(change):
    assert PrepareSpec().digest != dataclasses.replace(PrepareSpec(), **change).digest


@pytest.mark.parametrize("polarity", [False, True])
def test_trap_10_one_polarity_and_empty_bins_have_the_usual_shape(polarity):
    events = validate_events(np.array([0, 1, 100]), np.array([0, 1, 2]), np.array([0, 1, 2]), np.full(3, polarity))
    frames = event_frames(events, FrameSpec(num_bins=5, height=4, width=4), sensor_size=SensorSize(4, 4)).frames
    assert frames.shape == (5, 2, 4, 4)
    assert frames[:, int(polarity)].sum() == 3
    assert frames[:, int(not polarity)].sum() == frames[1:4].sum() == 0


def test_trap_11_the_last_events_are_kept_unless_the_rule_says_so():
    t = np.arange(0, 1003)
    events = validate_events(t, np.zeros_like(t), np.zeros_like(t), np.ones(len(t), bool))
    kept = {
        rule: event_frames(
            events, FrameSpec(num_bins=10, height=2, width=2, bin_rule=rule), sensor_size=SensorSize(2, 2)
        )
        for rule in ("exact", "tonic")
    }
    assert (kept["exact"].frames.sum(), kept["exact"].num_outside_bins) == (1003, 0)
    assert (kept["tonic"].frames.sum(), kept["tonic"].num_outside_bins) == (1000, 3)


def test_trap_12_training_reads_nothing_of_the_test_part(tiny_cache):
    setup = build_setup(make_recipe(), tiny_cache, CPU)
    for frames in (setup.frames, setup.selection):
        codes = frames.cache.splits("events", "twin-disjoint")[frames.rows]
        assert SplitCode.TEST not in codes
    assert not set(setup.frames.ids) & set(setup.selection.ids)


def test_trap_13_one_scale_for_the_events_of_both_streams(tiny_cache):
    frames = PairedFrames(tiny_cache, "train", scale="max")
    batch = next(batches_of(frames))
    assert batch.events.max() <= 1
    mixed = mix(batch.image, batch.events, torch.ones(8, dtype=torch.int64))
    assert torch.equal(mixed.frames, batch.events)


def test_trap_16_a_channel_is_what_it_is_called():
    pixel = np.array([[[200, 100, 50]]], np.uint8)
    found = {channel: int(intensity(pixel, channel)[0, 0]) for channel in ("value", "luminance", "blue")}
    assert found["value"] == 200
    assert found["blue"] == 50
    assert found["luminance"] == pytest.approx(0.299 * 200 + 0.587 * 100 + 0.114 * 50, abs=1)


def test_trap_19_large_features_have_an_alignment():
    generator = torch.Generator().manual_seed(0)
    x, y = 1e3 * torch.randn(2, 8, 400, generator=generator), 1e3 * torch.randn(2, 8, 400, generator=generator)
    centered = x - x.mean(1, keepdim=True)
    gram = centered.flip(2) @ centered.flip(2).mT
    assert gram.abs().max() * 1e-7 > 1e-6  # so large that rounding alone trips an absolute bound of 1e-6
    torch.testing.assert_close(cka(x, y), cka(x / 1e3, y / 1e3))


def test_trap_20_evaluation_runs_one_stream(tiny_cache, tmp_path):
    run = start_run(make_recipe(train__epochs=1, optim__warmup_epochs=0), cache=tiny_cache, out=tmp_path / "run")
    list(run.train())
    heads = []
    forward = type(run.setup.model).forward

    def watched(self, frames, head="event", tap=False):
        heads.append(head)
        return forward(self, frames, head=head, tap=tap)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(run.setup.model), "forward", watched)
        again = evaluate_run(tmp_path / "run")
    assert heads
    assert set(heads) == {"event"}
    assert again


def test_trap_21_draws_leave_the_global_generators_alone(tiny_cache):
    setup = build_setup(make_recipe(), tiny_cache, CPU)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = (np.random.get_state()[1].copy(), torch.get_rng_state())  # noqa: NPY002
    for batch in batches_of(setup.frames):  # fmt: skip
        setup.method(setup.model, batch, 0.0)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_trap_23_the_rate_is_used_as_it_is_written(tiny_cache, tmp_path):
    recipe = make_recipe(train__epochs=1, optim__warmup_epochs=0, optim__learning_rate=3e-3)
    run = start_run(recipe, cache=tiny_cache, out=tmp_path / "run")
    list(run.train())
    assert RunFolder(tmp_path / "run").metrics.read()[0][0]["lr"] == 3e-3
    # No label smoothing: a sure and right answer costs nothing.
    logits = torch.full((1, 1, 4), -1e3)
    logits[0, 0, 2] = 1e3
    assert tet_loss(logits, torch.tensor([2]), margin_weight=0.0).item() == 0


def test_trap_24_each_loss_reaches_what_it_is_for_and_can_be_left_out(tiny_cache):
    recipe = make_recipe(loss__alignment=0.0, loss__modality=0.0, loss__ratio=0.0, loss__coefficients="off")
    setup = build_setup(recipe, tiny_cache, CPU)
    batches = batches_of(setup.frames)
    objective = setup.method(setup.model, next(batches), 0.0)
    assert set(objective.terms) == {"image_classification", "event_classification"}
    [gradient] = torch.autograd.grad(objective.terms["event_classification"], setup.model.event_head.bias)
    assert gradient.abs().sum() > 0
