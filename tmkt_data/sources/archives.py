"""Unpack untrusted zip and tar archives: no path leaves the target, and size limits hold."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import IO

from tmkt_data.errors import CatalogueError
from tmkt_data.sources.archive_members import CHUNK, DAMAGE, ArchiveLimits, Budget, archive_members, safe_name
from tmkt_data.sources.unpacked import complete, unpacking

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
Check = Callable[[Path, Path], object]


def is_archive(path: PurePath) -> bool:
    """Return whether a file name is that of a zip or tar archive."""
    return path.name.lower().endswith(SUFFIXES)


def unpack_archives(
    archives: Mapping[Path, str], target: Path, limits: ArchiveLimits | None = None, check: Check = lambda *_: None
) -> Iterator[int]:
    """Unpack archives atomically: the target folder appears only once it is complete.

    Nested archives are unpacked in place, one level deep, as needed for N-Caltech101 and Caltech-101.

    Args:
        archives: Zip or tar files (optionally gzip, bzip2 or xz), each with the folder below the target that it is
            unpacked into; `"."` for the target itself.
        target: Folder to create. An existing one is left unchanged.
        limits: Limits for each archive; None for the defaults.
        check: Called with an archive and each nested archive before that is unpacked; raises CatalogueError to
            refuse it.

    Yields:
        Members written so far.

    Raises:
        CatalogueError: The archive is invalid, damaged or encrypted; a member is duplicate, unsafe, a link or a device;
            the limits are exceeded; or the disk is full. Nothing is left behind.
    """
    if target.is_dir():
        return
    archive = next(iter(archives))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with unpacking(target) as partial:
            if target.is_dir():
                # Another process was faster.
                return
            done = 0
            for archive, folder in archives.items():
                for _ in _unpack(archive, partial / folder, Budget(archive, limits or ArchiveLimits()), check):
                    done += 1
                    yield done
            complete(partial, target)
    except OSError as broken:
        raise unpack_failure(archive, target, broken) from broken


def unpack_failure(archive: Path, target: Path, broken: OSError) -> CatalogueError:
    """Build the error for an archive whose reading or unpacking failed in the system."""
    if broken.errno == errno.ENOSPC:
        return CatalogueError(f"{target.parent}: no space left to unpack {archive.name}; free some and run it again")
    place = archive if broken.filename in (None, str(archive)) else target.parent
    return CatalogueError(f"{place}: cannot be unpacked ({broken.strerror or broken}); check it and its folder")


def _unpack(archive: Path, folder: Path, budget: Budget, check: Check | None) -> Iterator[int]:
    """Unpack an archive, and nested ones unless `check` is None."""
    inner: list[Path] = []
    try:
        for member in archive_members(archive, budget):
            path = folder / safe_name(member.name, archive.name)
            _write(member.stream, path, archive.name, budget)
            if check is not None and is_archive(path):
                inner.append(path)
            yield 1
    except DAMAGE as broken:
        raise damaged_archive(archive, broken) from None
    for path in inner:
        if check is not None:
            check(archive, path)
        yield from _unpack(path, path.parent, budget, None)
        path.unlink()


def _write(stream: IO[bytes], path: Path, archive: str, budget: Budget) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise member_below_file(archive, path.name) from None
    if path.exists():
        raise duplicate_member(archive, path.name)
    with path.open("xb") as out:
        while chunk := stream.read(CHUNK):
            budget.spend(len(chunk))
            out.write(chunk)


def damaged_archive(archive: Path, broken: Exception) -> CatalogueError:
    """Build the error for an archive that one of `DAMAGE` was raised for."""
    reason = (str(broken).splitlines() or [type(broken).__name__])[0][:100]
    return CatalogueError(f"{archive.name}: cannot be unpacked ({reason}); it is damaged, fetch it again")


def duplicate_member(archive: str, name: str) -> CatalogueError:
    """Build the error for a member whose name another one has."""
    return CatalogueError(f"{archive}: duplicate member {PurePath(name).name!r}; it is damaged, fetch it again")


def member_below_file(archive: str, name: str) -> CatalogueError:
    """Build the error for a member in a folder that is a file."""
    named = PurePath(name).name
    return CatalogueError(f"{archive}: {named!r} lies below a member that is a file; it is damaged, fetch it again")
