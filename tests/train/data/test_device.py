"""Frames made from stored bytes in torch equal those of the CPU path bit for bit; here torch runs on the CPU too."""

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tmkt_data import PairedFrames
from tmkt_data.datasets.cameras import camera_from, camera_of
from tmkt_data.errors import CacheError
from tmkt_data.images.encode import poisson_frames
from tmkt_data.spec import EventScale
from tmkt_train.data import plan
from tmkt_train.data.assemble import Assembler, poisson_spikes
from tmkt_train.data.batches import Draws, EpochPlan, _streamed_batches, evaluation_batches, training_batches
from tmkt_train.data.device import StreamedFrames, data_bytes, encoding_record, hold_frames, place_frames
from tmkt_train.data.sampling import DrawKeys, batch_slices
from tmkt_train.data.stored import stored_bytes
from tmkt_train.recipe.schema import TrainTable
from tmkt_train.training.setup import build_setup

from ..conftest import make_recipe

CPU = torch.device("cpu")
CACHES = ("bytes", "overflow", "halves", "voxels")
CAMERAS = {
    "known": None,
    "graded": camera_from({"corners": [[0, 0], [2.5, -1.25]]}),
    "counts": camera_from({"corners": [[1, 2], [4, 0], [1, 2]], "negative": True, "threshold": 0.3}),
    "leaves the frame": camera_from({"corners": [[0, 0], [90, 13], [-5, -70]]}),
}
MOVES = {
    "still": {"crop_padding": 0},
    "crop": {"crop_padding": 2},
    "flip": {"crop_padding": 0, "flip": True},
    "all": {"crop_padding": 1, "flip": True, "rotation": 40.0},
}


def train_table(**changes):
    return TrainTable(**({"epochs": 1, "batch_size": 32, "drop_last": False} | changes))


def require_equal(found, expected):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected) > 0
    for here, there in zip(found, expected, strict=True):
        assert (here.image is None) == (there.image is None)
        for name in ("events", "image") if here.image is not None else ("events",):
            one, other = getattr(here, name), getattr(there, name)
            assert one.dtype == other.dtype == torch.float32
            assert torch.equal(one.cpu().contiguous().view(torch.int32), other.contiguous().view(torch.int32)), name
        assert torch.equal(here.labels.cpu(), there.labels)
        np.testing.assert_array_equal(here.indices, there.indices)
        np.testing.assert_array_equal(here.keys.uids, there.keys.uids)
        np.testing.assert_array_equal(here.keys.occurrences, there.keys.occurrences)


def require_same_epoch(frames, train, plan):
    """Compare both ways to make frames of stored bytes with the CPU path, batch by batch."""
    expected = list(training_batches(frames, train, plan, CPU))
    side = frames.image_side
    if side is None or side.is_moved or not side.is_drawn:
        require_equal(training_batches(hold_frames(frames, CPU), train, plan, CPU), expected)
    streamed = StreamedFrames(frames, CPU, Assembler(frames, CPU))
    indices = np.concatenate([batch.indices for batch in expected])
    occurrences = np.concatenate([batch.keys.occurrences for batch in expected])
    draws = Draws(indices, DrawKeys(plan.seed, plan.epoch, frames.uids[indices], occurrences), train)
    slices = batch_slices(len(indices), train.batch_size, drop_last=train.drop_last)
    require_equal(_streamed_batches(streamed, draws, slices), expected)


def test_the_caches_hold_every_stored_type_and_an_overflow(stored_caches):
    dtypes = {name: stored_caches[name].arrays["events/frames"].dtype.str for name in CACHES}
    assert dtypes == {"bytes": "|u1", "overflow": "|u1", "halves": "<f2", "voxels": "<f4"}
    counts = {name: len(stored_caches[name].tables["events/overflow_cell"]) for name in CACHES}
    assert counts["overflow"] > 0
    assert (np.diff(stored_caches["overflow"].tables["events/overflow_start"]) == 0).any()
    assert counts["bytes"] == counts["halves"] == counts["voxels"] == 0


