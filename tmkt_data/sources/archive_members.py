"""Iterate over the members of a zip or tar archive, within limits that do not trust its headers."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from tmkt_data.errors import CatalogueError
from tmkt_data.storage.member_bytes import DEFLATED, STORED, MemberPlace

CHUNK = 1 << 20
MAX_HEADER_BYTES = 1 << 20
"""Limit for the tar headers before one member (long names, attributes), which are held in memory."""
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError),
    *(RuntimeError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, struct.error),
)
"""What the standard library raises on invalid, truncated or unsupported archives."""
_ENCRYPTED = 0x1
_UTF8 = 0x800
_TAR_MAGIC = 257
"""Where the header of a POSIX or GNU tar says what it is."""
_ZIP_HEADER = struct.Struct("<4s5H3L2H")
"""Header of a member; its last two numbers are the lengths of what follows it, before the content.

Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.7
"""
_Stream = IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile


class ArchiveLimits(NamedTuple):
    """Limits on unpacking an archive.

    Attributes:
        members: Maximum number of members, including those of nested archives.
        ratio: Maximum number of bytes written per byte of the archive.
        free_bytes: Bytes allowed in addition.
    """

    members: int = 2_000_000
    ratio: int = 200
    free_bytes: int = 1 << 20


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
        name: Its name, not checked.
        stream: Its content.
        place: Where it lies in the archive; None where it cannot be read in place.
    """

    name: str
    stream: IO[bytes]
    place: MemberPlace | None = None


class Budget:
    """Remaining members and bytes that an archive may produce.

    Args:
        archive: Its path.
        limits: The limits.
    """

    def __init__(self, archive: Path, limits: ArchiveLimits) -> None:
        self.archive, self.limits = archive, limits
        self.bytes_left = limits.ratio * archive.stat().st_size + limits.free_bytes
        self.members_left = limits.members

    def spend(self, num_bytes: int) -> None:
        """Count bytes written; raises CatalogueError above the limit."""
        self.bytes_left -= num_bytes
        if self.bytes_left < 0:
            raise self.bomb(f"unpacks to more than {self.limits.ratio} times its size")

    def count(self) -> None:
        """Count a member; raises CatalogueError above the limit."""
        self.members_left -= 1
        if self.members_left < 0:
            raise self.bomb(f"more than {self.limits.members:,} members")

    def bomb(self, why: str) -> CatalogueError:
        """Build the error for an archive that exceeds its limits."""
        return CatalogueError(
            f"{self.archive.name}: {why}; it looks like a zip bomb, unpack it yourself if you trust it"
        )


def archive_members(archive: Path, budget: Budget, *, unpacks: bool = True) -> Iterator[Member]:
    """Yield the files in an archive, skipping folders and macOS metadata (`__MACOSX`, `._name`).

    Args:
        archive: The archive.
        budget: What it may hold.
        unpacks: Whether there has to be room for all of it on its disk.

    Raises:
        CatalogueError: A member is a link, a device or encrypted, has an unsafe path, or exceeds the budget.
        Exception: One of `DAMAGE`.
    """
    if _is_zip(archive):
        yield from _zip_members(archive, budget, unpacks=unpacks)
    else:
        yield from _tar_members(archive, budget)


def _is_zip(archive: Path) -> bool:
    """Return whether an archive is a zip; a tar may end with one, such as an npz, a zip begin with a program."""
    with archive.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    is_tar = start[_TAR_MAGIC : _TAR_MAGIC + 5] == b"ustar" and not start.startswith(b"PK")
    return not is_tar and zipfile.is_zipfile(archive)


