"""The shards of a sharded cache: whole cache files whose rows are read as those of one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.format import FrameArray, Table, content_digest, table_text, text_table
from tmkt_data.cache.hdf5_input import leading_block, opened_hdf5
from tmkt_data.cache.stored_frames import OpenFile, StoredFrames, open_frames
from tmkt_data.errors import CacheError

SHARD_TABLES: dict[str, str] = {"name": "S", "digest": "S", "num_recordings": "<i8", "num_images": "<i8"}
"""Tables of an index in its group `shards`, one row a shard."""
SHARDS = "shards"
"""Group of these tables, and attribute of their digest; a cache without it is one file."""
_MOST_OPEN = 200
"""Shards that an array keeps open: each takes a file handle, of which a process may have about 1000. Of others it knows
where their rows lie, so they are mapped again without HDF5."""


@dataclass(frozen=True, eq=False)
class ShardSet:
    """The shards that an index names, in the order of their rows.

    Attributes:
        index: Path of the index, absolute.
        names: Path of each shard, relative to the folder of the index, with `/`.
        digests: Content digest of each shard: it is the same for a compressed copy.
        starts: First row of each shard in the whole, and the number of rows, shape (num_shards + 1,), by side.
    """

    index: Path
    names: tuple[str, ...]
    digests: tuple[str, ...]
    starts: Mapping[str, NDArray[np.int64]]

    @classmethod
    def of(cls, index: Path, names: Sequence[str], digests: Sequence[str], sizes: NDArray[np.int64]) -> ShardSet:
        """Return a set of shards, given the number of recordings and of images of each, shape (num_shards, 2)."""
        starts = np.vstack([np.zeros((1, 2), np.int64), np.cumsum(sizes, axis=0, dtype=np.int64)])
        sides = {"events": starts[:, 0], "images": starts[:, 1]}
        return cls(index.absolute(), tuple(names), tuple(digests), sides)

    @classmethod
    def from_tables(cls, index: Path, tables: Mapping[str, Table], digest: str) -> ShardSet:
        """Return the shards that the tables of an index name, `SHARD_TABLES`, whose digest is known.

        Raises:
            CacheError: The tables were changed, or a shard lies outside the folder of the index.
        """
        if content_digest({}, tables) != digest:
            raise CacheError(f"{index.name}: the list of its shards was changed after it was written; prepare it again")
        sizes = np.stack([tables["num_recordings"], tables["num_images"]], axis=1)
        names = table_text(tables["name"])
        for name in names:
            # Shards are copied, replaced and removed by their names.
            if Path(name).anchor or ".." in Path(name).parts:
                raise CacheError(f"{index.name}: names the shard {name!r} outside its folder; prepare it again")
        return cls.of(index, names, table_text(tables["digest"]), sizes)

    def tables(self) -> dict[str, Table]:
        """Return what an index stores of the shards, by the names of `SHARD_TABLES`."""
        return {
            "name": text_table(self.names),
            "digest": text_table(self.digests),
            "num_recordings": np.diff(self.starts["events"]).astype("<i8"),
            "num_images": np.diff(self.starts["images"]).astype("<i8"),
        }

    def __len__(self) -> int:
        return len(self.names)

    def path(self, shard: int) -> Path:
        """Return the path of a shard, counted from 0."""
        return self.index.parent / self.names[shard]

    @property
    def num_bytes(self) -> int:
        """Size of the shards that are there."""
        paths = map(self.path, range(len(self)))
        return sum(path.stat().st_size for path in paths if path.is_file())

    def problem(self, shard: int) -> str | None:
        """Return why a shard is not the one that the index names, by its first bytes and size, or None."""
        path = self.path(shard)
        if not path.exists():
            return f"{self.names[shard]} is missing"
        try:
            digest = leading_block(path).digest
        except CacheError as damaged:
            return _without_advice(str(damaged))
        if digest != self.digests[shard]:
            others = [number for number, known in enumerate(self.digests) if known == digest]
            found = f"shard {others[0] + 1}" if others else "another cache"
            return f"{self.names[shard]} holds {found}, expected shard {shard + 1} of {len(self)}"
        return None

    def require_whole(self) -> None:
        """Check that every shard is there and the one that the index names.

        Raises:
            CacheError: One is not; the first one is named.
        """
        problems = list(filter(None, map(self.problem, range(len(self)))))
        if problems:
            more = f" ({len(problems)} shards in all)" if len(problems) > 1 else ""
            raise CacheError(
                f"{self.index.name}: {problems[0]}{more}; restore it, or run the same tmkt-data prepare again, which "
                "makes what is missing"
            )

    def open(self, shard: int, array: FrameArray, checksums: Table) -> _OpenShard:
        """Open one array of a shard.

        Args:
            shard: Number of the shard, from 0.
            array: The array as it is in the whole.
            checksums: Checksums of the rows of the whole.

        Raises:
            CacheError: The shard is not the one that the index names, or cannot be read.
        """
        path, rows = self.path(shard), slice(*self.starts[array.side][shard : shard + 2].tolist())
        file = OpenFile(path)
        problem = self.problem(shard)
        if problem:
            raise CacheError(f"{self.index.name}: {problem}; restore it, or prepare it again")
        with opened_hdf5(path) as hdf5:
            expected = array.with_rows(rows.stop - rows.start)
            return _OpenShard(file, open_frames(file, hdf5, expected, checksums[rows], path.stat().st_size))


def _without_advice(text: str) -> str:
    """Leave what to do to the message that this one is part of."""
    for advice in ("; prepare it again", " or prepare it again", "; make one with tmkt-data prepare"):
        text = text.removesuffix(advice)
    return text


class _OpenShard(NamedTuple):
    file: OpenFile
    frames: StoredFrames


class ShardedFrames(StoredFrames):
    """Rows of an array that lie in several shards; each process opens a shard on first read of one of its rows."""

    def __init__(self, file: OpenFile, array: FrameArray, checksums: Table, shards: ShardSet) -> None:
        super().__init__(file, array, checksums)
        self._array, self._shards = array, shards
        self._starts: list[int] = shards.starts[array.side].tolist()
        self._known: dict[int, _OpenShard] = {}
        self._are_open: dict[int, None] = {}

    def rows(self, rows: NDArray[np.int64], dtype: Any = None) -> NDArray[Any]:
        """Return rows, as `StoredFrames.rows`; the shards that they lie in are looked at, too."""
        for shard in np.unique(np.searchsorted(self._starts, rows, "right") - 1).tolist():
            if 0 <= shard < len(self._shards):
                self._shard(shard).file.require_unchanged()
        return super().rows(rows, dtype)

    def _reader(self) -> Callable[[int], NDArray[Any]]:
        return self._row

    def _row(self, row: int) -> NDArray[Any]:
        shard = bisect_right(self._starts, row) - 1
        if shard not in self._are_open:
            self._keep_open(shard)
        return self._shard(shard).frames.row(row - self._starts[shard])

    def _place(self, row: int) -> str:
        shard = bisect_right(self._starts, row) - 1
        return f"{self._shards.names[shard]}: row {row - self._starts[shard]} of {self._array.name}"

    def _shard(self, shard: int) -> _OpenShard:
        found = self._known.get(shard)
        if found is None:
            found = self._known[shard] = self._shards.open(shard, self._array, self._checksums)
        return found

    def _keep_open(self, shard: int) -> None:
        """Let a shard be opened by its next read, and release another one where enough are open."""
        try:
            self._shard(shard).file.require_same()
        except CacheError:
            # Replaced while it was released: it is read on if it is the one that the index names.
            self._known.pop(shard, None)
        if len(self._are_open) >= _MOST_OPEN:
            # Threads may release the same one.
            oldest = next(iter(self._are_open.copy()), shard)
            self._are_open.pop(oldest, None)
            self._shard(oldest).frames.release()
        self._are_open[shard] = None
