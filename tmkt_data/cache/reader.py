"""Read a cache: tables on opening, frames row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tmkt_data.cache.consistency import index_problems, require
from tmkt_data.cache.format import (
    EVENT_TABLES,
    FILTER_TABLES,
    FINE_TABLES,
    IMAGE_TABLES,
    OVERFLOW_TABLES,
    SPIKE_TABLES,
    FrameArray,
    LeadingBlock,
    Table,
    frame_arrays,
    table_text,
)
from tmkt_data.cache.hdf5_input import leading_block, opened_hdf5, require_dataset
from tmkt_data.cache.shard_set import SHARD_TABLES, SHARDS, ShardedFrames, ShardSet
from tmkt_data.cache.stored_frames import OpenFile, StoredFrames, open_frames
from tmkt_data.cache.stored_tables import StoredTables
from tmkt_data.errors import CacheError, SpecError
from tmkt_data.spec import PrepareSpec
from tmkt_data.storage.store_urls import checked_url, is_url

_HEADER = ("format", "format_version", "dataset", "spec", "facts", "notes", "skipped", "tool_version", "plan")


@dataclass(frozen=True)
class CacheInfo:
    """Metadata of a cache.

    Attributes:
        path: Path of the file.
        dataset: Name of the dataset.
        spec: Options that it was prepared with.
        facts: Plain values from the catalogue, such as `sensor_size`, `placement` and reader options; see
            docs/cache-format.md.
        notes: What the catalogue excluded or did not find, one line each.
        skipped: Unreadable files that were skipped: `side`, `id`, `bytes` and `why` of each.
        digest: SHA-256 of the content, 64 hexadecimal digits.
        plan: Key of the plan, a hash of options and sample ids, 64 hexadecimal digits.
        tool_version: Version of tmkt that wrote it.
        num_bytes: Size of the file, and of its shards.
        num_recordings: Rows of the event side.
        num_images: Rows of the image side.
        shards: The shards that the frames lie in, if the file is an index of some.
    """

    path: Path
    dataset: str
    spec: PrepareSpec
    facts: dict[str, Any]
    notes: tuple[str, ...]
    skipped: tuple[dict[str, Any], ...]
    digest: str
    plan: str
    tool_version: str
    num_bytes: int
    num_recordings: int
    num_images: int
    shards: ShardSet | None = None


class Cache:
    """An open cache: one file, or an index and its shards.

    It can be pickled and forked: each process opens the frames on first read.

    Attributes:
        info: Metadata.
        class_names: Names of the classes, indexed by label.
        header: HDF5 attributes as text by name, the source of `info`.
        arrays: Frame arrays by HDF5 path, in the order in which they are written.
        tables: All tables by HDF5 path, such as `"events/label"` or `"images/split/twin-disjoint"`; each is read when
            it is first asked for.

    Raises:
        CacheError: The file or a shard is missing, truncated, modified, of another format version, or not a cache.
    """

    def __init__(self, path: str | Path) -> None:
        path = _file_of(path)
        self._file = OpenFile(path)
        block = leading_block(path)
        with opened_hdf5(path) as file:
            self.header = _read_header(file, path)
            self.tables = StoredTables(self._file, _table_datasets(file, path), block.num_bytes)
            if self.tables.digest(self.header) != block.digest:
                raise CacheError(f"{path.name}: the tables were changed after they were written; prepare it again")
            self.info = _info(path, self.header, block, file)
            require(path.name, index_problems(self.tables.views(), self.info.spec))
            self.tables.release()
            if self.info.shards is not None:
                self.info.shards.require_whole()
            self.arrays = {array.name: self._open(array, file, block) for array in frame_arrays(self.spec, 0, 0)}
        self.class_names = table_text(self.tables["class_names"])

    def _open(self, array: FrameArray, file: h5py.File, block: LeadingBlock) -> StoredFrames:
        checksums, shards = self.tables[f"{array.name}_xxh3"], self.info.shards
        expected = array.with_rows(len(checksums))
        if shards is None:
            return open_frames(self._file, file, expected, checksums, block.num_bytes)
        if shards.starts[array.side][-1] != len(checksums):
            raise CacheError(f"{self._file.path.name}: its shards have other rows of {array.side}; prepare it again")
        return ShardedFrames(self._file, expected, checksums, shards)

    def __reduce__(self) -> tuple[Callable[[Path, str], Cache], tuple[Path, str]]:
        return _reopen, (self._file.path, self.info.digest)

    @cached_property
    def event_ids(self) -> tuple[str, ...]:
        """Ids of the recordings, in row order."""
        return table_text(self.tables["events/id"])

    @cached_property
    def image_ids(self) -> tuple[str, ...]:
        """Ids of the images, in row order."""
        return table_text(self.tables["images/id"])

    def id_table(self, side: str) -> NDArray[np.bytes_]:
        """Return the ids of a side in UTF-8, `"events"` or `"images"`, in row order, read-only: mapped, not in memory.

        Raises:
            CacheError: The file was overwritten.
        """
        self._file.require_unchanged()
        return self.tables.views()[f"{side}/id"]

    @property
    def spec(self) -> PrepareSpec:
        """Options that the cache was prepared with."""
        return self.info.spec

    @property
    def has_spikes(self) -> bool:
        """Whether the cache stores spike frames of the images."""
        return "images/spikes" in self.arrays

    @property
    def identity(self) -> Hashable:
        """Which file this is, in the state in which it was opened: its place, number, size, time and digest."""
        return self._file.path, self._file.state, self.info.digest

    def checked_once(self) -> AbstractContextManager[None]:
        """Check once for a block of short reads that the file was not overwritten; see `OpenFile`."""
        return self._file

    def event_frames(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return event frames, shape (B, T, C, H, W), float32, owned by the caller.

        Args:
            rows: Numbers of recordings, shape (B,), in any order.

        Raises:
            CacheError: A row was modified after it was written, or does not exist; or the file was overwritten.
            SpecError: The rows are not whole numbers.
        """
        rows = _row_numbers(rows)
        frames = self.arrays["events/frames"].rows(rows, np.float32)
        starts = self.tables["events/overflow_start"]
        flat = frames.reshape(len(rows), math.prod(frames.shape[1:]))
        for at in np.flatnonzero(starts[rows + 1] > starts[rows]).tolist():
            part = slice(int(starts[rows[at]]), int(starts[rows[at] + 1]))
            flat[at, self.tables["events/overflow_cell"][part]] = self.tables["events/overflow_count"][part]
        return frames

    def image_frames(self, rows: ArrayLike) -> NDArray[np.uint8]:
        """Return intensities, shape (B, H, W), uint8, owned by the caller; arguments and errors as `event_frames`."""
        return np.asarray(self.arrays["images/frames"].rows(_row_numbers(rows)), np.uint8)

    def finest_frames(self, rows: ArrayLike) -> NDArray[np.uint8]:
        """Return intensities at the largest size that the cache keeps, k times that of a frame with `image_scale` k.

        Returns:
            Shape (B, k H, k W), uint8, owned by the caller; errors as `event_frames`.
        """
        if self.spec.image_scale == 1:
            return self.image_frames(rows)
        return np.asarray(self.arrays["images/fine"].rows(_row_numbers(rows)), np.uint8)

    def image_spikes(self, rows: ArrayLike) -> NDArray[np.uint8]:
        """Return stored spike frames, shape (B, T, C, H, W), uint8, 0 or 1 (0 to 255 for `repeat`).

        Raises:
            CacheError: The cache was prepared without `bake`; or as in `event_frames`.
        """
        if not self.has_spikes:
            raise CacheError(
                f"{self.info.path.name}: no spike frames; prepare it with `tmkt-data prepare --bake`, or draw them"
            )
        return np.asarray(self.arrays["images/spikes"].rows(_row_numbers(rows)), np.uint8)

    def splits(self, side: str, protocol: str) -> NDArray[np.uint8]:
        """Return the split code of each row of a side, `"events"` or `"images"`; see `splits.SplitCode`.

        Raises:
            CacheError: The cache has no such protocol.
        """
        name = f"{side}/split/{protocol}"
        if name not in self.tables:
            known = sorted(key.rpartition("/")[2] for key in self.tables if key.startswith(f"{side}/split/"))
            raise CacheError(f"{self.info.path.name}: found protocol {protocol!r}, expected one of {', '.join(known)}")
        return np.asarray(self.tables[name], np.uint8)


