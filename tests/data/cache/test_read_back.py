"""A file that does not hold what was written to it gets no name."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tmkt_data.cache.digests import PieceDigests
from tmkt_data.cache.format import FrameArray
from tmkt_data.cache.read_back import read_back
from tmkt_data.cache.writer import FramesFile, put_in_place, seal, write_tables
from tmkt_data.errors import CacheError
from tmkt_data.files import checksum

ARRAY = FrameArray("events/frames", (3, 4), np.dtype("u1"))
ROWS = np.arange(12, dtype="u1").reshape(3, 4)


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "a.tmp"
    frames = FramesFile(path, [ARRAY])
    frames.write("events/frames", 0, ROWS)
    frames.close()
    checksums = np.array([checksum(row) for row in ROWS], "<u8")
    tables = [("events/frames_xxh3", checksums), ("events/label", np.arange(3, dtype="<i4"))]
    return path, seal(path, write_tables(path, {"dataset": "a"}, tables), PieceDigests())


def test_a_whole_file_is_accepted_and_gets_its_name(sealed, tmp_path):
    path, block = sealed
    read_back(path, block, [ARRAY], rows=True)
    put_in_place(path, tmp_path / "a.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("what", ["events/label", "events/frames", "attribute", "leading block", "length"])
def test_a_file_with_other_content_is_refused(sealed, what):
    path, block = sealed
    with h5py.File(path, "r+", locking=False) as file:
        if what == "attribute":
            file.attrs["dataset"] = np.bytes_(b"b")
        elif what in file:
            file[what][1] = file[what][2]
    if what == "leading block":
        path.write_bytes(b"x" + path.read_bytes()[1:])
    elif what == "length":
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheError, match=r"a\.tmp: does not hold what was just written to it; check the disk"):
        read_back(path, block, [ARRAY], rows=True)


@pytest.mark.parametrize("array", [ARRAY.with_rows(2), ARRAY._replace(dtype=np.dtype("i1"))])
def test_arrays_of_another_shape_or_type_are_refused(sealed, array):
    with pytest.raises(CacheError, match="does not hold"):
        read_back(*sealed, [array])


def test_a_file_of_frames_with_tables_in_it_is_created_anew(sealed):
    path, _ = sealed
    again = FramesFile(path, [ARRAY])
    again.close()
    with h5py.File(path) as file:
        assert list(file["events"]) == ["frames"]
