"""Rows of the arrays of a cache: mapped where they are stored in one piece, else decompressed one by one."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.format import FrameArray, Table
from tmkt_data.errors import CacheError
from tmkt_data.files import checksum

ZSTD = 32015
"""Number of the Zstandard filter in HDF5's register of filters."""


class StoredFrames:
    """Rows of one array of the file; each row is checked against its checksum the first time it is read.

    Attributes:
        shape: Shape of the array, its rows first.
        dtype: Type in which it is stored.
    """

    def __init__(self, path: Path, name: str, dataset: h5py.Dataset, checksums: Table) -> None:
        self._path, self._name = path.absolute(), name
        self.shape: tuple[int, ...] = tuple(int(n) for n in dataset.shape)
        self.dtype: np.dtype[Any] = dataset.dtype
        self._checksums = checksums
        self._checked = np.zeros(self.shape[0], bool)

    def rows(self, rows: NDArray[np.int64], dtype: Any = None) -> NDArray[Any]:
        """Return a copy of some rows, shape (B, ...), in the stored type or another.

        Raises:
            CacheError: A row whose bytes are not those that were written, or that does not exist.
        """
        if len(rows) and (rows.min() < 0 or rows.max() >= self.shape[0]):
            raise CacheError(
                f"{self._path.name}: {self._name} has rows 0 to {self.shape[0] - 1}, asked for {rows.max()}"
            )
        found = np.empty((len(rows), *self.shape[1:]), self.dtype if dtype is None else dtype)
        # Row by row: one that was just read is in the processor's cache when it is converted.
        for at, row in enumerate(rows.tolist()):
            stored = self._row(row)
            if not self._checked[row]:
                self._check(stored, row)
            if self.dtype == np.float16 and found.dtype == np.float32:
                _widen(stored, found[at])
            else:
                found[at] = stored
        return found

    def _row(self, row: int) -> NDArray[Any]:
        """Return one row as it is stored; not to be written to, and good until the next call."""
        raise NotImplementedError

    def _check(self, stored: NDArray[Any], row: int) -> None:
        if checksum(stored) != int(self._checksums[row]):
            raise CacheError(
                f"{self._path.name}: row {row} of {self._name} was altered since it was written; "
                "restore the file or prepare it again"
            )
        self._checked[row] = True


class MappedFrames(StoredFrames):
    """Rows of an array that is stored in one piece: pages of the file that all processes share."""

    def __init__(self, path: Path, name: str, dataset: h5py.Dataset, checksums: Table) -> None:
        super().__init__(path, name, dataset, checksums)
        self._offset = int(dataset.id.get_offset())
        self._map: NDArray[Any] | None = None

    def _row(self, row: int) -> NDArray[Any]:
        if self._map is None:
            self._map = self._open()
        return np.asarray(self._map[row])

    def _open(self) -> NDArray[Any]:
        try:
            # A plain array over the map: NumPy's own class for maps costs more than a small row.
            return np.asarray(np.memmap(self._path, self.dtype, "r", self._offset, self.shape))
        except (OSError, ValueError) as broken:
            raise CacheError(f"{self._path}: cannot be read ({broken})") from broken


class CompressedFrames(StoredFrames):
    """Rows of an array that is compressed row by row; each process opens the file for itself, at its first read."""

    def __init__(self, path: Path, name: str, dataset: h5py.Dataset, checksums: Table) -> None:
        super().__init__(path, name, dataset, checksums)
        self._buffer = np.empty(self.shape[1:], self.dtype)
        self._dataset: h5py.Dataset | None = None
        self._process = -1

    def _row(self, row: int) -> NDArray[Any]:
        try:
            if self._dataset is None or self._process != os.getpid():
                self._dataset, self._process = h5py.File(self._path, "r")[self._name], os.getpid()
            self._dataset.read_direct(self._buffer, np.s_[row])
        except (OSError, RuntimeError, KeyError) as broken:
            reason = str(broken).split("\n")[0]
            raise CacheError(
                f"{self._path.name}: row {row} of {self._name} cannot be read ({reason}); "
                "restore the file or prepare it again"
            ) from broken
        return self._buffer


def open_frames(path: Path, file: h5py.File, expected: FrameArray, checksums: Table, file_bytes: int) -> StoredFrames:
    """Open one array of a cache.

    Args:
        path: The cache.
        file: The same, open.
        expected: What the choices and the tables of the cache say of the array.
        checksums: Checksum of each row.
        file_bytes: Size of the file.

    Raises:
        CacheError: The array is not as expected, or compressed and the library for that is missing.
    """
    name = expected.name
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise CacheError(f"{path.name}: {name} is no dataset; the file is damaged, restore it or prepare it again")
    if dataset.shape != expected.shape:
        raise CacheError(
            f"{path.name}: {name} is of shape {dataset.shape}, expected {expected.shape}; prepare it again"
        )
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        if dataset.size and (offset is None or offset + dataset.nbytes > file_bytes):
            raise CacheError(f"{path.name}: {name} is not stored in one piece; prepare it again")
        return MappedFrames(path, name, dataset, checksums) if dataset.size else _Empty(path, name, dataset, checksums)
    require_zstd(path.name)
    choices = dataset.id.get_create_plist()
    filters = [choices.get_filter(at)[0] for at in range(choices.get_nfilters())]
    if filters != [ZSTD] or dataset.chunks != (1, *dataset.shape[1:]) or dataset.is_virtual:
        raise CacheError(f"{path.name}: {name} is stored in pieces of {dataset.chunks}; prepare it again")
    return CompressedFrames(path, name, dataset, checksums)


class _Empty(StoredFrames):
    """An array without rows, which has no place in the file."""


def require_zstd(place: str) -> Any:
    """Return the module hdf5plugin, whose import gives HDF5 the Zstandard filter.

    Raises:
        CacheError: It is not installed.
    """
    try:
        return importlib.import_module("hdf5plugin")
    except ImportError as missing:
        raise CacheError(f"{place}: compressed caches need hdf5plugin; pip install 'tmkt[hdf5]'") from missing


def _widen(halves: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Write non-negative float16 as float32; nine times as fast as NumPy's conversion, and exact."""
    np.left_shift(halves.view(np.uint16), np.uint32(13), out=out.view(np.uint32), dtype=np.uint32)
    out *= np.float32(2.0**112)
