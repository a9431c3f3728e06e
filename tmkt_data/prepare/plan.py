"""What a `prepare` would write, where, and whether it is there already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.build_folder import BlockPlace, folder_of, not_being_built, this_machine
from tmkt_data.cache.find import default_cache_path
from tmkt_data.cache.format import FORMAT, FORMAT_VERSION, FrameArray, frame_arrays
from tmkt_data.cache.reader import Cache, CacheInfo
from tmkt_data.datasets.cameras import require_camera
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.duplicates import duplicates_in
from tmkt_data.datasets.image_reader import source_checksum
from tmkt_data.datasets.recording_reader import RecordingReader, apply_overrides, files_beside
from tmkt_data.datasets.source_table import Source, SourceTable
from tmkt_data.datasets.splits import SPLIT_RULES
from tmkt_data.errors import CacheError, CatalogueError, TmktError
from tmkt_data.events.read import NOTHING_GIVEN
from tmkt_data.prepare.blocks import BUILD_COLUMNS, CONVERSION, STAGES, Block
from tmkt_data.prepare.drawn_splits import REFUSED, duplicate_rule, require_none
from tmkt_data.prepare.outdated import outdated_images, outdated_recordings
from tmkt_data.prepare.store_target import StoreTarget
from tmkt_data.sample_ids import encode_id, rows_of, texts_of
from tmkt_data.spec import PrepareSpec, RecordingKind
from tmkt_data.storage.member_files import file_status
from tmkt_data.storage.store_urls import is_url

BLOCK_BYTES = 1 << 23
"""Approximate bytes of the frames of a block: what each worker loses when a run is stopped."""
_CHUNK = 1 << 14


@dataclass(frozen=True)
class PreparePlan:
    """What `prepare` will do.

    Attributes:
        catalogue: The samples.
        spec: The choices.
        path: The cache to be written.
        key: SHA-256 over choices and sample ids; equal keys give equal caches as long as the sources are equal.
        drawn_over: Recordings that the splits are drawn over, for a shard; None: those of the cache.
        target: Where the cache goes from `path`, for one in an object store.
    """

    catalogue: Catalogue
    spec: PrepareSpec
    path: Path
    key: str
    drawn_over: SourceTable | None = None
    target: StoreTarget | None = None

    @cached_property
    def arrays(self) -> list[FrameArray]:
        """The arrays of frames, where no source is left out."""
        return frame_arrays(self.spec, len(self.catalogue.recordings), len(self.catalogue.images))

    @cached_property
    def blocks(self) -> list[Block]:
        """The work in blocks, recordings first; the same ones for equal plans, however often they are interrupted."""
        recordings = self._blocks("events", self.catalogue.recordings, self.catalogue.kind)
        return [*recordings, *self._blocks("images", self.catalogue.images, "files")]

    @property
    def build_key(self) -> str:
        """What blocks of an interrupted run have to be of: this plan, these columns, and this way of conversion."""
        return f"{self.key}-{len(BUILD_COLUMNS)}-{CONVERSION}"

    @property
    def build_folder(self) -> Path:
        """Where it is built: a shard in a folder of this machine, as two may build it at the same time."""
        return folder_of(self.path, "" if self.drawn_over is None else this_machine())

    def bring(self) -> None:
        """Find out what a store holds of a cache that goes there, see `StoreTarget.bring`.

        Raises:
            CacheError: As there; or it is being built on this machine.
            StoreError: As there.
        """
        if self.target is not None:
            # Who builds it uploads the file that a stand-in would replace.
            with not_being_built(self.path, self.build_folder):
                self.target.bring(self.path.relative_to(self.target.folder).as_posix(), self.key)

    @property
    def num_bytes(self) -> int:
        """Size of the frames to be written; the tables come on top, about 150 bytes a sample."""
        return sum(array.num_bytes for array in self.arrays)

    def _blocks(self, side: str, sources: SourceTable, kind: RecordingKind) -> Iterator[Block]:
        row_bytes = sum(array.row_bytes for array in self.arrays if array.side == side)
        # Images are small and slow to decode: there have to be blocks for every worker.
        per_block = min(256, max(16, BLOCK_BYTES // row_bytes))
        # A side without samples is one empty block.
        for first in range(0, max(1, len(sources)), per_block):
            place = BlockPlace(f"{STAGES[side]}-{first // per_block:06d}", side, first)
            yield Block(place, sources[first : first + per_block], kind)


def plan_prepare(catalogue: Catalogue, spec: PrepareSpec, out: str | Path | None = None) -> PreparePlan:
    """Plan what `prepare` writes, and where.

    Args:
        catalogue: The samples.
        spec: The choices.
        out: File to write, or the URL of an object as text; None for a readable name with a digest in the cache
            directory.

    Raises:
        CatalogueError: There is no recording. A cache without images serves event-only training.
        SpecError: A sensor size for a dataset that has its own, or baked saccades for one whose camera path is unknown.
    """
    if not catalogue.recordings:
        raise CatalogueError(
            f"{catalogue.name}: no recording of the classes asked for; check the folder and --class-set"
        )
    catalogue = apply_overrides(catalogue, spec)
    if spec.bake == "saccade":
        require_camera(catalogue.name, spec)
    key = hashlib.sha256()
    key.update(f"{FORMAT} {FORMAT_VERSION} {SPLIT_RULES} {catalogue.name} {spec.to_json()}\n".encode())
    key.update(json.dumps([catalogue.class_names, catalogue.sensor_size, catalogue.placement]).encode())
    if catalogue.reading != NOTHING_GIVEN:
        key.update(json.dumps([catalogue.reading.sensor_size, *catalogue.reading.to_dict().values()]).encode())
    key.update(catalogue.recorded_with.encode())
    for side, sources in (("e", catalogue.recordings), ("i", catalogue.images)):
        for lines in _lines_of(side, sources):
            key.update(lines)
    digest = key.hexdigest()
    if isinstance(out, str) and is_url(out):
        target = StoreTarget.of(out)
        return PreparePlan(catalogue, spec, target.path, digest, target=target)
    if out is not None:
        return PreparePlan(catalogue, spec, Path(out), digest)
    plan = PreparePlan(catalogue, spec, default_cache_path(catalogue.cache_name, spec, digest), digest)
    if not catalogue.own_name or plan.path.exists():
        return plan
    # Caches of before are named by ids alone, which folders of one's own may share.
    earlier = replace(plan, path=default_cache_path(catalogue.name, spec, digest))
    return earlier if _is_prepared(earlier) else plan


def _is_prepared(plan: PreparePlan) -> bool:
    try:
        return find_prepared(plan, skip_bad=True) is not None
    except TmktError:
        return False


def _lines_of(side: str, sources: SourceTable) -> Iterator[bytes]:
    """Yield the lines of a key about the sources of a side, many at a time."""
    for first in range(0, len(sources), _CHUNK):
        some = sources[first : first + _CHUNK]
        pairs = zip(texts_of(some.ids), some.parts.tolist(), strict=True)
        yield encode_id("".join(f"{side}\t{sample}\t{part}\n" for sample, part in pairs))


def find_prepared(plan: PreparePlan, *, skip_bad: bool = False) -> CacheInfo | None:
    """Return the cache of a plan, or None where it has not been prepared.

    A source that was modified after the cache was written is read again and compared with its checksum in the cache.

    Args:
        plan: The plan.
        skip_bad: Accept a cache from which unreadable files were left out.

    Raises:
        CacheError: The file is damaged, of another plan, or lacks files that were unreadable; a source has changed
            since; or an earlier version read a recording or an image wrongly.
        CatalogueError: It holds duplicates across splits, which are to be refused.
    """
    if not plan.path.exists():
        return None
    try:
        cache = Cache(plan.path)
    except CacheError as damaged:
        raise CacheError(f"{damaged} (tmkt-data prepare --force replaces it)") from damaged
    if cache.info.plan != plan.key:
        raise CacheError(
            f"{plan.path}: holds another cache ({cache.info.dataset}, {cache.info.num_recordings} recordings); "
            "give another --out, or --force to replace it"
        )
    require_current(plan, cache, skip_bad=skip_bad)
    return cache.info


def require_current(plan: PreparePlan, cache: Cache, *, skip_bad: bool = False) -> None:
    """Refuse the cache of a plan that would be another one if it were prepared now; arguments as `find_prepared`.

    Raises:
        CacheError: It lacks files that were unreadable, a source has changed, or an earlier version read one wrongly.
        CatalogueError: It holds duplicates across splits, which are to be refused.
    """
    changed = _changed_sources(plan, cache)
    if changed:
        raise CacheError(
            f"{plan.path}: {changed[0]} has changed since it was prepared ({len(changed)} in all); "
            "give --force to prepare it again"
        )
    for what, find in (("", outdated_recordings), ("image ", outdated_images)):
        outdated = find(plan.catalogue, plan.spec, cache)
        if outdated:
            raise CacheError(
                f"{plan.path}: {what}{outdated[0]} is read differently now: an earlier version read it wrongly "
                f"({len(outdated)} in all); give --force to prepare it again"
            )
    if cache.info.skipped and not skip_bad:
        raise CacheError(
            f"{plan.path}: was prepared without {len(cache.info.skipped)} unreadable files, such as "
            f"{cache.info.skipped[0]['id']}; fix them and give --force, or give --skip-bad to use it as it is"
        )
    if duplicate_rule(plan.catalogue, plan.spec) == "refuse":
        # Caches of earlier versions may hold some.
        require_none(plan.catalogue, duplicates_in(cache.tables, REFUSED))


def _changed_sources(plan: PreparePlan, cache: Cache) -> list[str]:
    written_ns = plan.path.stat().st_mtime_ns
    archives: dict[Path, NDArray[np.uint8]] = {}
    reader = RecordingReader(plan.catalogue, plan.spec)
    changed: list[str] = []
    left_out = {(entry["side"], entry["id"]): entry["bytes"] for entry in cache.info.skipped}
    for side, sources in (("events", plan.catalogue.recordings), ("images", plan.catalogue.images)):
        kind = plan.catalogue.kind if side == "events" else "files"
        rows = rows_of(sources.ids, cache.tables[f"{side}/id"])
        sizes, digests = (cache.tables[f"{side}/{name}"] for name in ("source_bytes", "source_xxh3"))
        for source, row in zip(sources, map(int, rows), strict=True):
            if row < 0:
                is_changed = left_out.get((side, source.id)) != source.num_bytes
            elif source.item < 0 and source.num_bytes != int(sizes[row]):
                is_changed = True
            # A simulated recording changes with its image alone, which is looked at.
            elif kind != "simulated" and _changed_ns(source, kind) > written_ns:
                now = reader.checksum_of(source) if kind == "slices" else source_checksum(source, archives)
                is_changed = now != int(digests[row])
            else:
                is_changed = False
            if is_changed:
                changed.append(source.id)
    return changed


def _changed_ns(source: Source, kind: RecordingKind) -> int:
    """Return when a source was changed last, or put in its place: a copy may keep the time of another file."""
    return max(file_status(file).changed_ns for file in (source.path, *files_beside(source, kind)))
