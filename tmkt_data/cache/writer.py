"""Write a cache file: arrays that are laid out first and filled row by row, then tables, then the leading block."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.digests import PieceDigests
from tmkt_data.cache.format import (
    FORMAT_VERSION,
    ContentDigest,
    FrameArray,
    LeadingBlock,
    Table,
    encode_leading_block,
)
from tmkt_data.cache.hdf5_output import hdf5_output, writing
from tmkt_data.errors import CacheError
from tmkt_data.files import is_refused, require_replaceable, sync_folder

_PIECE = 1 << 23


class FramesFile:
    """An HDF5 file of contiguous arrays whose space is allocated; rows are written in any order, from any thread.

    It does not know which rows were written: whoever writes a row keeps its checksum.

    Attributes:
        path: The file.
        arrays: Its arrays by name.
        digests: Digests of the pieces of the file that were written as a whole.
    """

    def __init__(self, path: Path, arrays: Sequence[FrameArray]) -> None:
        """Open the file, or create it where it is missing or holds other arrays.

        Raises:
            CacheError: The file cannot be written.
        """
        self.path = path
        self.arrays = {array.name: array for array in arrays}
        with writing(path):
            offsets = _offsets(path, arrays)
            if offsets is None:
                _create(path, arrays)
                offsets = _offsets(path, arrays)
        if offsets is None:
            raise CacheError(f"{path}: does not hold what was just written to it; give another --out")
        with writing(path):
            self._file = path.open("r+b", buffering=0)
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

    def read(self, name: str, first: int, count: int) -> NDArray[Any]:
        """Return rows as they are in the file, shape (count, ...); zeros where none was written.

        Raises:
            CacheError: The file cannot be read.
        """
        array = self.arrays[name]
        rows = np.zeros((count, *array.shape[1:]), array.dtype)
        with writing(self.path), self._lock:
            self._file.seek(self._offsets[name] + first * array.row_bytes)
            self._file.readinto(_bytes_of(rows))
        return rows

    def flush(self) -> None:
        """Start to flush the file to disk in the background, unless a flush is running; so the last one is short.

        Raises:
            CacheError: An earlier flush could not write.
        """
        if self._flushing is None or self._flushing.done():
            self.settle()
            self._flushing = self._flusher.submit(os.fsync, self._file.fileno())

    def settle(self) -> None:
        """Wait for the running flush.

        Raises:
            CacheError: It could not write. The system reports that only once, so every flush has to be asked.
        """
        with writing(self.path):
            if self._flushing is not None:
                self._flushing.result()

    def copy_from(self, other: Path) -> None:
        """Copy the bytes that another file has where this one has its arrays, whatever they are.

        Raises:
            CacheError: One of the files cannot be read or written.
        """
        with writing(self.path), other.open("rb", buffering=0) as source:
            for name, array in self.arrays.items():
                for first, count in _pieces(array):
                    at = self._offsets[name] + first * array.row_bytes
                    source.seek(at)
                    self._write(memoryview(source.read(count * array.row_bytes)), at)

    def copy_rows(self, name: str, other: FramesFile, is_kept: NDArray[np.bool_]) -> None:
        """Fill an array with some rows of the same array of another file, in their order.

        Args:
            name: The array.
            other: The other file.
            is_kept: Which of its rows to copy, shape (rows of the other array,).

        Raises:
            CacheError: One of the files cannot be read or written.
        """
        at = 0
        for first, count in _pieces(other.arrays[name]):
            rows = other.read(name, first, count)[is_kept[first : first + count]]
            self.write(name, at, rows)
            at += len(rows)

    def close(self) -> None:
        """Close the file."""
        self._flusher.shutdown(wait=True)
        self._file.close()

    def _write(self, data: memoryview, at: int) -> None:
        # One lock and one file position, as not every system can write at a given offset.
        with self._lock:
            self._file.seek(at)
            while data:
                data = data[self._file.write(data) or 0 :]


def write_tables(path: Path, header: Mapping[str, str], tables: Iterable[tuple[str, Table]]) -> str:
    """Write attributes and tables into a `FramesFile` that was closed; return the content digest.

    The bytes depend on nothing but what is written: there are no times and no random names in them.

    Args:
        path: The file.
        header: Attributes, text by name.
        tables: HDF5 path and table, sorted by path; consumed one by one.

    Raises:
        CacheError: The file cannot be written.
    """
    digest = ContentDigest(header)
    with hdf5_output(path, "r+") as file:
        for name, table in tables:
            digest.add(name, table)
            with writing(path):
                file.create_dataset(name, data=table)
        with writing(path):
            for name in sorted(header):
                file.attrs[name] = np.bytes_(header[name].encode())
            file.attrs["digest"] = np.bytes_(digest.hexdigest().encode())
    return digest.hexdigest()


def seal(path: Path, digest: str, pieces: PieceDigests) -> LeadingBlock:
    """Write the leading block of a file that is complete but for it, and force the file to disk.

    Args:
        path: The file, under a temporary name.
        digest: Content digest.
        pieces: Digests of the pieces that are known; the others are read.

    Raises:
        CacheError: The file cannot be written.
    """
    with writing(path), path.open("r+b", buffering=0) as handle, ThreadPoolExecutor(1) as disk:
        # The disk writes while the rest is hashed; only the leading block is left for the second flush.
        on_disk = disk.submit(os.fsync, handle.fileno())
        total = pieces.total(handle)
        on_disk.result()
        block = LeadingBlock(FORMAT_VERSION, os.fstat(handle.fileno()).st_size, total, digest)
        handle.seek(0)
        handle.write(encode_leading_block(block))
        os.fsync(handle.fileno())
    return block


def put_in_place(temporary: Path, final: Path) -> None:
    """Give a file that was sealed and read back its name, also on disk.

    Raises:
        CacheError: It cannot be renamed.
    """
    require_replaceable(final, CacheError)
    with writing(final):
        temporary.replace(final)
        sync_folder(final.parent)


def _bytes_of(values: NDArray[Any]) -> memoryview:
    return values.data.cast("B") if values.size else memoryview(bytearray())


def _pieces(array: FrameArray) -> Iterator[tuple[int, int]]:
    """Yield (first row, rows) of the pieces in which an array is copied."""
    step = max(1, _PIECE // max(1, array.row_bytes))
    for first in range(0, array.shape[0], step):
        yield first, min(step, array.shape[0] - first)


def _create(path: Path, arrays: Sequence[FrameArray]) -> None:
    # Named without a process: what a killed one left is taken by the next, which holds the lock.
    temporary = path.with_name(f".{path.name}.new")
    try:
        _allocate(temporary, path, arrays)
        # Blocks are believed after a loss of power, so what their places follow from has to be on disk before them.
        with temporary.open("r+b") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def _allocate(temporary: Path, path: Path, arrays: Sequence[FrameArray]) -> None:
    with hdf5_output(temporary, "w") as file, writing(path):
        for array in arrays:
            choices = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            choices.set_layout(h5py.h5d.CONTIGUOUS)
            choices.set_obj_track_times(False)
            if 0 not in array.shape:
                # The space is allocated at once, and no zeros are written to it.
                choices.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                choices.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            group, _, name = array.name.rpartition("/")
            kind = h5py.h5t.py_create(array.dtype, logical=True)
            space = h5py.h5s.create_simple(array.shape)
            h5py.h5d.create(file.require_group(group).id, name.encode(), kind, space, choices)


def _offsets(path: Path, arrays: Sequence[FrameArray]) -> dict[str, int] | None:
    """Return where each array begins, or None where the file was not created for these arrays."""
    if not path.exists():
        return None
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = {array.name: file[array.name] for array in arrays}
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            # Tables in it are those of a run that lost its power after it had renamed the file.
            if set(names) != set(found) or len(file.attrs):
                return None
            if any((found[a.name].shape, found[a.name].dtype) != (a.shape, a.dtype) for a in arrays):
                return None
            return {name: int(dataset.id.get_offset() or 0) for name, dataset in found.items()}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as broken:
        if is_refused(broken):
            # Begun anew, the file would lose what is done.
            raise CacheError(f"{path}: cannot be read ({broken}); check the file and its disk") from broken
        return None