def _row_numbers(rows: ArrayLike) -> NDArray[np.int64]:
    """Return numbers of rows, shape (B,).

    Raises:
        SpecError: They are not a sequence of whole numbers: a mask would be taken for rows 0 and 1.
    """
    given = np.asarray(rows)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise SpecError(
            f"rows: found {given.dtype} of shape {given.shape}, expected numbers of rows, shape (B,); of a mask, "
            "np.flatnonzero gives them"
        )
    return given.astype(np.int64, copy=False)


def _reopen(path: Path, digest: str) -> Cache:
    """Open a pickled cache in another process.

    Raises:
        CacheError: The file was replaced by another cache.
    """
    cache = Cache(path)
    if cache.info.digest != digest:
        raise CacheError(f"{path}: was replaced by another cache after it was opened; open it again")
    return cache


def read_cache_info(path: str | Path) -> CacheInfo:
    """Read the metadata of a cache; errors as in `Cache`, but tables are not verified."""
    path = _file_of(path)
    block = leading_block(path)
    with opened_hdf5(path) as file:
        return _info(path, _read_header(file, path), block, file)


def read_tables(path: str | Path, names: Sequence[str]) -> dict[str, Table]:
    """Read those of the named tables that exist; errors as in `read_cache_info`."""
    path = _file_of(path)
    leading_block(path)
    with opened_hdf5(path) as file:
        return {name: require_dataset(path, name, file[name])[...] for name in names if name in file}


