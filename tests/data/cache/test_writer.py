from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import time
from pathlib import Path

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
    sync = os.fsync

    def full(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

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


def failing_once(monkeypatch) -> None:
    """Let the next `os.fsync` fail, which the system says once."""
    sync, failures = os.fsync, [OSError(errno.EIO, "Input/output error")]

    def fsync(handle: int) -> None:
        if failures:
            raise failures.pop()
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_flush_that_could_not_write_is_said_by_the_next_one(tmp_path, monkeypatch):
    frames = FramesFile(tmp_path / "frames.h5", [ARRAY])
    failing_once(monkeypatch)

    def flush_again_and_again() -> None:
        for _ in range(500):
            frames.flush()
            time.sleep(0.01)

    with pytest.raises(CacheError, match=r"frames\.h5: .*Input/output error"):
        flush_again_and_again()
    frames.close()


def test_closing_waits_for_a_flush(tmp_path, monkeypatch):
    frames, ended = FramesFile(tmp_path / "frames.h5", [ARRAY]), []

    def slow(handle: int) -> None:
        time.sleep(0.2)
        ended.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", slow)
    frames.flush()
    frames.close()
    assert ended == [(tmp_path / "frames.h5").stat().st_size]


def test_a_file_that_another_process_has_locked_is_opened(tmp_path):
    # Locks of HDF5 are left out: some file systems have none.
    filled(tmp_path / "frames.h5")[0].close()
    with (tmp_path / "frames.h5").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        frames = FramesFile(tmp_path / "frames.h5", [FrameArray("events/frames", (40, 8), np.dtype("<f2"))])
        rows = frames.read("events/frames", 0, 40)
        frames.close()
    assert rows[39, 7] == 319


def test_an_array_that_is_not_found_under_its_name_is_refused(tmp_path):
    # HDF5 takes two slashes for one.
    array = FrameArray("events//frames", (3, 4), np.dtype("u1"))
    with pytest.raises(CacheError, match=r"frames\.h5: does not hold what was just written to it; give another --out$"):
        FramesFile(tmp_path / "frames.h5", [array])


def test_space_is_allocated_at_once_and_no_zeros_are_written(tmp_path):
    shapes = {"events/frames": (3, 4), "images/frames": (1, 4)}
    frames = FramesFile(tmp_path / "frames.h5", [FrameArray(name, shapes[name], np.dtype("u1")) for name in shapes])
    frames.write("images/frames", 0, np.full((1, 4), 7, "u1"))
    frames.close()
    with h5py.File(tmp_path / "frames.h5") as file:
        for name, shape in shapes.items():
            choices = file[name].id.get_create_plist()
            assert choices.get_layout() == h5py.h5d.CONTIGUOUS
            assert choices.get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY
            assert choices.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
            assert file[name].id.get_storage_size() == shape[0] * shape[1]
        assert file["images/frames"][:].tolist() == [[7] * 4]


def test_arrays_without_cells_are_copied(tmp_path):
    arrays = [FrameArray("events/frames", (3, 0), np.dtype("u1")), FrameArray("images/frames", (2, 3), np.dtype("u1"))]
    one, two = (FramesFile(tmp_path / name, arrays) for name in ("one.h5", "two.h5"))
    one.write("images/frames", 0, np.ones((2, 3), "u1"))
    two.copy_from(one.path)
    two.copy_rows("events/frames", one, np.ones(3, bool))
    assert two.read("images/frames", 0, 2).all()
    assert two.read("events/frames", 0, 3).shape == (3, 0)
    for opened in (one, two):
        opened.close()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((20, 1 << 20), [(0, 8), (8, 8), (16, 4)]),
        ((3, 1 << 24), [(0, 1), (1, 1), (2, 1)]),
        ((3 << 22, 1), [(0, 1 << 23), (1 << 23, 1 << 22)]),
    ],
)
def test_eight_mebibytes_are_copied_at_a_time(shape, expected):
    assert list(writer._pieces(FrameArray("events/frames", shape, np.dtype("u1")))) == expected


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
    # HDF5 would write the second in which an array was created.
    time.sleep(1.01)
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


def synced(monkeypatch) -> list[bytes | list[str]]:
    """Record what `os.fsync` forces to disk: the begin of a file, or the names in a folder."""
    sync, found = os.fsync, []

    def fsync(handle: int) -> None:
        sync(handle)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            found.append(Path(f"/proc/self/fd/{handle}").read_bytes()[:512])
        else:
            found.append(sorted(os.listdir(handle)))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_new_file_is_on_disk_under_its_name(tmp_path, monkeypatch):
    found = synced(monkeypatch)
    FramesFile(tmp_path / "frames.h5", [ARRAY]).close()
    assert found == [(tmp_path / "frames.h5").read_bytes()[:512], ["frames.h5"]]


def test_the_leading_block_is_on_disk_when_a_file_is_sealed_and_its_name_when_it_is_in_place(tmp_path, monkeypatch):
    frames, _ = filled(tmp_path / "cache.tmp")
    frames.close()
    digest = write_tables(tmp_path / "cache.tmp", HEADER, TABLES.items())
    found = synced(monkeypatch)
    seal(tmp_path / "cache.tmp", digest, frames.digests)
    assert found[0] == bytes(512)
    assert found[1:] == [(tmp_path / "cache.tmp").read_bytes()[:512]] != [bytes(512)]
    put_in_place(tmp_path / "cache.tmp", tmp_path / "cache.h5")
    assert found[2:] == [["cache.h5"]]


def test_a_flush_that_fails_while_a_file_is_sealed_is_said(tmp_path, monkeypatch):
    frames, _ = filled(tmp_path / "cache.tmp")
    frames.close()
    digest = write_tables(tmp_path / "cache.tmp", HEADER, TABLES.items())
    failing_once(monkeypatch)
    with pytest.raises(CacheError, match=r"cache\.tmp: .*Input/output error"):
        seal(tmp_path / "cache.tmp", digest, frames.digests)


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
