"""Folders that archives were unpacked into: whoever reads one keeps it, and it holds what was unpacked."""

from __future__ import annotations

import ctypes
import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tmkt_data.datasets.catalogue import some
from tmkt_data.errors import CatalogueError
from tmkt_data.files import read_bytes, sync_folder, write_bytes
from tmkt_data.locks import lock

WAIT_S = 10.0
"""For others that only look whether the folder is there."""


@contextmanager
def unpacking(target: Path) -> Iterator[Path]:
    """Hold the lock of a folder that is unpacked, and give the folder to unpack into.

    Whoever does not hold this lock neither writes into one of the two folders nor removes it.

    Args:
        target: Name of the unpacked folder.

    Yields:
        An empty folder, removed after the block unless it was given its final name by `complete`.

    Raises:
        CatalogueError: Another process is unpacking there.
    """
    partial = target.with_name(f".{target.name}.partial")
    with lock(_gate(target), _busy(target)):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def complete(partial: Path, target: Path) -> None:
    """Record the files of an unpacked folder and give it its final name; for the holder of the lock of `unpacking`.

    Raises:
        CatalogueError: The record cannot be written.
        OSError: The files cannot be forced to disk.
    """
    if os.name == "posix":
        _sync(partial)
    # Written before the renaming: a folder with a record is whole.
    write_bytes(_record(target), json.dumps(_sizes(partial)).encode(), error=CatalogueError)
    partial.rename(target)
    sync_folder(target.parent)


@contextmanager
def in_use(target: Path) -> Iterator[None]:
    """Keep other processes from removing an unpacked folder while the block runs; any number may use it at once.

    Raises:
        CatalogueError: The folder is gone, or is being unpacked again.
    """
    with ExitStack() as held:
        if _is_writable(target):
            mine = target.with_name(f".{target.name}.{os.urandom(4).hex()}.use")
            with lock(_gate(target), _busy(target), wait_s=WAIT_S):
                if not target.is_dir():
                    raise CatalogueError(f"{target}: another process removed this folder just now; run it again")
                # Killed processes leave theirs.
                for other in _uses(target):
                    _is_held(other)
                held.enter_context(lock(mine, _busy(target)))
        yield


def is_recorded(target: Path) -> bool:
    """Return whether it is known what a folder held when it was unpacked.

    Where it is not, an earlier version unpacked it, and two processes at once could lose files of it. Folders that
    cannot be unpacked again, since they lie where this user may not write, are taken as they are.
    """
    return _record(target).is_file() or not _is_writable(target)


def require_whole(target: Path) -> None:
    """Check that every file is there with the size that it had when it was unpacked; others may have been added.

    Raises:
        CatalogueError: Files are gone or have another size.
    """
    record = _record(target)
    if not record.is_file():
        return
    try:
        expected: dict[str, int] = json.loads(read_bytes(record, error=CatalogueError))
        found = _sizes(target)
    except ValueError:
        raise CatalogueError(f"{record}: found no JSON; it is damaged, remove it and run it again") from None
    except OSError as gone:
        raise CatalogueError(f"{target}: cannot be searched ({gone.strerror or gone}); run it again") from gone
    lost = [name for name, size in expected.items() if found.get(name) != size]
    if lost:
        raise CatalogueError(
            f"{target}: {len(lost)} of {len(expected)} unpacked files are gone or have another size "
            f"({some(sorted(lost))}); remove the folder and run it again"
        )


def remove_unused(target: Path) -> bool:
    """Remove an unpacked folder unless a process is using or unpacking it; return whether it is gone."""
    try:
        with unpacking(target) as partial:
            if any(map(_is_held, _uses(target))):
                return False
            _record(target).unlink(missing_ok=True)
            # Renamed at once: a process that is killed here leaves no folder that looks whole.
            partial.rmdir()
            target.rename(partial)
    except (CatalogueError, OSError):
        return False
    return True


def _uses(target: Path) -> list[Path]:
    return list(target.parent.glob(f".{glob.escape(target.name)}.*.use"))


def _is_held(path: Path) -> bool:
    try:
        # A file that a killed process left is removed by taking its lock.
        with lock(path, CatalogueError(f"{path}: in use")):
            return False
    except CatalogueError:
        return True


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of each file below a folder, by its path in it, without those whose name begins with a dot."""
    sizes: dict[str, int] = {}
    level = [(os.fspath(folder), "")]
    while level:
        place, prefix = level.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    level.append((entry.path, f"{prefix}{entry.name}/"))
                elif not entry.name.startswith("."):
                    sizes[prefix + entry.name] = entry.stat(follow_symlinks=False).st_size
    return sizes


def _sync(folder: Path) -> None:
    """Force all below a folder to disk, and nothing elsewhere: `os.sync` waits for every file system of the machine.

    Where a network file system hangs, that would be forever.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        sync_all = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if sync_all is not None and sync_all(handle) == 0:
            return
        if sync_all is not None and ctypes.get_errno() != errno.ENOSYS:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(handle)
    for place, _, names in os.walk(folder):
        for name in names:
            with Path(place, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(place))


def _busy(target: Path) -> CatalogueError:
    return CatalogueError(f"{target}: another process is unpacking there; wait for it to end")


def _gate(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.files.json")


def _is_writable(target: Path) -> bool:
    return os.access(target.parent, os.W_OK)
