"""What a `prepare` would write, where, and whether it is there already."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.layout import FORMAT, FORMAT_VERSION
from tmkt_data.cache.reader import Cache, CacheInfo, read_cache_info
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.errors import CacheError, CatalogueError
from tmkt_data.prepare_blocks import frames_dtype, source_bytes
from tmkt_data.spec import PrepareSpec


@dataclass(frozen=True)
class PreparePlan:
    """What `prepare` will do.

    Attributes:
        catalogue: The samples.
        spec: The choices.
        path: The cache to be written.
        key: SHA-256 over choices and source listing; equal keys give equal caches as long as the sources are.
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
    return Path(os.environ.get("TMKT_CACHES") or "caches")


def plan_prepare(catalogue: Catalogue, spec: PrepareSpec, out: Path | None = None) -> PreparePlan:
    """Say what a `prepare` would write, and where.

    Args:
        catalogue: The samples.
        spec: The choices.
        out: File to write; None for a readable name with a digest in the cache directory.

    Raises:
        CatalogueError: There is no recording or no image at all.
    """
    for side, sources in (("recording", catalogue.recordings), ("image", catalogue.images)):
        if not sources:
            raise CatalogueError(
                f"{catalogue.name}: no {side} of the classes asked for; check the folder and --class-set"
            )
    key = hashlib.sha256()
    key.update(f"{FORMAT} {FORMAT_VERSION} {catalogue.name} {spec.to_json()}\n".encode())
    key.update(json.dumps([catalogue.class_names, catalogue.sensor_size, catalogue.placement]).encode())
    for side, sources in (("e", catalogue.recordings), ("i", catalogue.images)):
        for source in sources:
            key.update(f"{side}\t{source.id}\t{source.num_bytes}\t{source.part}\t{source.item}\n".encode())
    digest = key.hexdigest()
    name = f"{catalogue.name}-t{spec.time_bins}-{spec.size}x{spec.size}-{spec.resize}-{digest[:8]}.h5"
    return PreparePlan(catalogue, spec, out if out is not None else cache_directory() / name, digest)


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


def find_prepared(plan: PreparePlan) -> CacheInfo | None:
    """Return the cache of a plan where it was prepared already.

    A source that changed after the cache was written is read again and compared with the digest in the cache.

    Raises:
        CacheError: The file is there but damaged, of another plan, or a source has changed since.
    """
    if not plan.path.exists():
        return None
    info = read_cache_info(plan.path)
    if info.plan != plan.key:
        raise CacheError(
            f"{plan.path}: holds another cache ({info.dataset}, {info.num_recordings} recordings); "
            "give another --out, or --force to replace it"
        )
    changed = _changed_sources(plan, plan.path.stat().st_mtime_ns)
    if changed:
        raise CacheError(
            f"{plan.path}: {changed[0]} has changed since it was prepared ({len(changed)} in all); "
            "give --force to prepare it again"
        )
    return info


def _changed_sources(plan: PreparePlan, written_ns: int) -> list[str]:
    sides = (("events", plan.catalogue.recordings), ("images", plan.catalogue.images))
    paths = {source.path for _, sources in sides for source in sources}
    newer = {path for path in paths if path.stat().st_mtime_ns > written_ns}
    if not newer:
        return []
    tables = Cache(plan.path).tables
    archives: dict[Path, NDArray[np.uint8]] = {}
    return [
        source.id
        for side, sources in sides
        for source, crc32 in zip(sources, tables[f"{side}/source_crc32"].tolist(), strict=True)
        if source.path in newer and zlib.crc32(source_bytes(source, archives)) != crc32
    ]
