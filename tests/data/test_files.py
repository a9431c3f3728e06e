"""Files are written whole or not at all, by one process at a time, and hashed as the libraries hash them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import xxhash

from tmkt_data import files
from tmkt_data.errors import CacheError, TmktError
from tmkt_data.files import (
    atomic_write,
    checksum,
    decode_text,
    file_digest,
    is_refused,
    open_hdf5,
    read_bytes,
    sync_folder,
    write_bytes,
)

NO_FLOCK = [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestAtomicWrite:
    @pytest.mark.parametrize("sync", ["nothing", "content", "name"])
    def test_a_file_is_replaced_and_nothing_left_beside_it(self, tmp_path, sync):
        path = tmp_path / "a.bin"
        write_bytes(path, b"old", sync=sync)
        with atomic_write(path, sync=sync) as file:
            file.write(b"new")
            assert path.read_bytes() == b"old"
            assert len(names(tmp_path)) == 2
        assert path.read_bytes() == b"new"
        assert names(tmp_path) == ["a.bin"]

    def test_a_block_that_raises_changes_nothing(self, tmp_path):
        path = tmp_path / "a.bin"
        write_bytes(path, b"old")
        with pytest.raises(TypeError), atomic_write(path) as file:
            file.write(b"new" + path)
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["a.bin"]

    @pytest.mark.parametrize("sync", ["content", "name"])
    def test_a_disk_that_fails_is_one_line_and_changes_nothing(self, tmp_path, monkeypatch, sync):
        path = tmp_path / "a.bin"
        write_bytes(path, b"old")

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(CacheError) as caught:
            write_bytes(path, b"new", sync=sync, error=CacheError)
        assert str(caught.value) == (
            f"{path}: cannot be written (No space left on device); free some space and run it again, "
            "what was there before is kept"
        )
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["a.bin"]

    def test_a_folder_that_cannot_be_forced_to_disk_is_no_error(self, tmp_path, monkeypatch):
        real = os.fsync

        def refuse(handle: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112
                raise OSError(errno.EINVAL, "Invalid argument")
            real(handle)

        monkeypatch.setattr(os, "fsync", refuse)
        write_bytes(tmp_path / "a", b"new", sync="name")
        assert (tmp_path / "a").read_bytes() == b"new"

    def test_a_missing_folder_is_one_line(self, tmp_path):
        with pytest.raises(TmktError, match=r"b: cannot be written \(No such file or directory\); check its folder"):
            write_bytes(tmp_path / "a" / "b", b"")

    def test_several_writers_of_one_file_leave_that_of_one(self, tmp_path):
        contents = [bytes([number]) * 100_000 for number in range(8)]
        path = tmp_path / "a.bin"
        with multiprocessing.get_context("fork").Pool(4) as pool:
            pool.starmap(write_bytes, [(path, content) for content in contents])
        assert path.read_bytes() in contents
        assert names(tmp_path) == ["a.bin"]


class TestDigests:
    @pytest.mark.parametrize("size", [0, 1, 300_000])
    def test_a_file_is_hashed_as_its_bytes(self, tmp_path, size):
        data = os.urandom(size)
        (tmp_path / "a").write_bytes(data)
        digests = {name: file_digest(tmp_path / "a", name, error=TmktError) for name in ("md5", "sha256", "xxh3")}
        assert digests["md5"] == hashlib.md5(data, usedforsecurity=False).hexdigest()
        assert digests["sha256"] == hashlib.sha256(data).hexdigest()
        assert digests["xxh3"] == xxhash.xxh3_64(data).hexdigest()
        assert int(digests["xxh3"], 16) == checksum(data)

    def test_a_missing_file_is_one_line(self, tmp_path):
        with pytest.raises(CacheError, match="none: no such file; check the path"):
            file_digest(tmp_path / "none", "sha256", error=CacheError)


class TestRefusals:
    def test_a_pipe_or_a_device_is_not_replaced(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("/dev/null")
        for name in ("pipe", "link"):
            with pytest.raises(CacheError, match=f"{name}: a pipe or a device, expected a file; name another"):
                write_bytes(tmp_path / name, b"new", error=CacheError)
        assert names(tmp_path) == ["link", "pipe"]
        assert (tmp_path / "pipe").is_fifo()
        assert (tmp_path / "link").is_char_device()

    def test_what_the_system_refuses_is_told_from_what_a_file_holds(self):
        numbers = (errno.EAGAIN, errno.EIO, errno.EMFILE, errno.ENOTCONN, errno.EHOSTUNREACH, *NO_FLOCK)
        assert all(is_refused(OSError(number, "")) for number in numbers)
        assert not any(map(is_refused, (OSError("damaged"), OSError(errno.EINVAL, ""), ValueError())))


class TestTemporaries:
    def test_what_a_killed_writer_left_is_taken_by_the_next_one(self, tmp_path):
        code = (
            "import os, signal, sys\nfrom pathlib import Path\nfrom tmkt_data.files import atomic_write\n"
            "with atomic_write(Path(sys.argv[1])) as file:\n"
            "    file.write(bytes(100_000))\n    file.flush()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        for _ in range(2):
            subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.bin")], check=False)
            assert names(tmp_path) == [".a.bin.tmp"]
        write_bytes(tmp_path / "a.bin", b"new")
        assert names(tmp_path) == ["a.bin"]
        assert (tmp_path / "a.bin").read_bytes() == b"new"

    def test_that_of_a_living_writer_is_left_to_it(self, tmp_path):
        path = tmp_path / "a.bin"
        with atomic_write(path) as one:
            one.write(b"one")
            with atomic_write(path) as other:
                other.write(b"other")
            assert path.read_bytes() == b"other"
        assert path.read_bytes() == b"one"
        assert names(tmp_path) == ["a.bin"]

    @pytest.mark.parametrize("number", NO_FLOCK)
    def test_where_nothing_can_be_locked_nothing_is_left(self, tmp_path, monkeypatch, number):
        def missing(*_: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", missing)
        write_bytes(tmp_path / "a.bin", b"new")
        assert names(tmp_path) == ["a.bin"]

    def test_a_link_of_that_name_is_not_followed(self, tmp_path):
        (tmp_path / "other").write_bytes(b"mine")
        (tmp_path / ".a.bin.tmp").symlink_to("other")
        with pytest.raises(TmktError, match="cannot be written"):
            write_bytes(tmp_path / "a.bin", b"new")
        assert (tmp_path / "other").read_bytes() == b"mine"

    def test_a_disk_that_gives_back_other_bytes_is_one_line(self, tmp_path, monkeypatch):
        class Rotten(io.FileIO):
            def read(self, size: int = -1) -> bytes:
                return super().read(size)[::-1]

        monkeypatch.setattr(files, "FileIO", Rotten)
        with pytest.raises(CacheError, match=r"a\.bin: does not hold what was just written to it; check the disk"):
            write_bytes(tmp_path / "a.bin", b"new", error=CacheError)
        assert names(tmp_path) == []


def test_a_refusal_is_found_among_the_causes_of_an_error():
    refused = CacheError("damaged")
    refused.__cause__ = OSError(errno.EMFILE, "Too many open files")
    outer = CacheError("outer")
    outer.__context__ = refused
    assert is_refused(outer)
    assert not is_refused(CacheError("damaged"))


def test_a_temporary_of_another_writer_survives_a_folder_that_cannot_be_synced(tmp_path, monkeypatch):
    other = tmp_path / ".a.bin.tmp"

    def broken(_: Path) -> None:
        other.write_bytes(b"of another")
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "sync_folder", broken)
    with pytest.raises(TmktError, match="cannot be written"):
        write_bytes(tmp_path / "a.bin", b"new", sync="name")
    assert other.read_bytes() == b"of another"


class TestReadBytes:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("none", "none: no such file; check the path"),
            ("folder", "folder: a folder, expected a file; name one file in it"),
            ("file/below", "cannot be read \\(Not a directory\\)"),
            ("null", "null: a pipe or a device, expected a file; copy what it gives into one"),
            ("a\0b", r"'.*a\\x00b': not a valid file name \(embedded null byte\)"),
        ],
    )
    def test_what_is_no_file_is_one_line(self, tmp_path, name, text):
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").touch()
        (tmp_path / "null").symlink_to(os.devnull)
        with pytest.raises(CacheError, match=text):
            read_bytes(tmp_path / name, error=CacheError)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
    def test_text_is_decoded_by_its_mark(self, encoding):
        mark = "\ufeff" if encoding == "utf-16-be" else ""
        assert decode_text(f"{mark}caf\u00e9".encode(encoding)) == "caf\u00e9"


def test_a_folder_in_the_place_of_the_temporary_file_is_left_alone(tmp_path):
    (tmp_path / ".a.tmp").mkdir()
    write_bytes(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.tmp", "a"]


def test_a_temporary_file_that_another_writer_began_just_now_is_left_to_it(tmp_path, monkeypatch):
    real, temporary = fcntl.flock, tmp_path / ".a.tmp"

    def flock(handle: int, operation: int) -> None:
        # Between opening and locking: another writer renames what was opened, and a third one begins.
        monkeypatch.setattr(fcntl, "flock", real)
        temporary.replace(tmp_path / "a")
        temporary.write_bytes(b"of a third writer")
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    write_bytes(tmp_path / "a", b"ours")
    assert (tmp_path / "a").read_bytes() == b"ours"
    assert temporary.read_bytes() == b"of a third writer"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("refused", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_syncs_no_folders_is_not_a_broken_disk(tmp_path, monkeypatch, refused):
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    number = refused
    sync_folder(tmp_path)
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)


def test_a_locked_hdf5_file_is_read_and_another_error_is_raised(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1, 2]
    with (tmp_path / "a.h5").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="lock"):
            h5py.File(tmp_path / "a.h5", "r")
        with open_hdf5(h5py.File, tmp_path / "a.h5") as file:
            assert file["x"][:].tolist() == [1, 2]
    (tmp_path / "b.h5").write_bytes(b"no HDF5")
    with pytest.raises(OSError, match="signature"):
        open_hdf5(h5py.File, tmp_path / "b.h5")
