"""A lock on a file that ends with the process that holds it, however it ends."""

from __future__ import annotations

from pathlib import Path
from typing import IO


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
