import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tmkt_data import PairedFrames
from tmkt_train.batches import crop_frames, crop_offsets, evaluation_batches, read_ahead, training_batches

CPU = torch.device("cpu")


@pytest.fixture
def frames(tiny_cache):
    return PairedFrames(tiny_cache, split="train", seed=1)


def batches(frames, **changes):
    arguments = {
        "seed": 1,
        "epoch": 2,
        "sampler": "class-balanced",
        "batch_size": 10,
        "drop_last": False,
        "crop_padding": 2,
        "with_images": True,
        "device": CPU,
    }
    return training_batches(frames, **(arguments | changes))


def naive_crop(frames, offsets, padding):
    out = np.zeros_like(frames)
    height, width = frames.shape[-2:]
    for row, (dy, dx) in enumerate(offsets):
        for y in range(height):
            for x in range(width):
                from_y, from_x = y + dy - padding, x + dx - padding
                if 0 <= from_y < height and 0 <= from_x < width:
                    out[row, ..., y, x] = frames[row, ..., from_y, from_x]
    return out


@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**32))
def test_crop_equals_the_naive_one_and_leaves_its_input(num_rows, padding, seed):
    draw = np.random.default_rng(seed)
    frames = draw.random((num_rows, 2, 2, 5, 4), dtype=np.float32)
    before = frames.copy()
    offsets = draw.integers(0, 2 * padding + 1, (num_rows, 2))
    np.testing.assert_array_equal(crop_frames(frames, offsets, padding), naive_crop(frames, offsets, padding))
    np.testing.assert_array_equal(frames, before)


def test_crop_draws_belong_to_the_sample_and_reach_every_place():
    uids = np.arange(4000, dtype=np.uint64)
    zeros = np.zeros(4000, np.int64)
    offsets = crop_offsets(3, 0, uids, zeros, 2)
    np.testing.assert_array_equal(crop_offsets(3, 0, uids[100:200], zeros[:100], 2), offsets[100:200])
    assert not np.array_equal(crop_offsets(3, 1, uids, zeros, 2), offsets)
    assert not np.array_equal(crop_offsets(3, 0, uids, zeros + 1, 2), offsets)
    places, counts = np.unique(offsets, axis=0, return_counts=True)
    assert len(places) == 25
    assert counts.min() > 160 - 5 * np.sqrt(160)


def test_batches_are_step_major_and_hold_the_rows_of_the_split(frames):
    batch = next(batches(frames, crop_padding=0))
    num_steps, size = frames.num_steps, frames.size
    assert batch.events.shape == (num_steps, 10, 2, *size)
    assert batch.image.shape == batch.events.shape
    assert batch.events.dtype == torch.float32
    frames.set_epoch(2)
    for row in range(10):
        sample = frames[(int(batch.indices[row]), int(batch.occurrences[row]))]
        np.testing.assert_array_equal(batch.events[:, row].numpy(), sample.events)
        np.testing.assert_array_equal(batch.image[:, row].numpy(), sample.image)
        assert int(batch.labels[row]) == sample.label


def test_events_are_cropped_and_images_are_not(frames):
    plain, cropped = next(batches(frames, crop_padding=0)), next(batches(frames))
    assert torch.equal(plain.image, cropped.image)
    assert not torch.equal(plain.events, cropped.events)
    offsets = crop_offsets(1, 2, plain.uids, plain.occurrences, 2)
    expected = naive_crop(plain.events.transpose(0, 1).numpy(), offsets, 2)
    np.testing.assert_array_equal(cropped.events.transpose(0, 1).numpy(), expected)


def test_epoch_can_start_at_any_batch(frames):
    whole, rest = list(batches(frames)), list(batches(frames, first=4))
    assert len(rest) == len(whole) - 4 > 0
    for here, there in zip(whole[4:], rest, strict=True):
        assert torch.equal(here.events, there.events)
        assert torch.equal(here.image, there.image)
        np.testing.assert_array_equal(here.occurrences, there.occurrences)


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
    np.testing.assert_array_equal(np.concatenate([b.indices for b in found]), np.arange(len(frames)))


def test_read_ahead_keeps_order_and_reads_one_ahead():
    read, results = [], []
    for value in read_ahead(lambda item: read.append(item) or item, range(4)):
        results.append(value)
        time.sleep(0.02)
        assert len(read) <= len(results) + 1
    assert results == read == [0, 1, 2, 3]
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
