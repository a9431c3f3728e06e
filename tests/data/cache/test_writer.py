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


def test_arrays_are_copied_from_another_file(tmp_path):
    first, second = (FramesFile(tmp_path / name, [ARRAY]) for name in ("one.h5", "two.h5"))
    rows = np.arange(12, dtype="u1").reshape(3, 4)
    first.write("events/frames", 0, rows)
    second.copy_from(first.path)
    np.testing.assert_array_equal(second.read("events/frames", 0, 3), rows)
    with pytest.raises(CacheError, match=r"two\.h5: .*No such file"):
        second.copy_from(tmp_path / "none.h5")
    for file in (first, second):
        file.close()


def test_a_file_that_is_no_hdf5_is_created_anew(tmp_path):
    (tmp_path / "frames.h5").write_bytes(b"what a killed process left")
    frames = FramesFile(tmp_path / "frames.h5", [ARRAY])
    assert not frames.read("events/frames", 0, 3).any()
    frames.close()


def test_a_file_that_the_system_does_not_open_is_kept(tmp_path, monkeypatch):
    frames = FramesFile(tmp_path / "frames.h5", [ARRAY])
    frames.write("events/frames", 0, np.ones((3, 4), "u1"))
    frames.close()

    def refuse(*_given, **_named):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr("h5py.File", refuse)
        with pytest.raises(
            CacheError, match=r"frames\.h5: cannot be read \(.*Too many open files\); check the file and"
        ):
            FramesFile(tmp_path / "frames.h5", [ARRAY])
    again = FramesFile(tmp_path / "frames.h5", [ARRAY])
    assert again.read("events/frames", 0, 3).all()
    again.close()
