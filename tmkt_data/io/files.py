"""Whole files in and out: what goes wrong is one line, and what is written appears whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO

from tmkt_data.errors import EventError, TmktError
from tmkt_data.locks import FileLock
from tmkt_data.whole_files import whole_file

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