def _file_of(path: str | Path) -> Path:
    if is_url(path):
        raise CacheError(
            f"{checked_url(str(path))}: a URL, expected a file; PairedFrames takes URLs, or copy it with "
            "tmkt_data.cache.fetched.local_copy"
        )
    return Path(path)


def _read_header(file: h5py.File, path: Path) -> dict[str, str]:
    names = set(file.attrs) - {"digest", SHARDS}
    if names != set(_HEADER):
        raise CacheError(f"{path.name}: attributes {sorted(names)}, expected {sorted(_HEADER)}; prepare it again")
    return {name: bytes(file.attrs[name]).decode() for name in _HEADER}


def _table_datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    names = ["class_names", "events/id", "images/id"]
    names += [f"events/{name}" for name in (*EVENT_TABLES, *OVERFLOW_TABLES)]
    names += [f"events/{name}" for name in FILTER_TABLES if f"events/{name}" in file]
    names += [f"images/{name}" for name in IMAGE_TABLES]
    names += [f"images/{name}" for name in (*SPIKE_TABLES, *FINE_TABLES) if f"images/{name}" in file]
    names += [f"{side}/split/{protocol}" for side in ("events", "images") for protocol in file[f"{side}/split"]]
    return {name: require_dataset(path, name, file[name]) for name in names}


def _shards(path: Path, file: h5py.File) -> ShardSet | None:
    if SHARDS not in file.attrs:
        return None
    tables = {name: require_dataset(path, name, file[f"{SHARDS}/{name}"])[...] for name in SHARD_TABLES}
    return ShardSet.from_tables(path, tables, bytes(file.attrs[SHARDS]).decode())


def _info(path: Path, header: dict[str, str], block: LeadingBlock, file: h5py.File) -> CacheInfo:
    shards = _shards(path, file)
    return CacheInfo(
        path=path,
        dataset=header["dataset"],
        spec=PrepareSpec.from_dict(json.loads(header["spec"])),
        facts=json.loads(header["facts"]),
        notes=tuple(json.loads(header["notes"])),
        skipped=tuple(json.loads(header["skipped"])),
        digest=block.digest,
        plan=header["plan"],
        tool_version=header["tool_version"],
        num_bytes=block.num_bytes + (0 if shards is None else shards.num_bytes),
        num_recordings=int(file["events/frames"].shape[0]),
        num_images=int(file["images/frames"].shape[0]),
        shards=shards,
    )
