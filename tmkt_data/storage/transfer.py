"""Objects of stores, read and written."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tmkt_data.errors import NO_SPACE, StoreError
from tmkt_data.storage.connection import explained, path_in, pool, system_of
from tmkt_data.storage.objects import StoredObject, find_object, md5_token
from tmkt_data.storage.store_urls import is_flat, is_http

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path


def read_object(url: str, num_bytes: int, token: int) -> bytes:
    """Return the bytes of an object as it was listed.

    Args:
        url: The object.
        num_bytes: Its size.
        token: See `StoredObject`.

    Raises:
        StoreError: It cannot be read, or was changed since it was listed.
    """
    with explained(url, "read"):
        data: bytes = system_of(url).cat_file(path_in(url))
        # Where the token is of the MD5, the bytes tell; elsewhere the store is asked after they were read.
        is_listed = len(data) == num_bytes and (
            md5_token(hashlib.md5(data, usedforsecurity=False).digest()) == token
            or StoredObject.of(url, system_of(url).info(path_in(url))).token == token
        )
    if not is_listed:
        raise StoreError(f"{url}: was changed since it was listed; run it again, which lists it again")
    return data


def request(url: str, num_bytes: int, token: int) -> Future[bytes]:
    """Begin to read an object, as `read_object`, beside other requests."""
    return pool().submit(read_object, url, num_bytes, token)


def read_range(url: str, first: int, end: int) -> bytes:
    """Return some bytes of an object.

    Raises:
        StoreError: They cannot be read.
    """
    with explained(url, "read"):
        data: bytes = system_of(url).cat_file(path_in(url), start=first, end=end)
    if len(data) != end - first:
        raise StoreError(f"{url}: {len(data)} bytes from {first}, expected {end - first}; it was changed, run it again")
    return data


def open_object(url: str) -> Any:
    """Return an object as a file that is read from the store piece by piece; errors as `read_range`."""
    with explained(url, "read"):
        return system_of(url).open(path_in(url), "rb", block_size=1 << 18)


def fetch_object(found: StoredObject, path: Path) -> None:
    """Copy an object to a file, which is overwritten.

    Raises:
        OSError: The file cannot be written.
        StoreError: The object cannot be read, or was changed meanwhile.
    """
    path.write_bytes(b"")
    try:
        with explained(found.name, "copied"):
            system_of(found.name).get_file(path_in(found.name), str(path))
    except StoreError as failed:
        # What copies from a store writes the file, too.
        if isinstance(failed.__cause__, OSError) and failed.__cause__.errno in NO_SPACE:
            raise failed.__cause__ from None
        raise
    if find_object(found.name) != found or path.stat().st_size != found.num_bytes:
        raise StoreError(f"{found.name}: was changed while it was copied; run it again")


def require_writable(url: str) -> None:
    """Check that something can be written below a URL.

    Raises:
        StoreError: It is that of a web server.
    """
    if is_http(url):
        raise StoreError(f"{url}: a web server, which takes no files; expected a store such as s3://bucket/cache.h5")


def put_object(path: Path, url: str) -> None:
    """Copy a file to an object, which is there under its name once it is complete.

    Raises:
        StoreError: It cannot be written, or has another size afterwards.
    """
    with explained(url, "written"):
        system, name = system_of(url), path_in(url)
        if is_flat(url):
            system.put_file(str(path), name)
        else:
            # Stores that are folders show what is being written.
            folder, _, last = name.rpartition("/")
            temporary = f"{folder}/.{last}.{secrets.token_hex(4)}.tmp"
            system.makedirs(folder, exist_ok=True)
            try:
                system.put_file(str(path), temporary)
                system.mv(temporary, name)
            finally:
                if system.exists(temporary):
                    system.rm_file(temporary)
    found = find_object(url)
    if found is None or found.num_bytes != path.stat().st_size:
        raise StoreError(f"{url}: does not hold what was just written to it; check the store, and run it again")


def remove_object(url: str) -> None:
    """Remove an object, if it is there.

    Raises:
        StoreError: It cannot be removed.
    """
    with explained(url, "removed"), suppress(FileNotFoundError):
        system_of(url).rm_file(path_in(url))
