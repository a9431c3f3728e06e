"""Read frames of a cache: memory-mapped from contiguous arrays, or decompressed row by row."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.format import FrameArray, Table
from tmkt_data.errors import CacheError
from tmkt_data.files import checksum, is_refused, open_hdf5

ZSTD = 32015
"""Registered HDF5 filter number of Zstandard."""
_ONE_CHECK_NS = 1_000_000


class _FileState(NamedTuple):
    number: tuple[int, int]
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> _FileState | None:
        """Return the state of a file; None where it cannot be looked at."""
        try:
            found = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat, once a read
        except OSError:
            return None
        return cls((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)


class OpenFile:
    """A file that frames are read from, in the state in which it was opened.

    Attributes:
        path: Its absolute path.
        state: Its number, size and time of the last change; None where it cannot be looked at.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.state = _FileState.of(self.path)
        self._checked = threading.local()

    def require_unchanged(self) -> None:
        """Refuse a file that was overwritten; one that was replaced by another of its name is read on.

        Raises:
            CacheError: It was overwritten.
        """
        until = getattr(self._checked, "until_ns", 0)
        if until and time.monotonic_ns() < until:
            return
        now = _FileState.of(self.path)
        # Another file of the same name leaves the open one as it is.
        if now is not None and self.state is not None and now.number == self.state.number and now != self.state:
            raise CacheError(
                f"{self.path.name}: was overwritten while it was open; open it again, and replace a cache by a file "
                "that is renamed to it, never by writing into it"
            )

    def require_same(self) -> None:
        """Refuse another file of this name, which a process that opens its frames only now would read.

        Called when the name has been opened: a file that still has its name then is the one that was opened.

        Raises:
            CacheError: The file was replaced.
        """
        now = _FileState.of(self.path)
        if now is not None and self.state is not None and now.number != self.state.number:
            raise CacheError(f"{self.path.name}: was replaced by another file since it was opened; open it again")

    def __enter__(self) -> None:
        """Check the file now, and not again for what this thread reads in the block within a millisecond.

        Raises:
            CacheError: It was overwritten.
        """
        self.require_unchanged()
        self._checked.until_ns = time.monotonic_ns() + _ONE_CHECK_NS

    def __exit__(self, *_: object) -> None:
        self._checked.until_ns = 0


class StoredFrames:
    """Rows of one array; the checksum of each is verified on first read.

    Threads may read at the same time, and so may processes, forked ones included. A file that is overwritten while it
    is open is refused at the next read; one that is replaced by another of its name, as `prepare` does, is read on by
    those who have opened its frames, and refused by those who open them later.

    Attributes:
        shape: Shape of the array; rows are the first axis.
        dtype: Stored data type.
    """

    def __init__(self, file: OpenFile, array: FrameArray, checksums: Table) -> None:
        self._file, self._path, self._name = file, file.path, array.name
        self.shape, self.dtype = array.shape, array.dtype
        self._checksums = checksums
        self._checked = np.zeros(self.shape[0], bool)

    def rows(self, rows: NDArray[np.int64], dtype: Any = None) -> NDArray[Any]:
        """Return rows, shape (B, ...), as stored or converted to `dtype`; owned by the caller.

        Raises:
            CacheError: A row was modified after it was written, or does not exist; or the file was overwritten.
        """
        self._file.require_unchanged()
        if len(rows) and (rows.min() < 0 or rows.max() >= self.shape[0]):
            wrong = rows.min() if rows.min() < 0 else rows.max()
            raise CacheError(f"{self._path.name}: {self._name} has rows 0 to {self.shape[0] - 1}, asked for {wrong}")
        found = np.empty((len(rows), *self.shape[1:]), self.dtype if dtype is None else dtype)
        if not len(rows):
            return found
        is_widened = self.dtype == np.float16 and found.dtype == np.float32
        # What holds for all rows is looked up once: for small rows, it costs as much as copying them.
        are_checked, read = bool(self._checked[rows].all()), self._reader()
        # Row by row, so each row is still in the CPU cache when it is converted.
        for at, row in enumerate(rows.tolist()):
            stored = read(row)
            if not are_checked and not self._checked[row]:
                self._check(stored, row)
            if is_widened:
                _widen(stored, found[at])
            else:
                found[at] = stored
        return found

    def row(self, row: int) -> NDArray[Any]:
        """Return one row that exists as stored, read-only and not verified."""
        return self._reader()(row)

    def release(self) -> None:
        """Close the file; the next read opens it again."""

    def _reader(self) -> Callable[[int], NDArray[Any]]:
        """Return what reads one row that exists."""
        raise NotImplementedError

    def _check(self, stored: NDArray[Any], row: int) -> None:
        if checksum(stored) != int(self._checksums[row]):
            raise CacheError(
                f"{self._place(row)} was changed after it was written; restore the file or prepare it again"
            )
        self._checked[row] = True

    def _place(self, row: int) -> str:
        return f"{self._path.name}: row {row} of {self._name}"


