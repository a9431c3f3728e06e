"""Objects of stores, such as `s3://bucket/folder` holds: what a store says of them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote

from tmkt_data.errors import StoreError
from tmkt_data.storage.connection import explained, is_missing, path_in, pool, system_of
from tmkt_data.storage.store_urls import is_flat, is_http

MAX_OBJECTS = 20_000_000
"""Objects and folders that are listed at once, at most."""
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "Last-Modified", "modified", "created")
_TAGS = ("ETag", "etag", "generation", "version_id")
_DEEPEST = 32
"""Folders within folders that are searched: links of a store may lead around in a circle."""


class StoredObject(NamedTuple):
    """An object of a store.

    Attributes:
        name: Its key below the URL that was listed, or its whole URL.
        num_bytes: Its size; -1 of what is listed and cannot be read: a link to a folder or to nothing, a pipe, or an
            object of unknown size.
        modified_ns: When it was changed, in ns, 0 where the store does not say.
        token: A number that changes with its content: of its MD5, or of the tag or time that the store gives it.
    """

    name: str
    num_bytes: int
    modified_ns: int
    token: int

    @classmethod
    def of(cls, name: str, info: Mapping[str, Any]) -> StoredObject:
        """Return an object from what its store says of it."""
        return cls(name, _size(info), _modified_ns(info), _token(info))


def find_object(url: str) -> StoredObject | None:
    """Return what a store says of an object, None where there is none; its name is the URL.

    Raises:
        StoreError: The store cannot be asked.
    """
    with explained(url, "read"):
        try:
            info = system_of(url).info(path_in(url))
        except FileNotFoundError as error:
            if is_missing(error):
                return None
            raise
        if info.get("type") != "file":
            return None
        if info.get("size") is None:
            raise StoreError(
                f"{url}: found an object of unknown size, expected one whose size the store tells; download it, and "
                "give the file"
            )
        return StoredObject.of(url, info)


def list_objects(url: str) -> Iterator[StoredObject]:
    """Yield the objects below a URL, named relative to it, in no order; the URL itself, if it is one, is named `""`.

    Raises:
        StoreError: The store cannot be listed.
    """
    with explained(url, "listed"):
        system, prefix = system_of(url), path_in(url)
        found: dict[str, Any] = system.find(prefix, detail=True) if is_flat(url) else _walked(system, prefix)
        if not found:
            # Says whether there is no such place, or no access.
            system.ls(prefix)
        # A link says what it leads to when it is asked for itself.
        unclear = [path for path, at in found.items() if _size(at) < 0]
        found.update(zip(unclear, pool().map(partial(_info_of, system), unclear), strict=True))
    for path, info in found.items():
        name = path.removeprefix(prefix).lstrip("/")
        is_below = path == prefix or path.startswith(f"{prefix.rstrip('/')}/")
        # Objects that stand for folders, and pages of a listing in another order.
        is_none = name.startswith("?") if is_http(url) else is_flat(url) and info.get("type") == "directory"
        if is_below and not is_none:
            name = unquote(name) if is_http(url) else name
            yield StoredObject.of(name, info)


def _size(info: Mapping[str, Any]) -> int:
    is_file = info.get("type", "file") == "file" and info.get("size") is not None
    return int(info["size"]) if is_file else -1


def _info_of(system: Any, path: str) -> dict[str, Any]:
    try:
        return dict(system.info(path))
    except FileNotFoundError as error:
        if not is_missing(error):
            raise
        # Of a link to nothing.
        return {}


def _walked(system: Any, folder: str) -> dict[str, Any]:
    """Return what `find` does, which would leave a folder out that cannot be read."""
    found: dict[str, Any] = {}
    level, depth, num_folders = [folder], 0, 0
    while level:
        if depth > _DEEPEST:
            last = level[0].rstrip("/").rpartition("/")[2]
            raise StoreError(
                f"{folder}: found folders {depth} deep, such as {last}, expected at most {_DEEPEST}; is there a link "
                "to a folder above it?"
            )
        below: list[str] = []
        for infos in pool().map(partial(system.ls, detail=True), level):
            for info in infos:
                if info["type"] == "directory":
                    below.append(info["name"])
                else:
                    found[info["name"]] = info
            # Links that lead around in a circle double the folders of each level.
            if len(found) + num_folders + len(below) > MAX_OBJECTS:
                raise StoreError(
                    f"{folder}: found more than {MAX_OBJECTS} objects and folders, expected fewer; give the folder of "
                    "the dataset itself, without links to a folder above it"
                )
        num_folders += len(below)
        level, depth = below, depth + 1
    return found


def _token(info: Mapping[str, Any]) -> int:
    """Return the token of what a store says of an object, see `StoredObject`."""
    for digest in (info.get("md5Hash"), (info.get("content_settings") or {}).get("content_md5")):
        if isinstance(digest, str):
            return md5_token(base64.b64decode(digest))
        if digest:
            return md5_token(bytes(digest))
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), str(_modified_ns(info)))
    return _hashed(tag.strip('"').lower())


def md5_token(digest: bytes) -> int:
    """Return the token of an object whose content has an MD5."""
    return _hashed(digest.hex())


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _modified_ns(info: Mapping[str, Any]) -> int:
    found = next((info[name] for name in _TIMES if info.get(name)), 0)
    if isinstance(found, str):
        found = _time_in(found)
    if isinstance(found, datetime):
        found = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return round(found * 1e9)


def _time_in(text: str) -> datetime:
    from email.utils import parsedate_to_datetime

    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)
