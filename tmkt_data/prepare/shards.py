"""Plan a cache as shards: which samples stand in which, whether a shard is there, and the index over all of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.reader import Cache, CacheInfo, read_cache_info, read_tables
from tmkt_data.cache.shard_index import ShardRows, write_index
from tmkt_data.cache.shard_set import ShardSet
from tmkt_data.cache.verify import verify_cache
from tmkt_data.errors import CacheError, SpecError, counted
from tmkt_data.files import is_refused
from tmkt_data.prepare.finish import describe
from tmkt_data.prepare.plan import PreparePlan, require_current
from tmkt_data.sample_ids import rows_of

_RULE = "shards 1"
"""Which samples stand in which shard, in the keys of shards; another number where that changes."""


@dataclass(frozen=True)
class ShardedPlan:
    """What `prepare` writes as shards and an index.

    The ids of both sides are sorted and cut into ranges of equal length. A shard holds the recordings and images of one
    range, so twins stand in the same shard.

    Attributes:
        whole: The plan of the cache; its path is that of the index.
        num_shards: Number of shards, 1 or more.
    """

    whole: PreparePlan
    num_shards: int

    def __post_init__(self) -> None:
        most = len(self._ids)
        if not 1 <= self.num_shards <= most:
            raise SpecError(f"shards: found {self.num_shards}, expected 1 to {most}, the number of sample ids")

    def __len__(self) -> int:
        return self.num_shards

    @cached_property
    def _ids(self) -> NDArray[np.bytes_]:
        return np.union1d(self.whole.catalogue.recordings.ids, self.whole.catalogue.images.ids)

    @cached_property
    def _starts(self) -> dict[str, list[int]]:
        """First source of each shard, and the number of sources, by side."""
        first = self._ids[np.arange(1, self.num_shards) * len(self._ids) // self.num_shards]
        catalogue, starts = self.whole.catalogue, {}
        for side, sources in (("events", catalogue.recordings), ("images", catalogue.images)):
            starts[side] = [0, *np.searchsorted(sources.ids, first).tolist(), len(sources)]
        return starts

    def names(self) -> list[str]:
        """Return the paths of the shards, relative to the folder of the index."""
        folder = f"{self.whole.path.name}.shards"
        return [f"{folder}/{shard:05d}-of-{self.num_shards:05d}.h5" for shard in range(1, self.num_shards + 1)]

    def key(self, shard: int) -> str:
        """Return the key of the plan of a shard, counted from 0."""
        return hashlib.sha256(f"{_RULE} {self.whole.key} {shard} {self.num_shards}\n".encode()).hexdigest()

    def shard(self, shard: int) -> PreparePlan:
        """Return the plan of a shard, counted from 0: a whole cache of its samples, with the splits of the plan."""
        catalogue, rows = self.whole.catalogue, self.rows(shard)
        part = dataclasses.replace(
            catalogue, recordings=catalogue.recordings[rows["events"]], images=catalogue.images[rows["images"]]
        )
        path = self.whole.path.parent / self.names()[shard]
        return dataclasses.replace(
            self.whole, catalogue=part, path=path, key=self.key(shard), drawn_over=catalogue.recordings
        )

    def rows(self, shard: int) -> dict[str, slice]:
        """Return which sources of each side stand in a shard, counted from 0."""
        return {side: slice(*starts[shard : shard + 2]) for side, starts in self._starts.items()}

    @cached_property
    def index(self) -> CacheInfo | None:
        """What the file at the path of the index says, None where there is none or a damaged one."""
        return _index_at(self.whole.path)


def _index_at(path: Path) -> CacheInfo | None:
    try:
        return read_cache_info(path) if path.exists() else None
    except CacheError as damaged:
        if is_refused(damaged):
            raise
        return None


def num_shards_within(plan: PreparePlan, shard_bytes: int) -> int:
    """Return how many shards of at most about a number of bytes a plan makes."""
    return max(1, -(-plan.num_bytes // shard_bytes))


def num_shards_there(plan: PreparePlan) -> int | None:
    """Return of how many shards the index of a plan is, None where its path holds no index of this plan."""
    found = _index_at(plan.path)
    return None if found is None or found.shards is None or found.plan != plan.key else len(found.shards)


def find_prepared_index(plan: ShardedPlan) -> CacheInfo | None:
    """Return the cache of a plan whose shards are all there, or None where its index has to be written."""
    try:
        return Cache(plan.whole.path).info
    except CacheError:
        return None


def require_shardable(plan: ShardedPlan) -> None:
    """Refuse to write shards over another cache.

    Raises:
        CacheError: The path of the index holds another cache, or this one in another form.
    """
    path, found = plan.whole.path, plan.index
    if found is None:
        return
    if found.plan != plan.whole.key:
        raise CacheError(
            f"{path}: holds another cache ({found.dataset}, {found.num_recordings} recordings); "
            "give another --out, or --force to replace it"
        )
    there = 1 if found.shards is None else len(found.shards)
    if found.shards is None or there != len(plan):
        form = "one file" if found.shards is None else counted(there, "shard")
        raise CacheError(
            f"{path}: holds this cache as {form}, expected {counted(len(plan), 'shard')}; use it as it is, "
            "give another --out, or --force to replace it"
        )


def shard_problem(plan: ShardedPlan, shard: int, *, skip_bad: bool = False) -> str | None:
    """Return why a shard, counted from 0, has to be made, or None where it is there.

    A shard that was written to after the index is read as a whole; others are known by their first bytes and tables.

    Raises:
        CacheError: A source has changed since it was made, or its place is taken by the cache of something else.
        CatalogueError: It holds duplicates across splits, which are to be refused.
    """
    planned = plan.shard(shard)
    try:
        planned.bring()
        if not planned.path.exists():
            return f"{planned.path} is missing"
        cache = Cache(planned.path)
        if cache.info.plan == planned.key and _is_newer(planned.path, plan):
            for _ in verify_cache(planned.path):
                pass
    except CacheError as damaged:
        if is_refused(damaged):
            raise
        return str(damaged)
    if cache.info.plan != planned.key:
        return _stranger(plan, shard, cache)
    try:
        require_current(planned, cache, skip_bad=skip_bad)
    except CacheError as outdated:
        raise CacheError(f"shard {shard + 1}/{len(plan)}: {outdated}") from outdated
    return None


def _is_newer(path: Path, plan: ShardedPlan) -> bool:
    return plan.index is not None and path.stat().st_mtime_ns > plan.whole.path.stat().st_mtime_ns


def _stranger(plan: ShardedPlan, shard: int, cache: Cache) -> str:
    path = cache.info.path
    other = next((number for number in range(len(plan)) if plan.key(number) == cache.info.plan), None)
    if other is not None:
        return f"{path} holds shard {other + 1}, expected shard {shard + 1} of {len(plan)}"
    if plan.index is not None:
        return f"{path} holds a shard of another plan"
    raise CacheError(
        f"{path}: holds a shard of another plan ({cache.info.dataset}, {cache.info.num_recordings} recordings); "
        "give another --out, or --force to replace it"
    )


def missing_shards(plan: ShardedPlan, *, skip_bad: bool = False) -> Iterator[tuple[int, str]]:
    """Yield each shard that has to be made, counted from 0, and why; errors as `shard_problem`."""
    for shard in range(len(plan)):
        problem = shard_problem(plan, shard, skip_bad=skip_bad)
        if problem is not None:
            yield shard, problem


def write_shard_index(plan: ShardedPlan) -> None:
    """Write the index over all shards of a plan, which are there.

    Raises:
        CacheError: A shard cannot be read, or the index cannot be written.
        CatalogueError: Samples of equal content are in different splits, and that is to be refused.
    """
    whole, names = plan.whole, plan.names()
    shards = [read_cache_info(whole.path.parent / name) for name in names]
    sides = {"events": whole.catalogue.recordings, "images": whole.catalogue.images}
    rows = {}
    for side, sources in sides.items():
        ids = np.concatenate([read_tables(shard.path, [f"{side}/id"])[f"{side}/id"] for shard in shards])
        rows[side] = ShardRows(side, rows_of(sources.ids, ids) >= 0, shards)
    content = describe(whole, rows["events"], rows["images"])
    sizes = np.array([[shard.num_recordings, shard.num_images] for shard in shards], np.int64)
    found = ShardSet.of(whole.path, names, [shard.digest for shard in shards], sizes)
    arrays = [array.with_rows(int(found.starts[array.side][-1])) for array in whole.arrays]
    write_index(found, content, arrays)
