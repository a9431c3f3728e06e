"""Find caches on disk."""

from __future__ import annotations

import os
from pathlib import Path

from tmkt_data.cache.reader import CacheInfo, read_cache_info
from tmkt_data.errors import CacheError


def cache_directory() -> Path:
    """Return the folder of caches: `$TMKT_CACHES`, or `caches` in the current folder."""
    return Path(os.environ.get("TMKT_CACHES") or "caches").expanduser()


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
