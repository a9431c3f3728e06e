"""What a `prepare` would write, where, and whether it is there already."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.format import FORMAT, FORMAT_VERSION
from tmkt_data.cache.reader import Cache, CacheInfo, read_cache_info
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.image_reader import source_checksum
from tmkt_data.datasets.recording_reader import apply_overrides
from tmkt_data.datasets.source_table import SourceTable
from tmkt_data.datasets.splits import SPLIT_RULES
from tmkt_data.errors import CacheError, CatalogueError
from tmkt_data.events.read import NOTHING_GIVEN
from tmkt_data.prepare.blocks import frames_dtype
from tmkt_data.sample_ids import encode_id, rows_of, texts_of
from tmkt_data.spec import PrepareSpec

_CHUNK = 1 << 14


@dataclass(frozen=True)
class PreparePlan:
    """What `prepare` will do.

    Attributes:
        catalogue: The samples.
        spec: The choices.
        path: The cache to be written.
        key: SHA-256 over choices and sample ids; equal keys give equal caches as long as the sources are equal.
    """

    catalogue: Catalogue
    spec: PrepareSpec
    path: Path
    key: str

    @property
    def num_bytes(self) -> int:
        """Size of the frames to be written; the tables come on top, about 150 bytes a sample."""
        cells = self.spec.time_bins * self.spec.num_channels * self.spec.size**2
        image_cells = self.spec.size**2 + (cells if self.spec.bake != "none" else 0)
        event_bytes = len(self.catalogue.recordings) * cells * frames_dtype(self.spec).itemsize
        return event_bytes + len(self.catalogue.images) * image_cells


def cache_directory() -> Path:
    """Return where caches are kept: `$TMKT_CACHES`, or `caches` in the current folder."""
    return Path(os.environ.get("TMKT_CACHES") or "caches").expanduser()


def plan_prepare(catalogue: Catalogue, spec: PrepareSpec, out: str | Path | None = None) -> PreparePlan:
    """Say what a `prepare` would write, and where.

    Args:
        catalogue: The samples.
        spec: The choices.
        out: File to write; None for a readable name with a digest in the cache directory.

    Raises:
        CatalogueError: There is no recording at all. Without images a cache serves event-only training.
        SpecError: A sensor size for a dataset that has its own.
    """
    if not catalogue.recordings:
        raise CatalogueError(
            f"{catalogue.name}: no recording of the classes asked for; check the folder and --class-set"
        )
    catalogue = apply_overrides(catalogue, spec)
    key = hashlib.sha256()
    key.update(f"{FORMAT} {FORMAT_VERSION} {SPLIT_RULES} {catalogue.name} {spec.to_json()}\n".encode())
    key.update(json.dumps([catalogue.class_names, catalogue.sensor_size, catalogue.placement]).encode())
    if catalogue.reading != NOTHING_GIVEN:
        key.update(json.dumps(catalogue.reading).encode())
    for side, sources in (("e", catalogue.recordings), ("i", catalogue.images)):
        for lines in _lines_of(side, sources):
            key.update(lines)
    digest = key.hexdigest()
    name = f"{catalogue.name}-t{spec.time_bins}-{spec.size}x{spec.size}-{spec.resize}-{digest[:8]}.h5"
    return PreparePlan(catalogue, spec, Path(out) if out is not None else cache_directory() / name, digest)


def _lines_of(side: str, sources: SourceTable) -> Iterator[bytes]:
    """Yield what a key says of the sources of a side, a line each, many at a time."""
    for first in range(0, len(sources), _CHUNK):
        some = sources[first : first + _CHUNK]
        pairs = zip(texts_of(some.ids), some.parts.tolist(), strict=True)
        yield encode_id("".join(f"{side}\t{sample}\t{part}\n" for sample, part in pairs))


def find_caches(dataset: str, directory: Path | None = None) -> list[CacheInfo]:
    """Return the caches of a dataset, whatever their choices, sorted by name.

    Args:
        dataset: Name of the dataset.
        directory: Where to look; None for the cache directory.

    Returns:
        Caches that can be opened; a file that is no whole cache is passed over.
    """
    found: list[CacheInfo] = []
    for path in sorted((directory or cache_directory()).glob("*.h5")):
        try:
            info = read_cache_info(path)
        except CacheError:
            continue
        if info.dataset == dataset:
            found.append(info)
    return found


def find_prepared(plan: PreparePlan, *, skip_bad: bool = False) -> CacheInfo | None:
    """Return the cache of a plan where it was prepared already.

    A source whose size or time of change differs is read again and compared with the digest in the cache.

    Args:
        plan: What would be written.
        skip_bad: Take a cache from which unreadable files were left out.

    Raises:
        CacheError: The file is there but damaged, of another plan, without files that were unreadable then, or a source
            has changed since.
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
    changed = _changed_sources(plan, cache)
    if changed:
        raise CacheError(
            f"{plan.path}: {changed[0]} has changed since it was prepared ({len(changed)} in all); "
            "give --force to prepare it again"
        )
    if cache.info.skipped and not skip_bad:
        raise CacheError(
            f"{plan.path}: was prepared without {len(cache.info.skipped)} unreadable files, such as "
            f"{cache.info.skipped[0]['id']}; mend them and give --force, or give --skip-bad to take it as it is"
        )
    return cache.info


def _changed_sources(plan: PreparePlan, cache: Cache) -> list[str]:
    written_ns = plan.path.stat().st_mtime_ns
    archives: dict[Path, NDArray[np.uint8]] = {}
    changed: list[str] = []
    left_out = {(entry["side"], entry["id"]): entry["bytes"] for entry in cache.info.skipped}
    for side, sources in (("events", plan.catalogue.recordings), ("images", plan.catalogue.images)):
        rows = rows_of(sources.ids, cache.tables[f"{side}/id"])
        sizes, digests = (cache.tables[f"{side}/{name}"] for name in ("source_bytes", "source_xxh3"))
        for source, row in zip(sources, map(int, rows), strict=True):
            if row < 0:
                is_changed = left_out.get((side, source.id)) != source.num_bytes
            elif source.item < 0 and source.num_bytes != int(sizes[row]):
                is_changed = True
            elif os.stat(source.file).st_mtime_ns > written_ns:  # noqa: PTH116 - not a Path for each of millions
                is_changed = source_checksum(source, archives) != int(digests[row])
            else:
                is_changed = False
            if is_changed:
                changed.append(source.id)
    return changed
