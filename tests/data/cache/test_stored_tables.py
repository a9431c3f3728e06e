"""Tables are those of the file that was opened, whatever becomes of it, and ids stay bytes until they are asked for."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from tmkt_data import PairedFrames
from tmkt_data.cache.reader import Cache
from tmkt_data.errors import CacheError
from tmkt_data.random_keys import sample_uid


@pytest.fixture
def copied(nmnist_cache, tmp_path):
    return shutil.copy(nmnist_cache, tmp_path / "a.h5")


def test_tables_are_those_that_hdf5_reads(nmnist_cache):
    cache = Cache(nmnist_cache)
    assert len(cache.tables) == len(list(cache.tables)) > 20
    with h5py.File(nmnist_cache) as file:
        for name, table in cache.tables.items():
            expected = file[name][...]
            assert (table.dtype, table.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(table, expected)
            np.testing.assert_array_equal(cache.tables.views()[name], expected)
            assert cache.tables[name] is table
    assert "events/none" not in cache.tables


def test_views_cannot_be_written(nmnist_cache):
    with pytest.raises(ValueError, match="read-only"):
        Cache(nmnist_cache).id_table("events")[0] = b"other"


def test_ids_are_decoded_when_they_are_asked_for(nmnist_cache):
    frames = PairedFrames(nmnist_cache, seed=2)
    expected = frames.read([3, 0]).image
    assert not {"ids", "uids", "split_digest"} & set(vars(frames))
    assert not {"event_ids", "image_ids"} & set(vars(frames.cache))
    assert frames.ids == tuple(frames.cache.event_ids[row] for row in frames.rows)
    assert frames.uids.tolist() == [sample_uid(sample) for sample in frames.ids]
    # Hashed as a whole or for a batch alone, the draws are the same.
    np.testing.assert_array_equal(frames.read([3, 0]).image, expected)
    np.testing.assert_array_equal(frames.uids_at(np.array([4, 1])), frames.uids[[4, 1]])


def test_tables_of_a_file_that_is_overwritten_are_refused(copied):
    cache = Cache(copied)
    known = cache.tables["events/label"].copy()
    data = bytearray(copied.read_bytes())
    data[-1] ^= 1
    copied.write_bytes(data)
    for ask in (lambda: cache.tables["events/source_xxh3"], lambda: cache.event_ids):
        with pytest.raises(CacheError, match=r"a\.h5: was overwritten while it was open"):
            ask()
    np.testing.assert_array_equal(cache.tables["events/label"], known)


def test_tables_of_a_file_that_is_replaced_are_read_on(copied, nmnist_cache, tmp_path):
    cache, expected = Cache(copied), Cache(nmnist_cache)
    (tmp_path / "b.h5").write_bytes(b"x" * 10)
    (tmp_path / "b.h5").replace(copied)
    assert cache.event_ids == expected.event_ids
    for name in cache.tables:
        np.testing.assert_array_equal(cache.tables[name], expected.tables[name])
