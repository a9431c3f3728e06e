"""Caches of object stores, copied once into the cache directory and used from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from tmkt_data.cache.find import cache_directory, caches_in
from tmkt_data.cache.reader import CacheInfo, read_cache_info
from tmkt_data.cache.stand_in import require_cache
from tmkt_data.errors import CacheError, write_failure
from tmkt_data.files import atomic_write, write_bytes
from tmkt_data.locks import lock
from tmkt_data.storage.objects import StoredObject, find_object
from tmkt_data.storage.store_urls import checked_url, is_url
from tmkt_data.storage.transfer import fetch_object

FETCHED = "fetched"
"""Folder of the copies, in the cache directory."""
_AT_ONCE = 4
_WAIT_S = 3600.0

Say = Callable[[str], None]


def local_copy(url: str, say: Say = lambda _: None) -> Path:
    """Return the copy of a cache in an object store, with its shards; it is made, or renewed, where it has to be.

    Each file is known by its size, and by its MD5, tag or time of change in the store; one that was changed is copied
    again, and so is one whose copy was edited. A copy that is stopped leaves nothing that is taken for whole. Other
    processes that want the same copy wait.

    Args:
        url: The cache, or the index of one in shards.
        say: Takes a line where something is copied.

    Returns:
        Path of the copy, in the cache directory.

    Raises:
        CacheError: There is no such object, it is no cache, or the copy cannot be written.
        StoreError: The store cannot be read.
    """
    url = checked_url(url)
    name = url.rpartition("/")[2]
    folder = cache_directory() / FETCHED / hashlib.sha256(url.encode()).hexdigest()[:12]
    with _held(folder, url, say):
        _fetch(url, folder / name, say)
        shards = read_cache_info(folder / name).shards
        if shards is not None:
            above = url.rpartition("/")[0]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                # All are waited for, and the first failure is raised.
                list(pool.map(lambda shard: _fetch(f"{above}/{shard}", folder / shard, say), shards.names))
    return folder / name


@contextmanager
def _held(folder: Path, url: str, say: Say) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(not_being_copied(folder))
        except CacheError:
            say(f"waiting for another process that copies {url} to {folder}")
            held.enter_context(not_being_copied(folder, wait_s=_WAIT_S))
        yield


def not_being_copied(folder: Path, *, wait_s: float = 0) -> AbstractContextManager[None]:
    """Hold the lock of those who copy to a folder; a copy in progress raises `CacheError`."""
    busy = CacheError(f"{folder}: another process is copying a cache to it; wait for it to end")
    return lock(folder / ".lock", busy, wait_s=wait_s)


def find_copies(dataset: str) -> list[CacheInfo]:
    """Return the copies of caches of a dataset, as `caches_in` does those of one folder."""
    folders = sorted((cache_directory() / FETCHED).glob("*"))
    return [info for folder in folders for info in caches_in(folder, dataset)]


def token_of(path: Path) -> Path:
    """Return the file that says of which object a file is the copy."""
    return path.with_name(f".{path.name}.token")


def local_path(path: str | Path, say: Say = lambda _: None) -> Path:
    """Return a path as it is, and of a URL its `local_copy`."""
    return local_copy(path, say) if isinstance(path, str) and is_url(path) else Path(path)


def _fetch(url: str, path: Path, say: Say) -> None:
    found = find_object(url)
    if found is None:
        raise CacheError(f"{url}: no such object; check the URL, or make it with tmkt-data prepare")
    token = token_of(path)
    with suppress(OSError):
        if token.read_bytes() == _known(found, path):
            return
    require_cache(url, found)
    say(f"copying {url} to {path}, {found.num_bytes / 1e6:.1f} MB")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        token.unlink(missing_ok=True)
    except OSError as broken:
        raise CacheError(write_failure(path, broken)) from broken
    with atomic_write(path, sync="nothing", error=CacheError) as copy:
        fetch_object(found, Path(copy.name))
    # Written last: until then the file is of no known state, and is copied again.
    write_bytes(token, _known(found, path), error=CacheError)


def _known(found: StoredObject, path: Path) -> bytes:
    """Return what tells an object from a changed one, and its copy from one that was edited."""
    status = path.stat()
    return json.dumps([found.num_bytes, found.token, status.st_size, status.st_mtime_ns]).encode()
