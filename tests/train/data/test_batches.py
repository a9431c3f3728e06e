import threading
import time

import numpy as np
import pytest
import torch

from tmkt_data import PairedFrames
from tmkt_data.datasets.digits import open_digits
from tmkt_data.prepare.build import prepare_shards
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.prepare.shards import ShardedPlan
from tmkt_train.data.augmentation import augment
from tmkt_train.data.batches import EpochPlan, evaluation_batches, read_ahead, training_batches
from tmkt_train.data.device import hold_frames
from tmkt_train.recipe.schema import TrainTable

from ..conftest import TINY_SPEC

CPU = torch.device("cpu")


@pytest.fixture
def frames(tiny_cache):
    return PairedFrames(tiny_cache, split="train", seed=1)


def batches(frames, *, first_batch=0, num_draws=None, **changes):
    train = TrainTable(**({"epochs": 1, "batch_size": 10, "drop_last": False, "crop_padding": 2} | changes))
    return training_batches(frames, train, EpochPlan(1, 2, num_draws, first_batch), CPU)


def test_batches_are_step_major_and_hold_the_rows_of_the_split(frames):
    batch = next(batches(frames, crop_padding=0))
    num_steps, size = frames.num_steps, frames.size
    assert batch.events.shape == (num_steps, 10, 2, *size)
    assert batch.image.shape == batch.events.shape
    assert batch.events.dtype == torch.float32
    frames.set_epoch(2)
    for row in range(10):
        sample = frames[(int(batch.indices[row]), int(batch.keys.occurrences[row]))]
        np.testing.assert_array_equal(batch.events[:, row].numpy(), sample.events)
        np.testing.assert_array_equal(batch.image[:, row].numpy(), sample.image)
        assert int(batch.labels[row]) == sample.label


def test_batches_of_shards_are_those_of_one_file(tiny_cache, digits_root, tmp_path):
    plan = ShardedPlan(plan_prepare(open_digits(digits_root), TINY_SPEC, tmp_path / "tiny.h5"), 3)
    for _ in prepare_shards(plan, range(3)):
        pass
    one, other = (PairedFrames(path, split="train", seed=1) for path in (tiny_cache, plan.whole.path))
    for ours, theirs in zip(batches(one, flip=True), batches(other, flip=True), strict=True):
        assert torch.equal(ours.events, theirs.events)
        assert torch.equal(ours.image, theirs.image)
        assert torch.equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(ours.indices, theirs.indices)
    held, sharded = (hold_frames(frames, CPU).store for frames in (one, other))
    assert torch.equal(held.events, sharded.events)
    assert torch.equal(held.images, sharded.images)


def test_events_are_augmented_and_images_are_not(frames):
    augmentation = {"crop_padding": 2, "flip": True, "rotation": 15.0}
    plain = next(batches(frames, crop_padding=0))
    changed = next(batches(frames, **augmentation))
    assert torch.equal(plain.image, changed.image)
    assert (plain.keys.seed, plain.keys.epoch) == (1, 2)
    expected = augment(plain.events.transpose(0, 1).numpy(), plain.keys, **augmentation)
    assert not np.array_equal(expected, plain.events.transpose(0, 1).numpy())
    np.testing.assert_array_equal(changed.events.transpose(0, 1).numpy(), expected)


def test_an_epoch_of_so_many_draws_takes_every_sample_before_any_twice(frames):
    draws = 2 * len(frames) + 5
    found = list(batches(frames, sampler="shuffled", num_draws=draws, batch_size=7))
    indices = np.concatenate([batch.indices for batch in found])
    occurrences = np.concatenate([batch.keys.occurrences for batch in found])
    assert len(indices) == draws
    for start in (0, len(frames)):
        assert sorted(indices[start : start + len(frames)]) == list(range(len(frames)))
    assert occurrences.tolist() == [(indices[:at] == index).sum() for at, index in enumerate(indices)]


def test_epoch_can_start_at_any_batch(frames):
    whole, rest = list(batches(frames)), list(batches(frames, first_batch=4))
    assert len(rest) == len(whole) - 4 > 0
    for here, there in zip(whole[4:], rest, strict=True):
        assert torch.equal(here.events, there.events)
        assert torch.equal(here.image, there.image)
        np.testing.assert_array_equal(here.keys.occurrences, there.keys.occurrences)


def test_same_draws_for_another_batch_size(frames):
    small, large = list(batches(frames, batch_size=7)), list(batches(frames, batch_size=24))
    for name in ("events", "image"):
        assert torch.equal(
            torch.cat([getattr(b, name) for b in small], 1), torch.cat([getattr(b, name) for b in large], 1)
        )
    assert len(small[-1]) != 7


def test_batches_without_images(tiny_cache):
    frames = PairedFrames(tiny_cache, split="val", pairing="none")
    found = list(evaluation_batches(frames, batch_size=4, device=CPU))
    assert all(batch.image is None for batch in found)
    assert all(batch.image is None for batch in batches(frames, batch_size=4))
    np.testing.assert_array_equal(np.concatenate([b.indices for b in found]), np.arange(len(frames)))


@pytest.mark.parametrize("depth", [1, 3])
def test_read_ahead_keeps_order_and_reads_so_many_ahead(depth):
    read, results, most = [], [], 0
    for value in read_ahead(lambda item: read.append(item) or item, range(6), depth=depth):
        results.append(value)
        time.sleep(0.02)
        most = max(most, len(read) - len(results))
    assert most == depth
    assert results == read == list(range(6))
    assert list(read_ahead(lambda item: item, [])) == []


def test_read_ahead_raises_in_place():
    def read(item):
        if item == 2:
            raise OSError("no such row")
        return item

    results = read_ahead(read, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="no such row"):
        next(results)


def test_read_ahead_ends_its_thread_when_the_caller_stops():
    before = threading.active_count()
    results = read_ahead(lambda item: item, range(100))
    next(results)
    assert threading.active_count() == before + 1
    results.close()
    assert threading.active_count() == before