@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("scale", get_args(EventScale))
@pytest.mark.parametrize("name", CACHES)
def test_events_of_every_type_scale_and_augmentation_are_equal(stored_caches, name, scale, moves):
    frames = PairedFrames(stored_caches[name], pairing="none", seed=4, scale=scale)
    require_same_epoch(frames, train_table(**MOVES[moves]), EpochPlan(4, 2))


@pytest.mark.parametrize(
    ("name", "encoder", "pairing"),
    [
        *itertools.product(CACHES, ["repeat", "poisson"], ["same-class", "twin"]),
        *itertools.product(["bytes", "overflow"], ["baked"], ["same-class", "twin"]),
    ],
)
def test_images_of_every_encoder_and_pairing_are_equal(stored_caches, name, encoder, pairing):
    frames = PairedFrames(stored_caches[name], pairing=pairing, seed=4, encoder=encoder, scale="log1p")
    require_same_epoch(frames, train_table(), EpochPlan(5, 3))


@pytest.mark.parametrize("scale", get_args(EventScale))
@pytest.mark.parametrize("encoder", ["gradient", "gradient-poisson", "saccade", "microsaccade"])
@pytest.mark.parametrize("name", ["bytes", "voxels"])
def test_encoders_that_imitate_events_are_equal_at_every_scale(stored_caches, name, encoder, scale):
    frames = PairedFrames(stored_caches[name], seed=4, encoder=encoder, scale=scale)
    require_same_epoch(frames, train_table(**MOVES["crop"]), EpochPlan(5, 3))
    intensities = stored_bytes(PairedFrames(stored_caches[name], seed=4, scale=scale))
    assert stored_bytes(frames) == intensities if frames.image_side.is_moved else stored_bytes(frames) > intensities


@pytest.mark.parametrize("scale", ["log1p", "step-max"])
@pytest.mark.parametrize("encoder", ["saccade", "microsaccade"])
@pytest.mark.parametrize("name", ["bytes", "voxels"])
def test_background_activity_is_equal_and_never_stored(stored_caches, name, encoder, scale):
    camera = camera_of("digits")._replace(background_rate=0.2)
    frames = PairedFrames(stored_caches[name], seed=4, encoder=encoder, scale=scale, camera=camera)
    require_same_epoch(frames, train_table(), EpochPlan(5, 3))
    assert frames.image_side.is_drawn
    assert not frames.image_side.is_moved


@pytest.mark.parametrize("epoch", [0, 7])
@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("encoder", ["saccade", "microsaccade"])
@pytest.mark.parametrize("name", ["bytes", "overflow", "fine", "fine-voxels"])
def test_images_moved_on_the_device_are_equal(stored_caches, name, encoder, camera, epoch, monkeypatch):
    monkeypatch.setattr(plan, "_BLOCK", 7)
    frames = PairedFrames(stored_caches[name], seed=epoch, encoder=encoder, scale="raw", camera=CAMERAS[camera])
    assert frames.image_side.is_moved
    require_same_epoch(frames, train_table(**MOVES["all"]), EpochPlan(epoch, epoch))
    held = hold_frames(frames, CPU).store
    assert held.images.dtype == torch.uint8
    assert stored_bytes(frames) == sum(part.nbytes for part in held if part is not None)


@pytest.mark.parametrize("scale", get_args(EventScale))
def test_baked_saccades_are_equal_at_every_scale(stored_caches, scale):
    frames = PairedFrames(stored_caches["halves"], seed=4, encoder="baked", scale=scale)
    require_same_epoch(frames, train_table(), EpochPlan(5, 3))
    assert encoding_record(hold_frames(frames, CPU), torch.device("cuda")) == {}


