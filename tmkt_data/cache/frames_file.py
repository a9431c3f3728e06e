"""The frames of a cache in the making: arrays laid down in the file that the cache becomes, filled row by row."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.digests import PieceDigests
from tmkt_data.cache.format import LEADING_BYTES
from tmkt_data.errors import CacheError

LIBVER = ("earliest", "v110")
_PIECE = 1 << 23


class FrameArray(NamedTuple):
    """An array of the cache that is stored in one piece: its HDF5 path, shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


class FramesFile:
    """An HDF5 file whose arrays have their place already; rows are written to it in any order, from any thread.

    Whether a row was written is not known here: whoever wrote it keeps its checksum.

    Attributes:
        path: The file.
        arrays: What it holds, by name.
        digests: Digests of the pieces that were written whole.
    """

    def __init__(self, path: Path, arrays: Sequence[FrameArray]) -> None:
        """Open the file, or lay it down where it is missing or holds other arrays.

        Raises:
            CacheError: The file cannot be written.
        """
        self.path = path
        self.arrays = {array.name: array for array in arrays}
        with writing(path):
            offsets = _offsets(path, arrays)
            if offsets is None:
                _lay_down(path, arrays)
                offsets = _offsets(path, arrays)
            self._file = path.open("r+b", buffering=0)
        if offsets is None:
            raise CacheError(f"{path}: does not hold what was just written to it; give another --out")
        self._offsets = offsets
        self.digests = PieceDigests()
        self._lock = threading.Lock()
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._flushing: Future[None] | None = None

    def write(self, name: str, first: int, rows: NDArray[Any]) -> None:
        """Write rows from row `first` on.

        Raises:
            CacheError: They do not fit into the array, or the disk is full.
        """
        array = self.arrays[name]
        if rows.shape[1:] != array.shape[1:] or rows.dtype != array.dtype or first + len(rows) > array.shape[0]:
            raise CacheError(f"{name}: {rows.dtype} of {rows.shape} at row {first}, expected to fit {array}")
        data, at = _bytes_of(np.ascontiguousarray(rows)), self._offsets[name] + first * array.row_bytes
        with writing(self.path):
            self._write(data, at)
        self.digests.note(data, at)

    def flush(self) -> None:
        """Have the system write to disk what it holds back, without waiting; at the end little is left to wait for.

        Raises:
            CacheError: An earlier flush could not write.
        """
        if self._flushing is None or self._flushing.done():
            self.settle()
            self._flushing = self._flusher.submit(os.fsync, self._file.fileno())

    def settle(self) -> None:
        """Wait for the flush that is under way.

        Raises:
            CacheError: It could not write. The system tells that once, to whoever waits for it, so this must be asked.
        """
        with writing(self.path):
            if self._flushing is not None:
                self._flushing.result()

    def read(self, name: str, first: int, count: int) -> NDArray[Any]:
        """Return rows as they stand, shape (count, ...); zeros where none was written.

        Raises:
            CacheError: The file cannot be read.
        """
        array = self.arrays[name]
        rows = np.zeros((count, *array.shape[1:]), array.dtype)
        with writing(self.path), self._lock:
            self._file.seek(self._offsets[name] + first * array.row_bytes)
            self._file.readinto(_bytes_of(rows))
        return rows

    def pieces(self, name: str) -> Iterator[tuple[int, int]]:
        """Yield (first row, rows) of the pieces in which an array is best copied."""
        array = self.arrays[name]
        step = max(1, _PIECE // max(1, array.row_bytes))
        for first in range(0, array.shape[0], step):
            yield first, min(step, array.shape[0] - first)

    def take_from(self, other: Path) -> None:
        """Take what another file has where this one has its arrays; nothing is said about what is missing there.

        Raises:
            CacheError: One of the files cannot be read or written.
        """
        with writing(self.path), other.open("rb", buffering=0) as source:
            for name, array in self.arrays.items():
                for first, count in self.pieces(name):
                    at = self._offsets[name] + first * array.row_bytes
                    source.seek(at)
                    self._write(memoryview(source.read(count * array.row_bytes)), at)

    def _write(self, data: memoryview, at: int) -> None:
        # One lock and one place in the file, as not every system writes at a place of its own choice.
        with self._lock:
            self._file.seek(at)
            while data:
                data = data[self._file.write(data) or 0 :]

    def close(self) -> None:
        """Close the file."""
        self._flusher.shutdown(wait=True)
        self._file.close()


def _bytes_of(values: NDArray[Any]) -> memoryview:
    return values.data.cast("B") if values.size else memoryview(b"")


def _lay_down(path: Path, arrays: Sequence[FrameArray]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with h5py.File(temporary, "w", userblock_size=LEADING_BYTES, libver=LIBVER) as file:
        for array in arrays:
            choices = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            choices.set_layout(h5py.h5d.CONTIGUOUS)
            choices.set_obj_track_times(False)
            if 0 not in array.shape:
                # The place is taken at once, and no zeros are written to it.
                choices.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                choices.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            group, _, name = array.name.rpartition("/")
            kind = h5py.h5t.py_create(array.dtype, logical=True)
            space = h5py.h5s.create_simple(array.shape)
            h5py.h5d.create(file.require_group(group).id, name.encode(), kind, space, choices)
    temporary.replace(path)


def _offsets(path: Path, arrays: Sequence[FrameArray]) -> dict[str, int] | None:
    """Return where each array begins, or None where the file is none that was laid down for them."""
    if not path.exists():
        return None
    try:
        with h5py.File(path, "r") as file:
            found = {array.name: file[array.name] for array in arrays}
            if any((found[a.name].shape, found[a.name].dtype) != (a.shape, a.dtype) for a in arrays):
                return None
            return {name: int(dataset.id.get_offset() or 0) for name, dataset in found.items()}
    except (OSError, RuntimeError, KeyError, ValueError):
        return None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is written into one line.

    Raises:
        CacheError: The file cannot be written, such as on a full disk.
    """
    try:
        yield
    except (OSError, RuntimeError) as broken:  # HDF5 reports a failed flush as RuntimeError
        raise CacheError(f"{path}: cannot be written ({_reason(broken)}); free some space and run it again") from broken


def _reason(error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).split("\n")[0]
    return "File too large" if "File too large" in text else "No space left" if "No space left" in text else text
