"""List the objects below a URL of an object store, so that they are read as files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple

from tmkt_data.datasets.catalogue import is_plain
from tmkt_data.errors import CatalogueError
from tmkt_data.sources.archives import is_archive
from tmkt_data.sources.in_place import encode_list, folders_of
from tmkt_data.storage.member_bytes import STORED, MemberPlace
from tmkt_data.storage.objects import MAX_OBJECTS, StoredObject, list_objects
from tmkt_data.storage.store_urls import checked_url

_MAX_NAME = 1024
_UNREADABLE = "which are links to folders or to nothing, no files, or of unknown size"


class StoreList(NamedTuple):
    """What lies below a URL.

    Attributes:
        url: The URL.
        objects: Where each object that can be a file lies, by its name below the URL.
        left_out: Names of the others, by why they are not read.
    """

    url: str
    objects: dict[str, MemberPlace]
    left_out: dict[str, list[str]]


def list_store(url: str) -> StoreList:
    """List the objects below a URL.

    Raises:
        CatalogueError: There is none, the URL is that of a single object, or there are too many.
        StoreError: The store cannot be listed.
    """
    url = checked_url(url)
    found: dict[str, StoredObject] = {}
    left_out: dict[str, list[str]] = {}
    for item in list_objects(url):
        why = _UNREADABLE if item.num_bytes < 0 else _why_not(item.name)
        if why:
            left_out.setdefault(why, []).append(item.name)
        else:
            found[item.name] = item
        if len(found) > MAX_OBJECTS:
            raise CatalogueError(f"{url}: holds more than {MAX_OBJECTS} objects; give the folder of the dataset itself")
    if "" in found:
        raise CatalogueError(f"{url}: one object, expected the folder of a dataset; give the URL above it")
    folders = folders_of(found)
    for name in sorted(folders & found.keys()):
        if found.pop(name).num_bytes:
            left_out.setdefault("with names of folders", []).append(name)
    if not found:
        raise CatalogueError(f"{url}: holds no object that could be a file; check the URL")
    places = {
        name: MemberPlace(0, item.modified_ns, item.num_bytes, item.num_bytes, STORED, item.token)
        for name, item in found.items()
    }
    return StoreList(url, places, left_out)


def encode_store_list(listed: StoreList) -> bytes:
    """Return the bytes of a list of members; equal objects give equal bytes."""
    return bytes(encode_list([{"url": listed.url}], listed.objects))


def _why_not(name: str) -> str:
    parts = PurePosixPath(name).parts
    if "__MACOSX" in parts or any(part.startswith("._") for part in parts):
        return "of macOS"
    if name and ("/".join(parts) != name or ".." in parts or not is_plain(name) or len(name) > _MAX_NAME):
        return "whose names are none of files"
    return (
        "archives, which are not read in a store; unpack or copy them"
        if name and is_archive(PurePosixPath(name))
        else ""
    )
