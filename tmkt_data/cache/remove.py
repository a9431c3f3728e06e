"""Remove a cache, or shards that one left behind: only what is one, and nothing that is being built or read."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from tmkt_data.cache.build_folder import not_being_built
from tmkt_data.cache.fetched import FETCHED, not_being_copied, token_of
from tmkt_data.cache.reader import read_cache_info
from tmkt_data.errors import CacheError

_PROCESSES = Path("/proc")
_SHARD = re.compile(r"\d{5}-of-\d{5}\.h5", re.ASCII)


def remove_cache(path: Path) -> int:
    """Remove the file of a cache, and the shards of an index; also of a copy of one in an object store.

    A removal that is stopped between shards leaves the index, which goes last; remove it again.

    Readers are found on Linux, among the processes that this user may look at. Elsewhere the system decides: Windows
    removes no open file, and macOS keeps it for those who have it open.

    Returns:
        Number of bytes that are free again.

    Raises:
        CacheError: The file is no cache, is being built or read, or cannot be removed.
    """
    info = read_cache_info(path)
    files = [path]
    if info.shards is not None:
        shards = (info.shards.path(shard) for shard in range(len(info.shards)))
        files = [*(shard for shard in shards if shard.exists()), path]
        for shard in files[:-1]:
            read_cache_info(shard)
    is_copy = path.parent.parent.name == FETCHED
    with ExitStack() as locked:
        if is_copy:
            locked.enter_context(not_being_copied(path.parent))
        for file in files:
            locked.enter_context(not_being_built(file))
            reader = next(_readers(file), None)
            if reader is not None:
                raise CacheError(f"{file}: process {reader} is reading it, expected nobody; wait for it to end")
        try:
            for file in files:
                file.unlink()
                if is_copy:
                    token_of(file).unlink(missing_ok=True)
        except OSError as error:
            raise CacheError(f"{path}: cannot be removed ({error.strerror or error})") from None
    for folder in {file.parent for file in files[:-1]} - {path.parent}:
        # The folder of the shards, unless other files are in it.
        with suppress(OSError):
            folder.rmdir()
    if is_copy:
        with suppress(OSError):
            path.parent.rmdir()
    return info.num_bytes


def remove_replaced(index: Path, kept: Collection[str] = ()) -> list[Path]:
    """Remove the shards that another cache left beside one that has taken the place of its index.

    Only files that have the names of shards and are caches go.

    Args:
        index: The new cache, in place.
        kept: Its own shards, paths relative to its folder.

    Returns:
        What stays: shards that are being read or made, or are damaged.
    """
    folder = index.with_name(f"{index.name}.shards")
    own = {index.parent / name for name in kept}
    left = []
    for path in sorted(path for path in folder.glob("*.h5") if _SHARD.fullmatch(path.name) and path not in own):
        try:
            read_cache_info(path)
            is_used = any(folder.glob(f"{path.name}*.building")) or next(_readers(path), None) is not None
            if is_used:
                left.append(path)
            else:
                path.unlink()
        except (CacheError, OSError):
            left.append(path)
    with suppress(OSError):
        folder.rmdir()
    return left


def _readers(path: Path) -> Iterator[int]:
    """Yield the processes that have a file open, or in their memory."""
    real = os.path.realpath(path)
    if not _PROCESSES.is_dir():
        return
    for process in _PROCESSES.iterdir():
        if not process.name.isdecimal():
            continue
        # A process may end while it is looked at, and those of other users may not be.
        with suppress(OSError):
            if any(_target(handle) == real for handle in (process / "fd").iterdir()) or _maps(process, real):
                yield int(process.name)


def _target(handle: Path) -> str:
    try:
        return str(handle.readlink())
    except OSError:
        return ""


def _maps(process: Path, real: str) -> bool:
    lines = (process / "maps").read_bytes().splitlines()
    return any(line.split(maxsplit=5)[5:] == [os.fsencode(real)] for line in lines)
