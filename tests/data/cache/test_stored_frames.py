"""Rows are read by many threads at the same time, from every storage."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from conftest import build

from tmkt_data.cache import stored_frames
from tmkt_data.cache.compress import compress_cache
from tmkt_data.cache.reader import Cache
from tmkt_data.errors import CacheError
from tmkt_data.pairs.paired_frames import PairedFrames

NUM_THREADS, NUM_BATCHES = 8, 400
HEADER_BYTES = 160
"""Bytes of the object header of an array: shape, type, storage."""


@pytest.fixture(scope="module", params=["mapped", "compressed"])
def stored(request, nmnist_cache, tmp_path_factory):
    if request.param == "mapped":
        return nmnist_cache
    small = tmp_path_factory.mktemp("compressed") / "small.h5"
    for _ in compress_cache(nmnist_cache, small):
        pass
    return small


def draw(size, seed):
    return np.random.default_rng(seed).integers(0, size, 16)


def test_threads_get_the_rows_that_they_ask_for(stored, nmnist_cache):
    whole = Cache(nmnist_cache)
    everything = np.arange(len(whole.event_ids))
    events, images = whole.event_frames(everything), whole.image_frames(np.arange(20))
    shared = Cache(stored)

    def read(seed):
        rows, image_rows = draw(len(events), seed), draw(20, seed)
        return np.array_equal(shared.event_frames(rows), events[rows]) and np.array_equal(
            shared.image_frames(image_rows), images[image_rows]
        )

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        assert sum(pool.map(read, range(NUM_BATCHES))) == NUM_BATCHES


def test_threads_get_the_samples_that_they_ask_for(stored):
    frames = PairedFrames(stored, "train", seed=2)
    expected = frames.read(np.arange(len(frames)))

    def read(seed):
        rows = draw(len(frames), seed)
        found = frames.read(rows)
        return np.array_equal(found.events, expected.events[rows]) and np.array_equal(
            found.labels, expected.labels[rows]
        )

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        assert all(pool.map(read, range(NUM_BATCHES)))


def test_a_file_that_is_overwritten_while_it_is_open_is_refused(stored, tmp_path):
    path = tmp_path / "open.h5"
    shutil.copyfile(stored, path)
    os.utime(path, ns=(1, 1))
    cache, rows = Cache(path), np.array([3, 0])
    before = cache.event_frames(rows)
    shutil.copyfile(stored, path)
    with pytest.raises(CacheError, match=r"^open\.h5: was overwritten while it was open; open it again"):
        cache.event_frames(rows)
    np.testing.assert_array_equal(Cache(path).event_frames(rows), before)
    cache = Cache(path)
    cache.event_frames(rows)
    # Pages beyond the end of a file end the process when they are touched.
    os.truncate(path, 4096)
    with pytest.raises(CacheError, match="was overwritten while it was open"):
        cache.event_frames(np.array([50]))


def test_a_sample_or_a_batch_is_read_with_one_look_at_the_file(stored, tmp_path, monkeypatch):
    path = tmp_path / "open.h5"
    shutil.copyfile(stored, path)
    os.utime(path, ns=(1, 1))
    frames = PairedFrames(path, "train", encoder="repeat")
    # Ids are hashed when they are first drawn for, after a look of its own.
    expected, whole, looks, stat = frames[3], frames.read([3, 5]), [], os.stat
    monkeypatch.setattr(stored_frames, "_ONE_CHECK_NS", 10**11)
    monkeypatch.setattr(os, "stat", lambda *given, **named: looks.append(given[0]) or stat(*given, **named))
    found = frames[3]
    assert looks == [path]
    batch = frames.read([3, 5])
    assert looks == [path, path]
    np.testing.assert_array_equal(batch.events, whole.events)
    np.testing.assert_array_equal(found.events, expected.events)
    np.testing.assert_array_equal(found.image, expected.image)
    shutil.copyfile(stored, path)
    with pytest.raises(CacheError, match="was overwritten while it was open"):
        frames[3]
    with pytest.raises(CacheError, match="was overwritten while it was open"):
        frames.read([3])


def test_one_look_at_a_file_is_good_for_a_short_time_and_one_thread(stored, tmp_path):
    path, rows = tmp_path / "open.h5", np.array([0])
    shutil.copyfile(stored, path)
    os.utime(path, ns=(1, 1))
    cache = Cache(path)
    cache.event_frames(rows)
    with cache.checked_once():
        os.utime(path)
        with ThreadPoolExecutor(1) as pool, pytest.raises(CacheError, match="was overwritten"):
            pool.submit(cache.event_frames, rows).result()
        time.sleep(0.002)
        with pytest.raises(CacheError, match="was overwritten"):
            cache.event_frames(rows)


def test_a_file_that_is_replaced_or_removed_while_it_is_open_is_read_on(stored, tmp_path):
    path, other = tmp_path / "open.h5", tmp_path / "other.h5"
    shutil.copyfile(stored, path)
    cache, rows = Cache(path), np.array([3, 0])
    before = cache.event_frames(rows)
    other.write_bytes(b"not a cache")
    other.replace(path)
    np.testing.assert_array_equal(cache.event_frames(rows), before)
    path.unlink()
    np.testing.assert_array_equal(cache.event_frames(rows), before)


def in_a_fork(read):
    """Return what a function returns in a forked process, or its CacheError as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, read())
        except CacheError as refused:
            os.write(writer, str(refused).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_does_not_read_the_rows_of_a_file_that_replaced_the_open_one(stored, nmnist_root, tmp_path):
    path = tmp_path / "open.h5"
    shutil.copyfile(stored, path)
    cache, row = Cache(path), np.array([3])
    expected = cache.event_frames(row).tobytes()
    assert in_a_fork(lambda: cache.event_frames(row).tobytes()) == expected
    other = build("nmnist", nmnist_root, tmp_path / "other.h5", polarity="inverted")
    if stored.name == "small.h5":
        for _ in compress_cache(other, tmp_path / "small.h5"):
            pass
        other = tmp_path / "small.h5"
    other.replace(path)
    assert Cache(path).event_frames(row).tobytes() != expected
    found = in_a_fork(lambda: cache.event_frames(row).tobytes())
    assert found == expected or found.startswith(b"open.h5: was replaced by another file"), found[:100]
    assert cache.event_frames(row).tobytes() == expected


def test_who_opens_the_frames_after_another_file_took_the_name_is_told_so(stored, tmp_path):
    path, other = tmp_path / "open.h5", tmp_path / "other.h5"
    shutil.copyfile(stored, path)
    shutil.copyfile(stored, other)
    cache = Cache(path)
    other.replace(path)
    with pytest.raises(CacheError, match=r"^open\.h5: was replaced by another file since it was opened; open it again"):
        cache.event_frames(np.array([3]))


@pytest.mark.parametrize(
    ("dtype", "choices", "first", "every"), [("uint8", {}, 1, 3), ("float32", {"representation": "voxel"}, 2, 5)]
)
def test_no_bit_tried_of_the_description_of_an_array_changes_its_values_unnoticed(
    nmnist_root, tmp_path, dtype, choices, first, every
):
    path = build("nmnist", nmnist_root, tmp_path / "a.h5", size=8, time_bins=2, **choices)
    cache, rows = Cache(path), np.array([7, 2])
    assert cache.arrays["events/frames"].dtype == dtype
    expected = cache.event_frames(rows)
    with h5py.File(path) as file:
        start = h5py.h5o.get_info(file["events/frames"].id).addr
    whole, refused, equal = path.read_bytes(), 0, 0
    for bit in range(8 * start + first, 8 * (start + HEADER_BYTES), every):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        other = tmp_path / "changed.h5"
        other.write_bytes(changed)
        try:
            found = Cache(other).event_frames(rows)
        except CacheError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, expected, err_msg=f"bit {bit - 8 * start}")
            equal += 1
    assert refused > 200 / every
    assert equal > 0
