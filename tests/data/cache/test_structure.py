"""Caches whose HDF5 file is of another structure than the format, and files that are gone when they are read."""

from __future__ import annotations

import pickle
import shutil

import h5py
import numpy as np
import pytest
from conftest import build

from tmkt_data.cache.compress import compress_cache
from tmkt_data.cache.digests import PieceDigests
from tmkt_data.cache.format import LEADING_BYTES, decode_leading_block
from tmkt_data.cache.reader import Cache
from tmkt_data.cache.writer import seal
from tmkt_data.errors import CacheError


@pytest.fixture(scope="module")
def small(nmnist_root, tmp_path_factory):
    return build("nmnist", nmnist_root, tmp_path_factory.mktemp("small") / "a.h5", time_bins=2, size=4)


def edited(path, out, edit):
    """Copy a cache, change its HDF5 file, and seal it with the content digest that it had."""
    shutil.copyfile(path, out)
    with h5py.File(out, "r+") as file:
        edit(file)
    seal(out, decode_leading_block(path.read_bytes()[:LEADING_BYTES], "a").digest, PieceDigests())
    return out


def anew(name, **choices):
    """Store an array in another way."""

    def edit(file):
        values = file[name][...]
        del file[name]
        given = {key: choice(values) if callable(choice) else choice for key, choice in choices.items()}
        file.create_dataset(name, **({"data": values} | given))

    return edit


def as_group(name):
    def edit(file):
        del file[name]
        file.create_group(name)

    return edit


def compact(name):
    """Store an array in its object header."""

    def edit(file):
        values = file[name][...][:, :1, :1]
        del file[name]
        choices = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        choices.set_layout(h5py.h5d.COMPACT)
        kind, space = h5py.h5t.py_create(values.dtype, logical=True), h5py.h5s.create_simple((60, 4, 4))
        h5py.h5d.create(file.id, name.encode(), kind, space, choices)

    return edit


def huge(file):
    del file["events/label"]
    file.create_dataset("events/label", (1 << 40,), "<i4", chunks=(1 << 20,))


def extra_attribute(file):
    file.attrs["note"] = "x"


EDITS = {
    "table as a group": (as_group("events/label"), "events/label is not a dataset; the file is damaged, restore it"),
    "frames as a group": (as_group("images/frames"), "damaged cache .*restore the file"),
    "attribute": (extra_attribute, r"attributes \[.*'note'.*\], expected"),
    "size of a table": (huge, r"table events/label claims 4398046511104 bytes; prepare it again"),
    "shape": (
        anew("images/frames", data=lambda values: values[:, :2]),
        r"images/frames has shape \(60, 2, 4\), expected \(60, 4, 4\)",
    ),
    "type": (anew("images/frames", dtype="i1"), "images/frames is not stored as uint8, as it was written"),
    "compact": (compact("images/frames"), "images/frames is not contiguous; prepare it again"),
    "filter": (
        anew("images/frames", chunks=(1, 4, 4), compression="gzip"),
        r"images/frames has chunks of \(1, 4, 4\) and filters \[1\]; prepare it again",
    ),
    "chunks": (anew("images/frames", chunks=(2, 4, 4)), r"images/frames has chunks of \(2, 4, 4\) and filters \[\]"),
}


@pytest.mark.parametrize("name", EDITS)
def test_another_structure_is_refused_in_one_line(small, tmp_path, name):
    edit, text = EDITS[name]
    path = edited(small, tmp_path / "b.h5", edit)
    with pytest.raises(CacheError, match=rf"^b\.h5: [^\n]*{text}[^\n]*$"):
        Cache(path)


@pytest.mark.parametrize("storage", ["plain", "compressed"])
def test_a_file_that_is_gone_before_its_first_row_is_read_is_one_line(small, tmp_path, storage):
    path = tmp_path / "b.h5"
    if storage == "plain":
        shutil.copyfile(small, path)
    else:
        list(compress_cache(small, path))
    cache = Cache(path)
    path.unlink()
    with pytest.raises(CacheError, match=r"b\.h5: [^\n]*cannot be read \([^\n]*No such file[^\n]*\)[^\n]*$"):
        cache.event_frames([0])


def test_what_a_cache_does_not_have_is_named(small):
    cache = Cache(small)
    with pytest.raises(CacheError, match="no spike frames; prepare it with `tmkt-data prepare --bake`"):
        cache.image_spikes([0])
    with pytest.raises(CacheError, match="found protocol 'own', expected one of kt-paper, twin-disjoint"):
        cache.splits("events", "own")


def test_a_pickled_cache_is_not_opened_as_another_one(small, nmnist_cache, tmp_path):
    path = tmp_path / "b.h5"
    shutil.copyfile(small, path)
    pickled = pickle.dumps(Cache(path))
    np.testing.assert_array_equal(pickle.loads(pickled).event_frames([1]), Cache(small).event_frames([1]))
    shutil.copyfile(nmnist_cache, path)
    with pytest.raises(CacheError, match=r"b\.h5: was replaced by another cache after it was opened"):
        pickle.loads(pickled)
