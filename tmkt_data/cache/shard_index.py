"""Write the index of a sharded cache: all tables, the shards by name and digest, and their frames as virtual arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.build_folder import CacheContent, this_machine
from tmkt_data.cache.digests import PieceDigests
from tmkt_data.cache.format import FrameArray, Table, content_digest, text_table
from tmkt_data.cache.hdf5_output import hdf5_output, writing
from tmkt_data.cache.reader import Cache, CacheInfo, read_tables
from tmkt_data.cache.shard_set import SHARDS, ShardSet
from tmkt_data.cache.writer import put_in_place, seal, write_tables
from tmkt_data.errors import CacheError
from tmkt_data.locks import lock


class ShardRows:
    """What the shards hold of one side beside its frames, as `SideRows` holds what blocks do.

    Attributes:
        is_kept: Which sources are in the cache, shape (num_sources,), bool.
        pieces: Other arrays by name, one of each shard.
    """

    def __init__(self, side: str, is_kept: NDArray[np.bool_], shards: Sequence[CacheInfo]) -> None:
        """Take the shards in their order; no file stays open, as there may be more of them than a process may open."""
        self._side, self._shards = side, shards
        self.is_kept = is_kept
        skipped = [[entry["why"] for entry in shard.skipped if entry["side"] == side] for shard in shards]
        self.pieces: dict[str, list[Any]] = {"why": [text_table(whys) for whys in skipped]}
        if side == "events":
            self.pieces |= {name: self._tables(name) for name in ("overflow_cell", "overflow_count")}

    def kept_column(self, name: str) -> NDArray[Any]:
        """Return one value of every sample, shape (num_samples,)."""
        if name == "overflow_length":
            return np.concatenate([np.diff(starts) for starts in self._tables("overflow_start")])
        return np.concatenate(self._tables(name))

    def _tables(self, name: str) -> list[Table]:
        path = f"{self._side}/{name}"
        return [read_tables(shard.path, [path])[path] for shard in self._shards]


def write_index(shards: ShardSet, content: CacheContent, arrays: Sequence[FrameArray]) -> None:
    """Write the index of some shards, and give it its name once it has been read back.

    Header and tables are those of the cache in one file, so it has the same content digest. Its bytes depend on nothing
    but them and the names and digests of the shards.

    Args:
        shards: The shards.
        content: Header and tables of the whole.
        arrays: Its arrays of frames.

    Raises:
        CacheError: The file cannot be written, or does not hold what was written to it.
    """
    path = shards.index
    # Named by the machine, as locks may not reach others: whoever writes it last writes the same bytes.
    temporary = path.with_name(f".{path.name}.{this_machine()}.tmp")
    busy = CacheError(f"{path}: another process is writing it; wait for it to end")
    with lock(path.with_name(f"{temporary.name}.lock"), busy):
        try:
            _write_shards(temporary, shards, arrays)
            header, tables = content
            digest = write_tables(temporary, header, tables)
            seal(temporary, digest, PieceDigests())
            if Cache(temporary).info.digest != digest:
                raise CacheError(f"{path}: does not hold what was just written to it; check the disk, run it again")
            put_in_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _write_shards(path: Path, shards: ShardSet, arrays: Sequence[FrameArray]) -> None:
    tables = shards.tables()
    with hdf5_output(path, "w") as file, writing(path):
        for array in arrays:
            _tie_together(file, array, shards)
        for name, table in sorted(tables.items()):
            file.create_dataset(f"{SHARDS}/{name}", data=table)
        file.attrs[SHARDS] = np.bytes_(content_digest({}, tables).encode())


def _tie_together(file: h5py.File, array: FrameArray, shards: ShardSet) -> None:
    """Write an array whose rows lie in the shards, for those who read the index by HDF5; paths begin at its folder."""
    choices, space = h5py.h5p.create(h5py.h5p.DATASET_CREATE), h5py.h5s.create_simple(array.shape)
    choices.set_obj_track_times(False)
    starts = shards.starts[array.side].tolist()
    for name, first, end in zip(shards.names, starts, starts[1:], strict=False):
        if end > first:
            size = (end - first, *array.shape[1:])
            space.select_hyperslab((first, *(0 for _ in size[1:])), size)
            choices.set_virtual(space, name.encode(), f"/{array.name}".encode(), h5py.h5s.create_simple(size))
    group, _, name = array.name.rpartition("/")
    kind = h5py.h5t.py_create(array.dtype, logical=True)
    h5py.h5d.create(file.require_group(group).id, name.encode(), kind, space, choices)
