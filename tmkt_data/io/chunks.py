"""The bytes of large files, a little at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tmkt_data.errors import EventError


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
