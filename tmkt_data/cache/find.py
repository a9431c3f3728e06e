"""Where caches lie, how they are named, and finding them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tmkt_data.cache.reader import CacheInfo, read_cache_info
from tmkt_data.errors import CacheError
from tmkt_data.spec import PrepareSpec


def cache_directory() -> Path:
    """Return the folder of caches, which may not exist yet.

    `$TMKT_CACHES` where it is set; else `caches` in the current folder where there is such a folder; else one folder
    for all projects of the user, see `user_cache_directory`.
    """
    if given := os.environ.get("TMKT_CACHES"):
        return Path(given).expanduser()
    of_project = Path("caches")
    return of_project if of_project.is_dir() else user_cache_directory()


def user_cache_directory(platform: str = sys.platform, environment: Mapping[str, str] = os.environ) -> Path:
    r"""Return the folder of tmkt where a platform keeps the caches of a user.

    Args:
        platform: As `sys.platform`.
        environment: Variables that may name it: `XDG_CACHE_HOME`, on Windows `LOCALAPPDATA`.

    Returns:
        `~/.cache/tmkt`, on macOS `~/Library/Caches/tmkt`, on Windows `%LOCALAPPDATA%\tmkt\Cache`; `caches` in the
        current folder for a user without a home folder.

    Source: XDG Base Directory Specification 0.8, which ignores relative paths; Apple, File System Programming Guide.

    Example:
        >>> user_cache_directory("linux", {"XDG_CACHE_HOME": "/scratch/me"}).as_posix()
        '/scratch/me/tmkt'
    """
    try:
        home = Path("~").expanduser()
    except RuntimeError:
        return Path("caches")
    if platform == "darwin":
        return home / "Library" / "Caches" / "tmkt"
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local") / "tmkt" / "Cache"
    given = environment.get("XDG_CACHE_HOME", "")
    return (Path(given) if Path(given).is_absolute() else home / ".cache") / "tmkt"


def default_cache_path(dataset: str, spec: PrepareSpec, digest: str) -> Path:
    """Return the path of a cache that is given no other: a readable name with a digest, in the cache directory.

    Args:
        dataset: Name of the dataset.
        spec: The options.
        digest: Digest of what the cache is made from.
    """
    return cache_directory() / f"{dataset}-t{spec.time_bins}-{spec.size}x{spec.size}-{spec.resize}-{digest[:8]}.h5"


def caches_in(directory: Path, dataset: str) -> list[CacheInfo]:
    """Return the caches of a dataset in a folder, whatever their choices, sorted by name.

    Args:
        directory: Folder to search; it may not exist.
        dataset: Name of the dataset.

    Returns:
        Caches that can be opened; damaged and incomplete files are skipped.
    """
    found: list[CacheInfo] = []
    for path in sorted(directory.glob("*.h5")):
        try:
            info = read_cache_info(path)
        except CacheError:
            continue
        if info.dataset == dataset:
            found.append(info)
    return found