class MappedFrames(StoredFrames):
    """Rows of a memory-mapped contiguous array; all processes share its pages."""

    def __init__(self, file: OpenFile, array: FrameArray, checksums: Table, offset: int) -> None:
        super().__init__(file, array, checksums)
        self._offset = offset
        self._map: NDArray[Any] | None = None

    def release(self) -> None:
        """Close the file as soon as no thread reads it; the next read opens it again."""
        self._map = None

    def _reader(self) -> Callable[[int], NDArray[Any]]:
        # Another thread may release it meanwhile.
        found = self._map
        if found is None:
            found = self._map = self._open()
        return found.__getitem__

    def _open(self) -> NDArray[Any]:
        try:
            # A plain array over the map, since indexing np.memmap costs more than reading a small row.
            found = np.asarray(np.memmap(self._path, self.dtype, "r", self._offset, self.shape))
        except (OSError, ValueError) as broken:
            # A shorter file cannot be mapped.
            self._file.require_same()
            raise CacheError(f"{self._path}: cannot be read ({broken})") from broken
        self._file.require_same()
        return found


class CompressedFrames(StoredFrames):
    """Rows of an array compressed row by row; each process opens the file on first read."""

    def __init__(self, file: OpenFile, array: FrameArray, checksums: Table) -> None:
        super().__init__(file, array, checksums)
        self._dataset: h5py.Dataset | None = None
        self._process = -1

    def release(self) -> None:
        """Close the file as soon as no thread reads it; the next read opens it again."""
        self._dataset = None

    def _reader(self) -> Callable[[int], NDArray[Any]]:
        return self._row

    def _row(self, row: int) -> NDArray[Any]:
        try:
            dataset = self._dataset
            if dataset is None or self._process != os.getpid():
                dataset = self._dataset = self._open()
                self._process = os.getpid()
            # A buffer that all calls share would give one thread the row of another.
            found = np.empty(self.shape[1:], self.dtype)
            dataset.read_direct(found, np.s_[row])
        except (OSError, RuntimeError, KeyError) as broken:
            reason = str(broken).split("\n")[0]
            advice = "check the file and its disk" if is_refused(broken) else "restore the file or prepare it again"
            raise CacheError(
                f"{self._path.name}: row {row} of {self._name} cannot be read ({reason}); {advice}"
            ) from broken
        return found

    def _open(self) -> h5py.Dataset:
        try:
            dataset = open_hdf5(h5py.File, self._path)[self._name]
        except (OSError, RuntimeError, KeyError):
            # Of another file, it says nothing about this one.
            self._file.require_same()
            raise
        self._file.require_same()
        return dataset


def open_frames(
    opened: OpenFile, file: h5py.File, expected: FrameArray, checksums: Table, file_bytes: int
) -> StoredFrames:
    """Open one array of a cache.

    Args:
        opened: The file of the cache.
        file: The same as HDF5.
        expected: Expected path, shape and type of the array.
        checksums: Checksum of each row.
        file_bytes: Size of the file.

    Raises:
        CacheError: The array differs from `expected`, or is compressed and hdf5plugin is not installed.
    """
    path, name = opened.path, expected.name
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise CacheError(f"{path.name}: {name} is not a dataset; the file is damaged, restore it or prepare it again")
    if dataset.shape != expected.shape:
        raise CacheError(f"{path.name}: {name} has shape {dataset.shape}, expected {expected.shape}; prepare it again")
    # All of the type, as byte order and sign decide what the bytes of a row mean.
    if dataset.id.get_type() != h5py.h5t.py_create(expected.dtype, logical=True):
        raise CacheError(
            f"{path.name}: {name} is not stored as {expected.dtype}, as it was written; the file is damaged, "
            "restore it or prepare it again"
        )
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        if dataset.size and (offset is None or offset + dataset.nbytes > file_bytes):
            raise CacheError(f"{path.name}: {name} is not contiguous; prepare it again")
        if not dataset.size:
            return _Empty(opened, expected, checksums)
        return MappedFrames(opened, expected, checksums, int(offset))
    require_zstd(path.name)
    choices = dataset.id.get_create_plist()
    filters = [choices.get_filter(at)[0] for at in range(choices.get_nfilters())]
    if filters != [ZSTD] or dataset.chunks != (1, *dataset.shape[1:]) or dataset.is_virtual:
        raise CacheError(f"{path.name}: {name} has chunks of {dataset.chunks} and filters {filters}; prepare it again")
    return CompressedFrames(opened, expected, checksums)


class _Empty(StoredFrames):
    """An array without rows, which has no storage in the file."""


def require_zstd(place: str) -> Any:
    """Import hdf5plugin, which registers the Zstandard filter, and return it.

    Raises:
        CacheError: It is not installed.
    """
    try:
        return importlib.import_module("hdf5plugin")
    except ImportError as missing:
        raise CacheError(f"{place}: compressed caches need hdf5plugin; pip install 'tmkt[hdf5]'") from missing


def _widen(halves: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Convert non-negative float16 to float32 exactly, nine times faster than NumPy."""
    np.left_shift(halves.view(np.uint16), np.uint32(13), out=out.view(np.uint32), dtype=np.uint32)
    out *= np.float32(2.0**112)
