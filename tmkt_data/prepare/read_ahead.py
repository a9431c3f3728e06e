"""Read the files of a block several at a time: in one call where the system allows it, into memory that is reused."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from io import FileIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.files import OPEN_FLAGS, open_file
from tmkt_data.storage.member_files import open_member
from tmkt_data.storage.member_list import SUFFIX

WINDOW_BYTES = 1 << 22
"""Approximate bytes of a read: what stays in the processor's caches until it is decoded."""
WINDOW_FILES = 16
_IN_ONE_CALL = os.name == "posix"


class KnownFile(NamedTuple):
    """A file and its expected size."""

    path: str
    num_bytes: int


class ReadAhead:
    """Reads files ahead of their use, in their order.

    Args:
        files: The files; None is skipped.
    """

    def __init__(self, files: Sequence[KnownFile | None]) -> None:
        self._files = files
        self._room = np.empty(0, np.uint8)
        self._found: dict[int, NDArray[np.uint8]] = {}
        self._next = 0

    def bytes_of(self, at: int) -> NDArray[np.uint8] | None:
        """Return the bytes of a file.

        Args:
            at: Position of the file; not less than in the call before.

        Returns:
            Shape (N,), uint8, valid until the next call. None for a file that is skipped, cannot be read, or has
            another size than expected; `read_bytes` says what is wrong with it.
        """
        if at >= self._next:
            self._read(self._window(at))
        return self._found.get(at)

    def _window(self, first: int) -> dict[int, KnownFile]:
        window: dict[int, KnownFile] = {}
        room = WINDOW_BYTES
        for number in range(first, len(self._files)):
            file = self._files[number]
            if len(window) == WINDOW_FILES or (window and file is not None and file.num_bytes > room):
                break
            self._next = number + 1
            if file is not None:
                window[number] = file
                room -= file.num_bytes
        return window

    def _read(self, window: dict[int, KnownFile]) -> None:
        # Room for one byte more than expected shows whether a file has grown.
        start = np.cumsum([0, *(file.num_bytes + 1 for file in window.values())], dtype=np.int64)
        if start[-1] > len(self._room):
            self._room = np.empty(start[-1] + start[-1] // 4, np.uint8)
        counts = _read_files([file.path for file in window.values()], start, self._room)
        self._found = {
            number: self._room[first : first + count]
            for (number, file), first, count in zip(window.items(), start.tolist(), counts, strict=False)
            if count == file.num_bytes
        }


def first_bytes(paths: Sequence[str], limit: int) -> Iterator[NDArray[np.uint8] | None]:
    """Yield the beginning of each file.

    Args:
        paths: The files.
        limit: Most bytes of a file.

    Yields:
        Shape (N,), uint8, N at most `limit`; valid until the next one. None for a file that cannot be read.
    """
    room = np.empty(WINDOW_FILES * limit, np.uint8)
    start = np.arange(WINDOW_FILES + 1, dtype=np.int64) * limit
    for first in range(0, len(paths), WINDOW_FILES):
        some = list(paths[first : first + WINDOW_FILES])
        for at, count in enumerate(_read_files(some, start[: len(some) + 1], room)):
            yield None if count < 0 else room[at * limit :][:count]


def _read_files(paths: list[str], start: NDArray[np.int64], room: NDArray[np.uint8]) -> list[int]:
    """Read each file, up to the room for it; return the number of bytes read, or -1 where it cannot be read."""
    if not _IN_ONE_CALL or any(SUFFIX in path for path in paths):
        return [_read_file(path, room[first:end]) for path, first, end in zip(paths, start, start[1:], strict=False)]
    from tmkt_data.kernels.read_files import read_files

    # A name cannot hold a zero byte: such a file is given an empty name, which no file has.
    names = [b"\0" if "\0" in path else os.fsencode(path) + b"\0" for path in paths]
    name_start = np.cumsum([0, *map(len, names)], dtype=np.int64)[:-1]
    counts = np.empty(len(paths), np.int64)
    read_files(np.frombuffer(b"".join(names), np.uint8), name_start, OPEN_FLAGS, start, room, counts)
    return counts.tolist()


def _read_file(path: str, room: NDArray[np.uint8]) -> int:
    try:
        member = open_member(path)
        if member is not None:
            return member.readinto(room.data)
        with FileIO(path, "rb", opener=open_file) as file:
            return file.readinto(room.data)
    except (OSError, ValueError):
        return -1