def safe_name(name: str, place: str) -> PurePosixPath:
    """Return the path of a member relative to the target.

    Raises:
        CatalogueError: The name is absolute, contains `..`, a backslash, a colon or a control character.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise _unsafe(place, name, "would lie outside the folder")
    if any(letter in "\\:" or ord(letter) < 32 or ord(letter) == 127 for letter in name) or len(name) > 1024:
        raise _unsafe(place, name, "is not a valid file name")
    return path


def _unsafe(place: str, name: str, why: str) -> CatalogueError:
    return CatalogueError(f"{place}: member {name[:80]!r} {why}; it is unsafe, get the archive from another source")


def _is_apple(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith("._") for part in parts)


def _zip_members(archive: Path, budget: Budget, *, unpacks: bool) -> Iterator[Member]:
    with archive.open("rb") as file, zipfile.ZipFile(archive) as packed:
        entries = packed.infolist()
        needed = sum(entry.file_size for entry in entries)
        free = shutil.disk_usage(archive.parent).free
        if unpacks and needed <= budget.bytes_left and free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for entry in entries:
            budget.count()
            if entry.is_dir() or _is_apple(entry.filename):
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _unsafe(archive.name, entry.filename, "is a link or a device")
            if entry.flag_bits & _ENCRYPTED:
                raise CatalogueError(f"{archive.name}: member {entry.filename[:80]!r} is encrypted; unpack it yourself")
            with packed.open(entry) as stream:
                # Opened means that its own header agrees with the list at the end of the archive.
                yield Member(_zip_name(entry), stream, _zip_place(entry, file))


def _zip_place(entry: zipfile.ZipInfo, file: IO[bytes]) -> MemberPlace | None:
    if entry.compress_type not in (STORED, DEFLATED):
        return None
    file.seek(entry.header_offset + _ZIP_HEADER.size - 4)
    lengths = struct.unpack("<HH", file.read(4))
    offset = entry.header_offset + _ZIP_HEADER.size + sum(lengths)
    return MemberPlace(0, offset, entry.compress_size, entry.file_size, entry.compress_type, entry.CRC)


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """Return the name of a member; macOS and others write UTF-8 without the flag that says so."""
    if entry.flag_bits & _UTF8 or entry.filename.isascii():
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename


def _tar_members(archive: Path, budget: Budget) -> Iterator[Member]:
    with _unpacked_stream(archive) as stream:
        is_plain = isinstance(stream, io.BufferedReader)
        num_bytes = archive.stat().st_size
        counted = _CountedReader(stream, budget)
        with tarfile.open(fileobj=counted, mode="r:") as tar:  # type: ignore[call-overload]
            for entry in tar:
                budget.count()
                if not entry.isdir() and not _is_apple(entry.name):
                    content = tar.extractfile(entry) if entry.isreg() else None
                    if content is None:
                        raise _unsafe(archive.name, entry.name, "is a link or a device")
                    counted.is_in_member = True
                    place = MemberPlace(0, entry.offset_data, entry.size, entry.size, STORED, -1)
                    if is_plain and entry.offset_data + entry.size > num_bytes:
                        raise tarfile.ReadError("unexpected end of data")
                    yield Member(entry.name, content, place if is_plain and not entry.issparse() else None)
                # tarfile would keep an entry for each of a hundred thousand files, and the headers of all.
                tar.members = []
                tar.pax_headers = {}
                counted.begin_headers()
        # The checksum of a compressed tar follows its last member.
        counted.is_in_member = True
        while counted.read(CHUNK):
            pass


def _unpacked_stream(archive: Path) -> _Stream:
    with archive.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(archive)
    if start.startswith(b"BZh"):
        return bz2.open(archive)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(archive)
    return archive.open("rb")


class _CountedReader:
    """Limits what `tarfile` reads: it would load a header of any declared size into memory."""

    def __init__(self, stream: _Stream, budget: Budget) -> None:
        self._stream, self._budget = stream, budget
        self._bytes_left = budget.bytes_left
        self._header_bytes = 0
        self.is_in_member = False

    def begin_headers(self) -> None:
        """Count what is read from now on as headers of the next member."""
        self.is_in_member, self._header_bytes = False, 0

    def read(self, num_bytes: int = -1) -> bytes:
        """Read like a file; raises CatalogueError if a header or the total is too large."""
        if not self.is_in_member:
            self._header_bytes += num_bytes
            if num_bytes < 0 or self._header_bytes > MAX_HEADER_BYTES:
                raise self._budget.bomb(f"a header of more than {MAX_HEADER_BYTES:,} bytes")
        data: bytes = self._call(self._stream.read, num_bytes)
        self._pass(len(data))
        return data

    def seek(self, position: int) -> None:
        """Seek like a file; raises as `read`."""
        self._pass(max(0, position - self._stream.tell()))
        self._call(self._stream.seek, position)

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """Return True."""
        return True

    def _pass(self, num_bytes: int) -> None:
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            raise self._budget.bomb(f"unpacks to more than {self._budget.limits.ratio} times its size")

    def _call(self, method: Any, argument: int) -> Any:
        try:
            return method(argument)
        except OSError as broken:
            # Errors of gzip and bz2 on damaged data have no errno; those of the disk do.
            if broken.errno is None:
                raise tarfile.ReadError(str(broken)) from broken
            raise