def test_a_run_records_where_its_images_were_encoded(stored_caches):
    gpu = torch.device("cuda")
    saccade = PairedFrames(stored_caches["bytes"], encoder="saccade")
    moved = {"image_frames": "saccade: encoded on the GPU, batch by batch"}
    assert encoding_record(hold_frames(saccade, CPU), gpu) == encoding_record(saccade, gpu) == moved
    still = PairedFrames(stored_caches["bytes"], encoder="gradient")
    held = {"image_frames": "gradient: encoded on the CPU, once, kept on the GPU"}
    assert encoding_record(hold_frames(still, CPU), gpu) == held
    random = PairedFrames(stored_caches["bytes"], encoder="gradient-poisson")
    assert encoding_record(random, gpu) == {"image_frames": "gradient-poisson: encoded on the CPU, batch by batch"}
    assert encoding_record(random, CPU) == {}
    camera = camera_of("digits")._replace(background_rate=0.2)
    noisy = PairedFrames(stored_caches["bytes"], encoder="microsaccade", camera=camera)
    assert encoding_record(noisy, gpu) == {"image_frames": "microsaccade: encoded on the CPU, batch by batch"}
    assert encoding_record(PairedFrames(stored_caches["bytes"], encoder="poisson"), gpu) == {}
    assert encoding_record(PairedFrames(stored_caches["bytes"], encoder="saccade", pairing="none"), gpu) == {}


@pytest.mark.parametrize(
    "choices", [{"image_pool": "all"}, {"image_share": 0.5, "event_share": 0.6}, {"keep_classes": [1, 3]}]
)
def test_subsets_and_pools_are_equal(stored_caches, choices):
    frames = PairedFrames(stored_caches["bytes"], seed=1, encoder="poisson", **choices)
    require_same_epoch(frames, train_table(sampler="shuffled"), EpochPlan(1, 0, 3 * len(frames) + 1))


def test_an_epoch_can_start_at_any_batch(stored_caches):
    frames = PairedFrames(stored_caches["bytes"], seed=1)
    train, held = train_table(batch_size=9), hold_frames(frames, CPU)
    expected = training_batches(frames, train, EpochPlan(1, 6, None, 3), CPU)
    require_equal(training_batches(held, train, EpochPlan(1, 6, None, 3), CPU), expected)


@pytest.mark.parametrize("pairing", ["none", "same-class"])
@pytest.mark.parametrize("name", CACHES)
def test_evaluation_is_equal_and_has_no_images(stored_caches, name, pairing):
    frames = PairedFrames(stored_caches[name], split="test", pairing=pairing, scale="step-max")
    expected = list(evaluation_batches(frames, batch_size=7, device=CPU))
    require_equal(evaluation_batches(hold_frames(frames, CPU), batch_size=7, device=CPU), expected)
    assert expected[0].image is None


def test_images_are_stored_once_and_expanded_over_the_steps(stored_caches):
    frames = PairedFrames(stored_caches["bytes"], seed=1)
    held = hold_frames(frames, CPU)
    assert held.store.images.shape == (len(np.unique(frames.pools.rows)), 13 * 13)
    assert held.store.images.dtype == held.store.events.dtype == torch.uint8
    batch = next(training_batches(held, train_table(), EpochPlan(1, 0), CPU))
    assert batch.image.stride()[0] == batch.image.stride()[2] == 0
    # Channels last in memory, step-major.
    assert batch.events.permute(0, 1, 3, 4, 2).is_contiguous()


@pytest.mark.parametrize("scale", ["raw", "max", "step-max"])
@pytest.mark.parametrize(("name", "encoder"), [("bytes", "baked"), ("overflow", "repeat"), ("voxels", "poisson")])
def test_the_size_of_a_split_is_known_before_it_is_read(stored_caches, name, encoder, scale):
    frames = PairedFrames(stored_caches[name], encoder=encoder, scale=scale)
    held = hold_frames(frames, CPU).store
    assert stored_bytes(frames) == sum(part.nbytes for part in held if part is not None)


