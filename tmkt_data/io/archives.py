"""Zip and tar archives, unpacked without trust: no path leaves the target, and no more comes out than fits."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tmkt_data.errors import CatalogueError
from tmkt_data.locks import FileLock

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_CHUNK = 1 << 20
_ENCRYPTED = 0x1
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError),
    *(RuntimeError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, struct.error),
)
"""What the standard library raises on archives that are none, are cut off, or use what it does not know."""


class ArchiveLimits(NamedTuple):
    """What an archive may become.

    Attributes:
        members: Largest number of members, those of archives inside included.
        ratio: Largest number of bytes written for each byte of the archive.
        free_bytes: Bytes that may be written beside that.
    """

    members: int = 2_000_000
    ratio: int = 200
    free_bytes: int = 1 << 20


class _Member(NamedTuple):
    name: str
    stream: IO[bytes]


class _Budget:
    def __init__(self, archive: Path, limits: ArchiveLimits) -> None:
        self.archive, self.limits = archive, limits
        self.bytes_left = limits.ratio * archive.stat().st_size + limits.free_bytes
        self.members_left = limits.members

    def spend(self, num_bytes: int) -> None:
        self.bytes_left -= num_bytes
        if self.bytes_left < 0:
            raise CatalogueError(
                f"{self.archive.name}: unpacks to more than {self.limits.ratio} times its size; it looks like a zip "
                "bomb, unpack it yourself if you trust it"
            )

    def count(self) -> None:
        self.members_left -= 1
        if self.members_left < 0:
            raise CatalogueError(
                f"{self.archive.name}: more than {self.limits.members:,} members; it looks like a zip bomb, unpack it "
                "yourself if you trust it"
            )


def is_archive(path: Path) -> bool:
    """Return whether the name is that of a zip or tar archive."""
    return path.name.lower().endswith(SUFFIXES)


def unpack_archives(archives: Mapping[Path, str], target: Path, limits: ArchiveLimits | None = None) -> Iterator[int]:
    """Unpack archives into a folder that is there when it is whole, and not before.

    Archives inside them are unpacked beside where they lie, one level deep: N-Caltech101 and Caltech-101 come so.

    Args:
        archives: Each a zip, or a tar, packed with gzip, bzip2 or xz or not; and the folder below the target that it
            is unpacked into, `"."` for the target itself.
        target: Folder to make. One that is there is left as it is.
        limits: What each may become; None for the defaults.

    Yields:
        Members written so far.

    Raises:
        CatalogueError: No archive, a damaged or encrypted one, a member that would lie outside the target, is there
            already, or is a link or a device, more members or bytes than the limits, or no room on the disk. Nothing
            is left then.
    """
    if target.is_dir():
        return
    partial = target.with_name(f".{target.name}.partial")
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    archive = next(iter(archives))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not lock.acquire():
            raise CatalogueError(f"{target}: another process is unpacking there; wait for it to end")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        done = 0
        for archive, folder in archives.items():
            for _ in _unpack(archive, partial / folder, _Budget(archive, limits or ArchiveLimits()), nested=False):
                done += 1
                yield done
        partial.rename(target)
    except OSError as broken:
        raise _failure(archive, target, broken) from broken
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        lock.release()
        with contextlib.suppress(OSError):
            lock.path.unlink()


def _failure(archive: Path, target: Path, broken: OSError) -> CatalogueError:
    if broken.errno == errno.ENOSPC:
        return CatalogueError(f"{target.parent}: no room to unpack {archive.name}; free some and run it again")
    place = archive if broken.filename in (None, str(archive)) else target.parent
    return CatalogueError(f"{place}: cannot be unpacked ({broken.strerror or broken}); check it and its folder")


def _unpack(archive: Path, folder: Path, budget: _Budget, *, nested: bool) -> Iterator[int]:
    inner: list[Path] = []
    try:
        for member in _members(archive, budget):
            path = folder / safe_name(member.name, archive.name)
            _write(member.stream, path, budget)
            if is_archive(path) and not nested:
                inner.append(path)
            yield 1
    except _DAMAGE as broken:
        reason = (str(broken).splitlines() or [type(broken).__name__])[0][:100]
        raise CatalogueError(f"{archive.name}: cannot be unpacked ({reason}); it is damaged, fetch it again") from None
    for path in inner:
        yield from _unpack(path, path.parent, budget, nested=True)
        path.unlink()


def _write(stream: IO[bytes], path: Path, budget: _Budget) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise CatalogueError(f"{budget.archive.name}: two members of the name {path.name!r}; it is damaged")
    with path.open("xb") as out:
        while chunk := stream.read(_CHUNK):
            budget.spend(len(chunk))
            out.write(chunk)


def _members(archive: Path, budget: _Budget) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        yield from _zip_members(archive, budget)
        return
    with tarfile.open(archive, "r:*") as tar:
        for entry in tar:
            budget.count()
            if entry.isdir():
                continue
            stream = tar.extractfile(entry) if entry.isreg() else None
            if stream is None:
                raise _unsafe(archive.name, entry.name, "is a link or a device")
            yield _Member(entry.name, stream)
            # Entries that were read would be kept, one for each of a hundred thousand files.
            tar.members = []  # type: ignore[attr-defined]
        # The checksum of a packed tar stands behind its last member.
        while chunk := (tar.fileobj.read(_CHUNK) if tar.fileobj is not None else b""):
            budget.spend(len(chunk))


def _zip_members(archive: Path, budget: _Budget) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        entries = packed.infolist()
        needed = sum(entry.file_size for entry in entries)
        free = shutil.disk_usage(archive.parent).free
        if needed <= budget.bytes_left and free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for entry in entries:
            budget.count()
            if entry.is_dir():
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _unsafe(archive.name, entry.filename, "is a link or a device")
            if entry.flag_bits & _ENCRYPTED:
                raise CatalogueError(f"{archive.name}: member {entry.filename[:80]!r} is encrypted; unpack it yourself")
            with packed.open(entry) as stream:
                yield _Member(entry.filename, stream)


def safe_name(name: str, place: str) -> PurePosixPath:
    """Return the path of a member below the target.

    Raises:
        CatalogueError: A name that is absolute, leads upwards, or holds a backslash, a colon or a control character.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise _unsafe(place, name, "would lie outside the folder")
    if any(letter in "\\:" or ord(letter) < 32 or ord(letter) == 127 for letter in name) or len(name) > 1024:
        raise _unsafe(place, name, "has no name for a file")
    return path


def _unsafe(place: str, name: str, why: str) -> CatalogueError:
    return CatalogueError(f"{place}: member {name[:80]!r} {why}; it is not unpacked, fetch the archive elsewhere")


def file_digest(path: Path, algorithm: str) -> str:
    """Return the digest of a file, `md5` or `sha256`, in hexadecimal digits.

    Raises:
        CatalogueError: The file cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as broken:
        raise CatalogueError(f"{path}: cannot be read ({broken.strerror or broken})") from broken
    return digest.hexdigest()
