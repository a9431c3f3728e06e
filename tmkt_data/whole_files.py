"""The one way in which a file is put in place: written beside it, then renamed, so that it is whole or not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
    try:
        with via.open("wb") as handle:
            handle.write(data)
            if durable:
                handle.flush()
                os.fsync(handle.fileno())
        via.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            via.unlink()
        raise
