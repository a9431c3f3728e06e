"""Where caches lie, how they are named, and finding them."""

from __future__ import annotations

import os
from pathlib import Path

from tmkt_data.cache.reader import CacheInfo, read_cache_info
from tmkt_data.errors import CacheError
from tmkt_data.spec import PrepareSpec


def cache_directory() -> Path:
    """Return the folder of caches: `$TMKT_CACHES`, or `caches` in the current folder."""
    return Path(os.environ.get("TMKT_CACHES") or "caches").expanduser()


def default_cache_path(dataset: str, spec: PrepareSpec, digest: str) -> Path:
    """Return the path of a cache that is given no other: a readable name with a digest, in the cache directory.

    Args:
        dataset: Name of the dataset.
        spec: The options.
        digest: Digest of what the cache is made from.
    """
    return cache_directory() / f"{dataset}-t{spec.time_bins}-{spec.size}x{spec.size}-{spec.resize}-{digest[:8]}.h5"


def find_caches(dataset: str, directory: Path | None = None) -> list[CacheInfo]:
    """Return the caches of a dataset, whatever their choices, sorted by name.

    Args:
        dataset: Name of the dataset.
        directory: Folder to search; None for the cache directory.

    Returns:
        Caches that can be opened; damaged and incomplete files are skipped.
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
