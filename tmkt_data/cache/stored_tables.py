"""The tables of a cache: verified once on opening, each in memory from its first use on."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from tmkt_data.cache.format import ContentDigest, Table
from tmkt_data.cache.stored_frames import OpenFile
from tmkt_data.errors import CacheError

_PIECE = 1 << 20
_PLAIN = "iufS"
"""Kinds of types whose bytes in the file are those of the array."""


class StoredTables(Mapping[str, Table]):
    """Tables by HDF5 path. A table that is asked for is read once, and belongs to the mapping.

    The file stays mapped, so tables are those of the file that was opened, also where another takes its name; one that
    is overwritten is refused. A mapping is used in the process that opened it, and in its forks.
    """

    def __init__(self, file: OpenFile, datasets: Mapping[str, h5py.Dataset], num_bytes: int) -> None:
        """Map the tables of an open cache.

        Args:
            file: The file.
            datasets: Its tables by path.
            num_bytes: Its size.

        Raises:
            CacheError: A table lies beyond the end of the file.
        """
        self._file = file
        with file.path.open("rb") as handle:
            self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        self._offsets: dict[str, int] = {}
        self._views: dict[str, Table] = {}
        self._tables: dict[str, Table] = {}
        for name, dataset in datasets.items():
            if dataset.nbytes > num_bytes:
                raise CacheError(f"{file.path.name}: table {name} claims {dataset.nbytes} bytes; prepare it again")
            offset = _offset(dataset, num_bytes)
            if offset is None:
                self._views[name] = self._tables[name] = dataset[...]
            else:
                self._offsets[name] = offset
                found = np.frombuffer(self._map, dataset.dtype, int(np.prod(dataset.shape)), offset)
                self._views[name] = found.reshape(dataset.shape)

    def digest(self, header: Mapping[str, str]) -> str:
        """Return the `ContentDigest` of a header and of all tables, a piece of the file at a time.

        Raises:
            OSError: The file cannot be read.
        """
        digest = ContentDigest(header)
        with self._file.path.open("rb", buffering=0) as handle:
            for name in sorted(self._views):
                view = self._views[name]
                if name in self._tables:
                    digest.add(name, view)
                else:
                    digest.add_pieces(name, view, _pieces(handle, self._offsets[name], view.nbytes))
        return digest.hexdigest()

    def views(self) -> Mapping[str, Table]:
        """Return the tables as they lie in the file, read-only: only the pages that are looked at are read."""
        return self._views

    def __getitem__(self, name: str) -> Table:
        found = self._tables.get(name)
        if found is None:
            view = self._views[name]
            self._file.require_unchanged()
            found = self._tables[name] = view.copy()
            self._file.require_unchanged()
            self.release()
        return found

    def release(self) -> None:
        """Let go of the pages that were looked at, which stay with the system."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def _offset(dataset: h5py.Dataset, num_bytes: int) -> int | None:
    """Return where the bytes of a table lie in the file, None where they are not those of the array."""
    if dataset.chunks is not None or not dataset.size or dataset.dtype.kind not in _PLAIN:
        return None
    offset = dataset.id.get_offset()
    if offset is None or dataset.id.get_storage_size() != dataset.nbytes or offset + dataset.nbytes > num_bytes:
        return None
    return int(offset)


def _pieces(handle: Any, offset: int, num_bytes: int) -> Iterable[memoryview]:
    handle.seek(offset)
    room = memoryview(bytearray(min(_PIECE, num_bytes)))
    while num_bytes:
        count = handle.readinto(room[: min(_PIECE, num_bytes)])
        if not count:
            raise OSError(f"ends {num_bytes} bytes before its tables do")
        yield room[:count]
        num_bytes -= count
