"""The prepared caches of a dataset, those of today's recordings first."""

from __future__ import annotations

from pathlib import Path

from tmkt_data.cache.find import cache_directory, caches_in
from tmkt_data.cache.reader import CacheInfo
from tmkt_data.datasets.registry import is_recorded_as_now


def find_caches(dataset: str, directory: Path | None = None) -> list[CacheInfo]:
    """Return the caches of a dataset, whatever their choices.

    Args:
        dataset: Name of the dataset.
        directory: Folder to search; None for the cache directory.

    Returns:
        Caches that can be opened, sorted by name; of simulated recordings, those of an earlier camera are last.
        Damaged and incomplete files are skipped.
    """
    return sorted(caches_in(directory or cache_directory(), dataset), key=lambda info: not is_recorded_as_now(info))
