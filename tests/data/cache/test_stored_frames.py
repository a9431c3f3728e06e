"""Rows are read by many threads at the same time, from every storage."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tmkt_data.cache.compress import compress_cache
from tmkt_data.cache.reader import Cache
from tmkt_data.errors import CacheError
from tmkt_data.pairs.paired_frames import PairedFrames

NUM_THREADS, NUM_BATCHES = 8, 400


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
