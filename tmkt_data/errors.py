"""Exceptions of tmkt; each message is one line, *place: found, expected; what to do*. And warnings of libraries."""

from __future__ import annotations

import errno
import threading
import warnings
from pathlib import Path
from types import TracebackType

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors of a full disk."""
NO_FLOCK = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""Numbers of the errors of a file system without locks."""


def printable(text: str) -> str:
    r"""Return a text as one line, with unprintable characters escaped.

    Example:
        >>> printable("name\nerror: forged\x1b[2J")
        'name\\nerror: forged\\x1b[2J'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def counted(num: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural.

    Example:
        >>> counted(1, "file"), counted(2, "class")
        ('1 file', '2 classes')
    """
    plural = "es" if noun.endswith("s") else "s"
    return f"{num} {noun}{plural if num != 1 else ''}"


def as_argument(path: object) -> str:
    """Return a path as a word of a command line, where a leading dash would begin an option.

    Example:
        >>> as_argument("-a b.h5"), as_argument("a b.h5")
        ('./-a b.h5', 'a b.h5')
    """
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def write_failure(path: Path, broken: OSError) -> str:
    """Say in one line why a file or folder cannot be written, and what to do."""
    advice = "free some space and run it again" if broken.errno in NO_SPACE else "check its folder or name another"
    return f"{path}: cannot be written ({broken.strerror or broken}); {advice}"


class TmktError(Exception):
    """Base class for errors that users can fix. The command line prints one line and exits with code 1."""


class SpecError(TmktError):
    """An invalid option, value or combination of options."""


class EventError(TmktError):
    """A recording cannot be decoded, or events do not fit their target format."""


class ImageError(TmktError):
    """An image cannot be read."""


class CatalogueError(TmktError):
    """A dataset folder is missing, incomplete or has an unexpected layout."""


class CacheError(TmktError):
    """A cache is missing, truncated, modified, of another version, or lacks the requested data."""


class ClusterError(TmktError):
    """A scheduler or a worker of a cluster is missing, is another one than expected, or failed."""


class StoreError(TmktError):
    """An object store cannot be reached, refuses access, or holds another object than expected."""


class PairingError(TmktError):
    """A recording has no image to be paired with."""


class _IgnoredWarnings:
    """Ignores warnings while any thread is inside, as `warnings.catch_warnings` does for one thread alone.

    That one restores the filters that it found: of two threads, the first to leave lets the warnings of the other
    through, and the last one restores filters that ignore everything from then on.
    """

    def __init__(self) -> None:
        self._lock, self._num_inside = threading.Lock(), 0
        self._caught: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._caught is None:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._num_inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside and self._caught is not None:
                self._caught.__exit__(kind, error, at)
                self._caught = None


warnings_ignored = _IgnoredWarnings()
"""Context in which libraries warn of nothing: what is wrong with a file is said in an error."""
