"""Locks that keep processes from writing the same file or folder at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tmkt_data.errors import NO_FLOCK, TmktError, write_failure

if TYPE_CHECKING:
    from filelock import BaseFileLock


@contextmanager
def lock(path: Path, refusal: TmktError, *, wait_s: float = 0) -> Iterator[None]:
    """Hold a lock file while the block runs; whoever else asks for it meanwhile is refused.

    The lock ends with the process that holds it. Where the file system has no locks, a marker file with host and
    process id takes their place: one that a killed process left is ignored on the same host, elsewhere it has to be
    removed by hand.

    Args:
        path: The lock file; its folder is made where it is missing. The holder removes the file.
        refusal: Raised where another process, or another part of this one, holds the lock.
        wait_s: How long to wait for its holder, in seconds; by default not at all.

    Raises:
        TmktError: `refusal`, or another error of its class where the lock file cannot be made.
    """
    try:
        held = _acquire(path, refusal, wait_s)
    except OSError as broken:
        raise type(refusal)(write_failure(path, broken)) from broken
    try:
        yield
    finally:
        # Removed while it is held: nobody else holds this file, and filelock takes no lock on a removed one.
        with suppress(OSError):
            path.unlink()
        held.release()


def _acquire(path: Path, refusal: TmktError, wait_s: float) -> BaseFileLock:
    # Imported late: this takes a tenth of a second.
    from filelock import FileLock, SoftFileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held: BaseFileLock = FileLock(path, thread_local=False, fallback_to_soft=False)
        held.acquire(timeout=wait_s)
    except Timeout as busy:
        _require_held(path)
        raise refusal from busy
    except OSError as broken:
        if broken.errno not in NO_FLOCK:
            raise
        held = SoftFileLock(path.with_name(f"{path.name}.soft"), thread_local=False)
        try:
            held.acquire(timeout=wait_s)
        except Timeout as busy:
            raise type(refusal)(f"{refusal} (if there is none, remove {held.lock_file})") from busy
    return held


def _require_held(path: Path) -> None:
    """Check that somebody holds a lock file: filelock takes a system that allows no lock for one that is held.

    Raises:
        OSError: The system refuses the lock.
    """
    with suppress(ImportError, FileNotFoundError, BlockingIOError):
        import fcntl

        # Network file systems lock only what may be written.
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked_folder(folder: Path, lock_name: str, subfolders: Iterable[str] = ()) -> Iterator[None]:
    """Make a folder and its subfolders, and keep other processes from writing the same dataset into it meanwhile.

    Raises:
        TmktError: The folder cannot be written, or another process is writing there.
    """
    try:
        for made in (folder, *(folder / name for name in subfolders)):
            made.mkdir(parents=True, exist_ok=True)
    except OSError as broken:
        raise TmktError(write_failure(folder, broken)) from broken
    busy = TmktError(f"{folder}: another process is writing this dataset; wait for it to end")
    with lock(folder / lock_name, busy):
        yield
