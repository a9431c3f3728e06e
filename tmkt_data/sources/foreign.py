"""Archives and object stores as folders: unpacked, or listed so that what they hold is read in place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tmkt_data.datasets.catalogue import Catalogue, some
from tmkt_data.errors import CatalogueError, counted, printable
from tmkt_data.files import write_bytes
from tmkt_data.sources.archives import unpack_archives
from tmkt_data.sources.in_place import LARGEST_MEMBER, encode_member_list, list_members
from tmkt_data.sources.in_store import encode_store_list, list_store
from tmkt_data.sources.unpacked import in_use, is_recorded, remove_unused
from tmkt_data.sources.urls import check_inside, check_known, known_file
from tmkt_data.storage.member_list import SUFFIX, split_member

READ_IN_PLACE = ("esimagenet", "folder", "ncaltech101", "nmnist")
"""Datasets whose files are all found and read by `tmkt_data.storage`; archives of others are unpacked."""
Say = Callable[[str], None]


class Place(NamedTuple):
    """A folder to search; a foreign one was unpacked from an archive, or is the list of its members."""

    folder: Path
    is_foreign: bool = False


class ForeignPlaces:
    """Makes folders of archives and object stores.

    Args:
        name: Name of the dataset.
        folder: Where archives are unpacked to, or lists of members are written.
        is_unpacked: Whether archives are unpacked that could be read in place.
        say: Called with messages.
        held: Holds what was unpacked until it is closed.
    """

    def __init__(self, name: str, folder: Path, *, is_unpacked: bool, say: Say, held: ExitStack) -> None:
        self._name, self._folder, self._is_unpacked, self._say, self._held = name, folder, is_unpacked, say, held
        self._has_store = False

    def store(self, url: str) -> Place:
        """List the objects below a URL, and return the list as a folder; one for each URL, renewed by each call.

        Raises:
            CatalogueError: The dataset cannot be read from a store, or there is nothing to be read.
            StoreError: The store cannot be listed.
        """
        if self._name not in READ_IN_PLACE:
            raise CatalogueError(
                f"{url}: {self._name} is not read from object stores, expected one of {', '.join(READ_IN_PLACE)}; "
                "copy it to a disk, or mount what the URL names"
            )
        listed, self._has_store = list_store(url), True
        url = listed.url
        self._say(f"reading {counted(len(listed.objects), 'object')} of {url} in place")
        for why, names in listed.left_out.items():
            self._say(f"note: not read: {counted(len(names), 'object')} ({some(names)}) {why}")
        target = self._folder / f"{self._name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}{SUFFIX}"
        data = encode_store_list(listed)
        # Left as it is where nothing was changed: others may be reading it.
        if not target.is_file() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, data, error=CatalogueError)
        return Place(target, is_foreign=True)

    def archives(self, archives: Sequence[Path]) -> Place:
        """Return the folder that archives are unpacked into, or the list of their members."""
        digest = hashlib.sha256()
        for archive in archives:
            status = archive.stat()
            digest.update(
                f"{archive.absolute()}|{status.st_size}|{status.st_mtime_ns}\n".encode(errors="surrogateescape")
            )
        target = self._folder / f"{self._name}-{digest.hexdigest()[:12]}"
        if not target.is_dir() and not self._is_unpacked and self._name in READ_IN_PLACE:
            members = target.with_name(f"{target.name}{SUFFIX}")
            if members.is_file() or self._list(archives, members):
                return Place(members, is_foreign=True)
        if target.is_dir() and not is_recorded(target):
            self._say(f"unpacking again, since an earlier version unpacked {target}")
            if not remove_unused(target):
                raise CatalogueError(f"{target}: another process is using this folder; wait for it to end")
        if not target.is_dir():
            self._unpack_to_folder(archives, target)
        self._held.enter_context(in_use(target))
        return Place(target, is_foreign=True)

    def _list(self, archives: Sequence[Path], target: Path) -> bool:
        """List the members of archives; return False where they have to be unpacked."""
        members = list_members(self._folders(archives))
        if isinstance(members, str):
            self._say(f"note: {members}, so it is unpacked")
            return False
        for archive in archives:
            self._say(f"reading {archive} in place{self._as_published(archive)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, encode_member_list(archives, members), error=CatalogueError)
        return True

    def _unpack_to_folder(self, archives: Sequence[Path], target: Path) -> None:
        for archive in archives:
            self._say(f"unpacking {archive} to {target}{self._as_published(archive)}")
        for _ in unpack_archives(self._folders(archives), target, check=partial(check_inside, self._name)):
            pass

    def _folders(self, archives: Sequence[Path]) -> dict[Path, str]:
        known = {archive: known_file(self._name, archive.name) for archive in archives}
        return {archive: "." if file is None else file.folder for archive, file in known.items()}

    def _as_published(self, archive: Path) -> str:
        digest = check_known(self._name, archive)
        return f" ({digest}, as published)" if digest else ""

    def require_small(self, catalogue: Catalogue) -> None:
        """Check that no recording of an object store is so large that it is decoded piece by piece, from a file.

        Raises:
            CatalogueError: One is.
        """
        for source in catalogue.recordings if self._has_store else ():
            if source.num_bytes > LARGEST_MEMBER and split_member(source.file) is not None:
                raise CatalogueError(
                    f"{printable(source.id)}: found a recording of {source.num_bytes >> 20} MiB, expected at most "
                    f"{LARGEST_MEMBER >> 20} MiB in an object store; copy the dataset to a disk"
                )
