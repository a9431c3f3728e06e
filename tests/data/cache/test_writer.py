from __future__ import annotations

import errno
import hashlib
import os

import h5py
import numpy as np
import pytest

from tmkt_data.cache import writer
from tmkt_data.cache.digests import PieceDigests
from tmkt_data.cache.format import FrameArray, content_digest, decode_leading_block
from tmkt_data.cache.writer import FramesFile, put_in_place, seal, write_tables
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


def test_a_file_that_cannot_be_created_leaves_nothing(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CacheError, match="No space left on device"):
            FramesFile(tmp_path / "frames.h5", [ARRAY])
    assert list(tmp_path.iterdir()) == []
    # As a killed process leaves it.
    (tmp_path / ".frames.h5.new").write_bytes(b"half")
    FramesFile(tmp_path / "frames.h5", [ARRAY]).close()
    assert [path.name for path in tmp_path.iterdir()] == ["frames.h5"]


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


def filled(path, rows=None, name="events/frames") -> tuple[FramesFile, np.ndarray]:
    """Return an open file of 40 rows of 8 numbers, and the rows."""
    rows = np.arange(320, dtype="<f2").reshape(40, 8) if rows is None else rows
    frames = FramesFile(path, [FrameArray(name, rows.shape, rows.dtype)])
    frames.write(name, 0, rows)
    return frames, rows


def test_rows_are_in_the_file_once_they_are_written(tmp_path):
    frames, rows = filled(tmp_path / "frames.h5")
    assert rows.tobytes() in (tmp_path / "frames.h5").read_bytes()
    frames.write("events/frames", 3, -rows[3:5])
    assert np.concatenate([rows[:3], -rows[3:5], rows[5:]]).tobytes() in (tmp_path / "frames.h5").read_bytes()
    frames.close()


def test_a_row_at_the_end_fits_and_none_after_it(tmp_path):
    frames, rows = filled(tmp_path / "frames.h5")
    frames.write("events/frames", 39, rows[:1])
    frames.write("events/frames", 40, rows[:0])
    with pytest.raises(CacheError, match=r"at row 40, expected to fit"):
        frames.write("events/frames", 40, rows[:1])
    frames.close()