def test_the_size_of_both_splits_of_a_recipe_is_known(tiny_cache):
    recipe = make_recipe()
    setup = build_setup(recipe, tiny_cache, CPU)
    stores = [hold_frames(frames, CPU).store for frames in (setup.frames, setup.selection)]
    held = sum(part.nbytes for store in stores for part in store if part is not None)
    assert data_bytes(recipe, tiny_cache) == held


def test_a_modified_frame_is_refused(stored_caches, tmp_path):
    path = tmp_path / "copy.h5"
    data = bytearray(stored_caches["bytes"].info.path.read_bytes())
    frames = PairedFrames(stored_caches["bytes"], seed=1)
    offset = frames.cache.arrays["events/frames"]._offset
    data[offset + int(frames.rows[3]) * 3 * 2 * 13 * 13] ^= 1
    path.write_bytes(data)
    damaged = PairedFrames(path, seed=1)
    with pytest.raises(CacheError, match=f"row {frames.rows[3]} of events/frames was changed"):
        hold_frames(damaged, CPU)
    with pytest.raises(CacheError, match="was changed"):
        StreamedFrames(damaged, CPU, Assembler(damaged, CPU)).read(
            np.array([3]), DrawKeys(1, 0, damaged.uids[3:4], np.zeros(1, np.int64))
        )


def test_a_split_stays_as_it_is_on_a_cpu(stored_caches):
    frames = PairedFrames(stored_caches["bytes"])
    assert place_frames(frames, CPU) is frames


@pytest.mark.parametrize("size", [1, 15, 16, 17, 127, 128, 129, 300])
def test_poisson_spikes_equal_the_kernel_for_any_number_of_pixels(size):
    draw = np.random.default_rng(size)
    intensities = draw.integers(0, 256, (3, 1, size), dtype=np.uint8)
    intensities[0, 0, : min(size, 3)] = [0, 255, 128][:size]
    keys = draw.integers(0, 2**64, 3, dtype=np.uint64, endpoint=False)
    keys[0] = 2**64 - 1
    expected = poisson_frames(intensities, 3, 2, key=keys)
    limits = (intensities.reshape(3, size).astype(np.int64) * 2**17 + 255) // 510
    words = [torch.from_numpy(part.astype(np.int64)) for part in (keys & np.uint64(2**32 - 1), keys >> np.uint64(32))]
    found = poisson_spikes(torch.from_numpy(limits), (words[0], words[1]), 3, 2)
    np.testing.assert_array_equal(found.permute(1, 0, 3, 2).numpy(), expected[:, :, :, 0])


@pytest.mark.parametrize("encoder", ["repeat", "poisson", "baked", "gradient", "microsaccade"])
@pytest.mark.parametrize(("name", "scale"), [("overflow", "log1p"), ("overflow", "max"), ("bytes", "clip1")])
def test_everything_stays_on_the_gpu_and_nothing_is_read_back(stored_caches, name, scale, encoder):
    # Fake tensors raise where the host reads a value, and where devices meet that differ.
    frames, device = PairedFrames(stored_caches[name], encoder=encoder, scale=scale), torch.device("cuda:0")
    train = train_table(**MOVES["all"])
    with FakeTensorMode(allow_non_fake_inputs=True):
        streamed = StreamedFrames(frames, device, Assembler(frames, device))
        order = np.arange(20)
        keys = DrawKeys(0, 0, frames.uids[:20], np.zeros(20, np.int64))
        for batch in (
            next(training_batches(hold_frames(frames, device), train, EpochPlan(0, 0), device)),
            next(training_batches(frames, train, EpochPlan(0, 0), device)),
            streamed.batch(streamed.read(order, keys, train)),
        ):
            assert {batch.events.device, batch.image.device, batch.labels.device} == {device}
            assert batch.events.shape == batch.image.shape
        (batch, *_) = evaluation_batches(frames, batch_size=7, device=device)
        assert batch.events.device == device
