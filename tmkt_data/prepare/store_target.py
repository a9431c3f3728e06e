"""A cache that goes to an object store: built on this machine, then uploaded; stand-ins tell what is there already."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tmkt_data.cache.reader import CacheInfo, read_cache_info
from tmkt_data.cache.stand_in import become_stand_in, fetch_stand_in, require_cache
from tmkt_data.cache.verify import verify_cache
from tmkt_data.errors import CacheError, StoreError, write_failure
from tmkt_data.files import is_refused
from tmkt_data.storage.objects import StoredObject, find_object
from tmkt_data.storage.store_urls import checked_url
from tmkt_data.storage.transfer import put_object, require_writable


class StoreTarget(NamedTuple):
    """Where a cache goes in a store, and where it is built.

    Attributes:
        url: Folder of the cache in the store.
        folder: Folder of this machine, of the same files: those that are being built, and stand-ins of what is there.
        name: Name of the cache, or of its index.
    """

    url: str
    folder: Path
    name: str

    @classmethod
    def of(cls, url: str) -> StoreTarget:
        """Return the target that a URL names, and make its folder, below the system's for temporary files.

        Raises:
            StoreError: The URL names no file, or nothing can be written there.
            CacheError: The folder cannot be made, or belongs to somebody else.
        """
        url = checked_url(url)
        require_writable(url)
        above, _, name = url.rpartition("/")
        if above.endswith(":/"):
            raise StoreError(f"{url}: names no object, expected one such as {url}/cache.h5")
        user = os.getuid() if hasattr(os, "getuid") else 0
        home = Path(tempfile.gettempdir()) / f"tmkt-{user}"
        folder = home / hashlib.sha256(url.encode()).hexdigest()[:12]
        try:
            home.mkdir(mode=0o700, exist_ok=True)
            status = home.lstat()
            if not stat.S_ISDIR(status.st_mode) or (user and status.st_uid != user):
                raise CacheError(f"{home}: belongs to somebody else; set TMPDIR to a folder of your own")
            folder.mkdir(exist_ok=True)
        except OSError as broken:
            raise CacheError(write_failure(folder, broken)) from broken
        return cls(above, folder, name)

    @property
    def path(self) -> Path:
        """Path of the cache on this machine."""
        return self.folder / self.name

    def url_of(self, path: Path) -> str:
        """Return the URL of a file of this machine."""
        return f"{self.url}/{path.relative_to(self.folder).as_posix()}"

    def bring(self, name: str, key: str) -> None:
        """Make a file of this machine that of the store, as a stand-in.

        A whole cache of this machine was built by a run that was stopped before it was in the store. It is uploaded if
        the store has none, or an earlier one, which it was to replace. That of another plan stays where it is.

        Args:
            name: The file, relative to the folder.
            key: Key of the plan that is asked for.

        Raises:
            CacheError: What is in the store is no cache; or a file cannot be read or written.
            StoreError: The store cannot be read or written; or this machine holds a whole cache of another plan.
        """
        path, found = self.folder / name, find_object(f"{self.url}/{name}")
        left = self._left(path, found)
        if left is not None:
            if left.plan != key:
                home = self.folder.parent.parent
                raise StoreError(
                    f"{self.url}/{name}: found another cache built for it here ({left.dataset}, "
                    f"{left.num_recordings} recordings) and not uploaded, expected none; prepare that one again, which "
                    f"uploads it, or remove {path.relative_to(home)} in {home}, or give --force to replace both"
                )
            self.put(name)
            return
        if found is None:
            path.unlink(missing_ok=True)
            return
        if name != self.name and self.path.exists():
            # An upload is complete: a shard that is newer than its index is not looked at as a whole.
            found = found._replace(modified_ns=min(found.modified_ns, self.path.stat().st_mtime_ns))
        fetch_stand_in(f"{self.url}/{name}", found, path)

    def _left(self, path: Path, found: StoredObject | None) -> CacheInfo | None:
        """Return a whole cache of this machine that is newer than what was found; None if the file is none."""
        if not path.exists() or (found is not None and path.stat().st_mtime_ns <= found.modified_ns):
            return None
        try:
            info = read_cache_info(path)
            if info.shards is not None or (found is not None and _digest_of(found) == info.digest):
                return None
            for _ in verify_cache(path):
                pass
        except CacheError as damaged:
            if is_refused(damaged):
                raise
            return None
        return info

    def put(self, name: str) -> None:
        """Upload a file of this machine, of which a stand-in is left; errors as `put_object`."""
        path = self.folder / name
        put_object(path, f"{self.url}/{name}")
        become_stand_in(path)

    def drop(self, names: Sequence[str]) -> None:
        """Remove stand-ins, and folders that are empty then; what is being built stays."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
        for folder in (self.folder / f"{self.name}.shards", self.folder):
            with suppress(OSError):
                folder.rmdir()


def _digest_of(found: StoredObject) -> str:
    """Return the content digest of a cache in a store, `""` of anything else."""
    try:
        return require_cache(found.name, found).digest
    except CacheError:
        return ""