@pytest.mark.parametrize("piece", [1, 16, 48, 1 << 23])
def test_copies_in_pieces_of_any_size_are_whole(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(writer, "_PIECE", piece)
    frames, rows = filled(tmp_path / "frames.h5")
    same = FramesFile(tmp_path / "same.h5", list(frames.arrays.values()))
    same.copy_from(tmp_path / "frames.h5")
    np.testing.assert_array_equal(same.read("events/frames", 0, 40), rows)
    is_kept = np.random.default_rng(0).random(40) < 0.5
    some = FramesFile(tmp_path / "some.h5", [frames.arrays["events/frames"].with_rows(int(is_kept.sum()))])
    some.copy_rows("events/frames", frames, is_kept)
    np.testing.assert_array_equal(some.read("events/frames", 0, int(is_kept.sum())), rows[is_kept])
    for opened in (frames, same, some):
        opened.close()


def test_arrays_without_rows_or_cells_are_there(tmp_path):
    arrays = [FrameArray("events/frames", (0, 4), np.dtype("u1")), FrameArray("images/frames", (2, 3), np.dtype("u1"))]
    frames = FramesFile(tmp_path / "frames.h5", arrays)
    frames.write("images/frames", 0, np.ones((2, 3), "u1"))
    assert frames.read("events/frames", 0, 0).shape == (0, 4)
    frames.close()
    with h5py.File(tmp_path / "frames.h5") as file:
        assert file["events/frames"].shape == (0, 4)
        assert file["images/frames"][:].all()
        assert file["images/frames"].chunks is None


def test_a_file_that_a_loss_of_power_left_with_tables_is_begun_anew(tmp_path):
    for number, add in enumerate(
        [lambda file: file.create_dataset("events/label", data=[1]), lambda file: file.attrs.update(digest="ab")]
    ):
        path = tmp_path / f"{number}.h5"
        frames, _ = filled(path)
        frames.close()
        with h5py.File(path, "r+") as file:
            add(file)
        again = FramesFile(path, list(frames.arrays.values()))
        assert not again.read("events/frames", 0, 40).any()
        again.close()


@pytest.mark.parametrize("other", [np.zeros((40, 8), "<u2"), np.zeros((40, 4), "<f2"), np.zeros((39, 8), "<f2")])
def test_rows_of_another_type_or_shape_are_not_taken_over(tmp_path, other):
    frames, _ = filled(tmp_path / "frames.h5")
    frames.close()
    again = FramesFile(tmp_path / "frames.h5", [FrameArray("events/frames", other.shape, other.dtype)])
    assert not again.read("events/frames", 0, len(other)).any()
    again.close()


def sealed(path) -> tuple[str, object]:
    """Write a small cache file; return its content digest and its leading block."""
    frames, _ = filled(path)
    frames.flush()
    frames.settle()
    frames.close()
    digest = write_tables(path, HEADER, TABLES.items())
    return digest, seal(path, digest, frames.digests)


HEADER = {"b": "é", "a": "1", "tool_version": "9"}
TABLES = {"events/label": np.arange(3, dtype="<i4"), "images/label": np.arange(2, dtype="<i4")}


def test_tables_header_and_leading_block_are_what_was_given(tmp_path):
    path = tmp_path / "cache.h5"
    digest, block = sealed(path)
    assert digest == content_digest(HEADER, TABLES)
    assert block == decode_leading_block(path.read_bytes(), "cache.h5")
    behind = path.read_bytes()[512:]
    each = [hashlib.sha256(behind[at : at + (1 << 20)]).digest() for at in range(0, len(behind), 1 << 20)]
    assert block == (3, path.stat().st_size, hashlib.sha256(b"".join(each)).hexdigest(), digest)
    with h5py.File(path) as file:
        assert {name: value.decode() for name, value in file.attrs.items()} == HEADER | {"digest": digest}
        assert {name: file[name][:].tolist() for name in TABLES} == {name: t.tolist() for name, t in TABLES.items()}
        assert file["events/frames"][39, 7] == 319


def test_the_same_content_is_the_same_bytes(tmp_path):
    sealed(tmp_path / "one.h5")
    sealed(tmp_path / "other.h5")
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "other.h5").read_bytes()


def test_bytes_that_a_disk_changed_before_the_end_are_not_sealed_as_right(tmp_path):
    path = tmp_path / "cache.h5"
    frames, rows = filled(path, np.random.default_rng(0).integers(0, 256, (64, 1 << 16), np.uint8))
    frames.close()
    digest = write_tables(path, HEADER, TABLES.items())
    data = bytearray(path.read_bytes())
    data[data.index(rows[40].tobytes()) + 5] ^= 1
    path.write_bytes(data)
    block = seal(path, digest, frames.digests)
    with path.open("rb", buffering=0) as handle:
        assert PieceDigests().total(handle) != block.pieces


def test_a_sealed_file_gets_its_name_and_nothing_else_is_left(tmp_path):
    sealed(tmp_path / "cache.tmp")
    (tmp_path / "cache.h5").write_bytes(b"an older one")
    whole = (tmp_path / "cache.tmp").read_bytes()
    put_in_place(tmp_path / "cache.tmp", tmp_path / "cache.h5")
    assert {path.name: path.read_bytes() == whole for path in tmp_path.iterdir()} == {"cache.h5": True}
    with pytest.raises(CacheError, match=r"cache\.h5: cannot be written \(No such file or directory\)"):
        put_in_place(tmp_path / "cache.tmp", tmp_path / "cache.h5")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CacheError, match=r"pipe: a pipe or a device, expected a file; name another"):
        put_in_place(tmp_path / "cache.h5", tmp_path / "pipe")
