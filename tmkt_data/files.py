"""Whole files in and out: what goes wrong is one line, and what is written appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any

import xxhash

from tmkt_data.errors import EventError, TmktError

OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe without O_NONBLOCK waits for a writer."""


def read_bytes(path: str | Path, *, limit: int = -1, error: type[TmktError] = EventError) -> bytes:
    """Read a whole file, or its first `limit` bytes.

    Raises:
        TmktError: Of class `error`: the file is missing, a folder, a pipe or a device, or cannot be read.
    """
    with opened(path, error) as file:
        return file.read(limit)


def open_file(path: str | Path, _: int = 0) -> int:
    """Open a file to be read, as the `opener` of `FileIO`; a pipe is opened without waiting for its writer."""
    return os.open(path, OPEN_FLAGS)


@contextmanager
def opened(path: str | Path, error: type[TmktError]) -> Iterator[FileIO]:
    """Open a regular file to be read; what goes wrong with it, there and in the block, is one line.

    Raises:
        TmktError: As `read_bytes`.
    """
    try:
        # One look at the open file, and no buffer between: this is done for every file of a dataset.
        with FileIO(path, "rb", opener=open_file) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise error(f"{path}: a pipe or a device, expected a file; copy what it gives into one")
            yield file
    except FileNotFoundError as missing:
        raise error(f"{path}: no such file; check the path") from missing
    except IsADirectoryError as folder:
        raise error(f"{path}: a folder, expected a file; name one file in it") from folder
    except OSError as broken:
        raise error(f"{path}: cannot be read ({broken.strerror or broken})") from broken
    except ValueError as impossible:
        raise error(f"{str(path)!r}: no possible file name ({impossible})") from impossible


@contextmanager
def writing_alone(folder: Path, lock_name: str, inside: Iterable[str] = ()) -> Iterator[None]:
    """Make a folder with folders in it, and keep other processes from writing the same set into it meanwhile.

    Raises:
        TmktError: The folder cannot be written, or another process is writing there.
    """
    lock = FileLock(folder / lock_name)
    try:
        for made in (folder, *(folder / name for name in inside)):
            made.mkdir(parents=True, exist_ok=True)
        acquired = lock.acquire()
    except OSError as broken:
        raise TmktError(f"{folder}: cannot be written ({broken.strerror or broken}); name another folder") from broken
    if not acquired:
        raise TmktError(f"{folder}: another process is writing this set; wait for it to end")
    try:
        yield
    finally:
        lock.release()


def replace_file(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it when it is whole.

    Raises:
        TmktError: The disk is full or the folder cannot be written; an earlier file of that name is untouched.
    """
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give what is to be written to; it takes the name of `path` when the block has ended; errors as `replace_file`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with whole_file(path, via=temporary) as file:
            yield file
    except OSError as broken:
        raise TmktError(f"{path}: cannot be written ({broken.strerror or broken}); nothing was changed") from broken


class FileLock:
    """An advisory lock against a second process; on Windows it always succeeds, and two processes do the work twice.

    Attributes:
        path: The lock file; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: IO[str] | None = None

    def acquire(self) -> bool:
        """Take the lock; return False where another process holds it.

        Raises:
            OSError: The file cannot be made.
        """
        handle = self.path.open("a+")
        if not _lock(handle):
            handle.close()
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Give the lock back; nothing happens where it is not held."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def _lock(handle: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def put_file(path: Path, data: bytes | memoryview, *, via: Path, durable: bool = True) -> None:
    """Write a file under another name and rename it when it is whole.

    Args:
        path: Where it shall be; what was there before stays until the last moment.
        data: Its content.
        via: The other name, in the same folder; removed where writing fails.
        durable: Force the content to disk before the renaming, against a loss of power.

    Raises:
        OSError: It cannot be written; `path` is untouched.
    """
    with whole_file(path, via=via, durable=durable) as handle:
        handle.write(data)


@contextlib.contextmanager
def whole_file(path: Path, *, via: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """Give what is to be written to, under another name; rename it when the block has ended.

    Args:
        path: As in `put_file`.
        via: As in `put_file`; removed where the block or the renaming fails.
        durable: As in `put_file`.

    Raises:
        OSError: It cannot be written; `path` is untouched.
    """
    try:
        with via.open("w+b") as handle:
            yield handle
            if durable:
                handle.flush()
                os.fsync(handle.fileno())
        via.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            via.unlink()
        raise


def checksum(data: Any) -> int:
    """Return the XXH3-64 of some bytes, 0 to 2**64 - 1.

    It tells damaged and edited bytes from whole ones; against forgery it is no protection.

    Args:
        data: Bytes, or a contiguous array, whose bytes are taken in C order.

    Example:
        >>> f"{checksum(b'events'):016x}"
        '61f51ddbc751e8af'

    Source: https://github.com/Cyan4973/xxHash
    """
    return xxhash.xxh3_64_intdigest(data)


def checksum_of_pieces(pieces: Iterable[bytes]) -> int:
    """Return the checksum of bytes that come in pieces; the same as of all at once."""
    running = xxhash.xxh3_64()
    for piece in pieces:
        running.update(piece)
    return running.intdigest()


def read_chunks(path: Path, start: int, step: int, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` on, in whole steps but for the last; no bytes at all where there are none.

    Raises:
        EventError: The file cannot be read.
    """
    length = max(step, chunk_bytes - chunk_bytes % step)
    try:
        with path.open("rb") as file:
            file.seek(start)
            yield file.read(length)
            while chunk := file.read(length):
                yield chunk
    except OSError as broken:
        raise EventError(f"{path}: cannot be read ({broken.strerror or broken})") from broken
