from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from tmkt_data.cache.format import FrameArray
from tmkt_data.cache.writer import FramesFile
from tmkt_data.errors import CacheError

ARRAY = FrameArray("events/frames", (3, 4), np.dtype("u1"))


def test_rows_come_back_and_those_that_were_not_written_are_zero(tmp_path):
    frames = FramesFile(tmp_path / "frames.h5", [ARRAY])
    rows = np.arange(8, dtype="u1").reshape(2, 4)
    frames.write("events/frames", 1, rows)
    np.testing.assert_array_equal(frames.read("events/frames", 0, 3), np.concatenate([np.zeros((1, 4)), rows]))
    frames.close()
    again = FramesFile(tmp_path / "frames.h5", [ARRAY])
    np.testing.assert_array_equal(again.read("events/frames", 1, 2), rows)
    again.close()


@pytest.mark.parametrize(
    ("first", "rows"), [(2, np.zeros((2, 4), "u1")), (0, np.zeros((1, 5), "u1")), (0, np.zeros((1, 4), "f2"))]
)
def test_rows_that_do_not_fit_are_refused(tmp_path, first, rows):
    frames = FramesFile(tmp_path / "frames.h5", [ARRAY])
    with pytest.raises(CacheError, match=r"events/frames: .* at row \d, expected to fit"):
        frames.write("events/frames", first, rows)
    frames.close()


def test_a_file_of_other_arrays_is_created_anew(tmp_path):
    frames = FramesFile(tmp_path / "frames.h5", [ARRAY])
    frames.write("events/frames", 0, np.ones((3, 4), "u1"))
    frames.close()
    other = FramesFile(tmp_path / "frames.h5", [ARRAY.with_rows(2)])
    assert not other.read("events/frames", 0, 2).any()
    other.close()


def test_what_a_flush_could_not_write_is_said(tmp_path, monkeypatch):
    frames = FramesFile(tmp_path / "frames.h5", [ARRAY])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    frames.flush()
    with pytest.raises(CacheError, match=r"frames\.h5: cannot be written \(No space left on device\); free some space"):
        frames.settle()
    frames.close()
