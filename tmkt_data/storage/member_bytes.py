"""Where the bytes of members lie: at a place in an archive, or as objects of a store."""

from __future__ import annotations

import os
import weakref
import zipfile
import zlib
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from tmkt_data.errors import CatalogueError
from tmkt_data.storage.store_urls import object_at
from tmkt_data.storage.transfer import read_object, request

if TYPE_CHECKING:
    from concurrent.futures import Future

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


class MemberPlace(NamedTuple):
    """Where a member lies, the columns of a list.

    Attributes:
        archive: The archive or store, by its number in the list.
        offset: Where its bytes begin in an archive; when it was changed, in ns, in a store.
        num_packed: Bytes there.
        num_bytes: Bytes that they unpack to.
        method: `STORED` or `DEFLATED`.
        crc: Its CRC-32, -1 where the archive has none; its token in a store, see `objects.StoredObject`.
    """

    archive: int
    offset: int
    num_packed: int
    num_bytes: int
    method: int
    crc: int


class FileStatus(NamedTuple):
    """Size of a file, and when it was changed or put in its place, in ns; of a member the times of its archive."""

    num_bytes: int
    modified_ns: int
    changed_ns: int


class Archive:
    """An archive, opened on first read."""

    def __init__(self, path: str, num_bytes: int, modified_ns: int) -> None:
        self.path, self._known = path, (num_bytes, modified_ns)
        self._opening, self._handle = Lock(), -1

    def status(self, place: MemberPlace) -> FileStatus:
        """Return size and times of a member."""
        found = os.stat(self.path)  # noqa: PTH116 - once a member
        return FileStatus(place.num_bytes, found.st_mtime_ns, max(found.st_mtime_ns, found.st_ctime_ns))

    def read(self, place: MemberPlace, name: str) -> bytes:
        """Return the bytes of a member.

        Raises:
            CatalogueError: The archive is gone, was changed, or is damaged.
        """
        packed = self._read(place.offset, place.num_packed)
        data = packed
        if place.method == DEFLATED:
            try:
                unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
                data = unpacker.decompress(packed, place.num_bytes + 1)
            except zlib.error:
                data = b""
        if len(data) != place.num_bytes or (place.crc >= 0 and zlib.crc32(data) != place.crc):
            raise CatalogueError(
                f"{Path(self.path).name}: member {name[:80]!r} is not what its header says; the archive is damaged, "
                "fetch it again"
            )
        return data

    def _read(self, offset: int, num_bytes: int) -> bytes:
        try:
            with self._opening:
                if self._handle < 0:
                    self._open()
            return _read_at(self._handle, offset, num_bytes)
        except OSError as broken:
            raise CatalogueError(
                f"{self.path}: cannot be read ({broken.strerror or broken}); check the file"
            ) from broken

    def _open(self) -> None:
        handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, handle)
        status = os.fstat(handle)
        if (status.st_size, status.st_mtime_ns) != self._known:
            raise CatalogueError(
                f"{self.path}: was changed since its members were listed; run it again, which lists them again"
            )
        self._handle = handle


_one_reader = Lock()


def _read_at(handle: int, offset: int, num_bytes: int) -> bytes:
    """Read without moving the position of the file, which threads and forked processes share."""
    parts = []
    while num_bytes > 0:
        if hasattr(os, "pread"):
            part = os.pread(handle, num_bytes, offset)
        else:
            with _one_reader:
                os.lseek(handle, offset, os.SEEK_SET)
                part = os.read(handle, num_bytes)
        if not part:
            break
        parts.append(part)
        offset, num_bytes = offset + len(part), num_bytes - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Store:
    """The objects below a URL, as they were listed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._asked: dict[str, Future[bytes]] = {}

    def status(self, place: MemberPlace) -> FileStatus:
        """Return size and time of an object as it was listed."""
        return FileStatus(place.num_bytes, place.offset, place.offset)

    def read(self, place: MemberPlace, name: str) -> bytes:
        """Return the bytes of an object, which may have been asked for.

        Raises:
            StoreError: It cannot be read, or was changed since it was listed.
        """
        asked = self._asked.pop(name, None)
        if asked is not None:
            return asked.result()
        return read_object(object_at(self.url, name), place.num_bytes, place.crc)

    def ask(self, place: MemberPlace, name: str) -> None:
        """Begin to read an object, for the next `read` of it."""
        if name not in self._asked:
            self._asked[name] = request(object_at(self.url, name), place.num_bytes, place.crc)

    def forget(self, name: str) -> None:
        """Drop an object that was asked for and is not read."""
        asked = self._asked.pop(name, None)
        if asked is not None:
            asked.cancel()
