"""The one way in which a file is put in place: written beside it, then renamed, so that it is whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


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
