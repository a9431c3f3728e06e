"""Object stores: list, read and write what a URL such as `s3://bucket/folder` names. The one home of fsspec.

Credentials, endpoints and other options of a store are those of its own configuration and of fsspec's; none is taken
from a URL, written to a file or shown.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from tmkt_data.errors import NO_SPACE, StoreError
from tmkt_data.store_urls import is_flat, is_http

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

IN_FLIGHT = 64
"""Requests of a process at the same time, over all its threads."""
MAX_OBJECTS = 20_000_000
"""Objects and folders that are listed at once, at most."""
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "Last-Modified", "modified", "created")
_TAGS = ("ETag", "etag", "generation", "version_id")
_DEEPEST = 32
"""Folders within folders that are searched: links of a store may lead around in a circle."""
_DENIED = re.compile(r"access ?denied|forbidden|unauthorized|\b40[13]\b")


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


def list_objects(url: str) -> Iterator[StoredObject]:
    """Yield the objects below a URL, named relative to it, in no order; the URL itself, if it is one, is named `""`.

    Raises:
        StoreError: The store cannot be listed.
    """
    with _explained(url, "listed"):
        system, prefix = _system(url), _path(url)
        found: dict[str, Any] = system.find(prefix, detail=True) if is_flat(url) else _walked(system, prefix)
        if not found:
            # Says whether there is no such place, or no access.
            system.ls(prefix)
        # A link says what it leads to when it is asked for itself.
        unclear = [path for path, at in found.items() if _size_in(at) < 0]
        found.update(zip(unclear, _pool().map(partial(_info_of, system), unclear), strict=True))
    for path, info in found.items():
        name = path.removeprefix(prefix).lstrip("/")
        is_below = path == prefix or path.startswith(f"{prefix.rstrip('/')}/")
        # Objects that stand for folders, and pages of a listing in another order.
        is_none = name.startswith("?") if is_http(url) else is_flat(url) and info.get("type") == "directory"
        if is_below and not is_none:
            name = unquote(name) if is_http(url) else name
            yield StoredObject(name, _size_in(info), _modified_ns(info), _token(info))


def _size_in(info: Mapping[str, Any]) -> int:
    is_file = info.get("type", "file") == "file" and info.get("size") is not None
    return int(info["size"]) if is_file else -1


def _info_of(system: Any, path: str) -> dict[str, Any]:
    try:
        return dict(system.info(path))
    except FileNotFoundError:  # Of a link to nothing.
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
        for infos in _pool().map(partial(system.ls, detail=True), level):
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


def read_object(url: str, num_bytes: int, token: int) -> bytes:
    """Return the bytes of an object as it was listed.

    Args:
        url: The object.
        num_bytes: Its size.
        token: See `StoredObject`.

    Raises:
        StoreError: It cannot be read, or was changed since it was listed.
    """
    with _explained(url, "read"):
        data: bytes = _system(url).cat_file(_path(url))
        # Where the token is of the MD5, the bytes tell; elsewhere the store is asked after they were read.
        is_listed = len(data) == num_bytes and (
            _number(hashlib.md5(data, usedforsecurity=False).hexdigest()) == token
            or _token(_system(url).info(_path(url))) == token
        )
    if not is_listed:
        raise StoreError(f"{url}: was changed since it was listed; run it again, which lists it again")
    return data


def request(url: str, num_bytes: int, token: int) -> Future[bytes]:
    """Begin to read an object, as `read_object`, beside other requests."""
    return _pool().submit(read_object, url, num_bytes, token)


def find_object(url: str) -> StoredObject | None:
    """Return what a store says of an object, None where there is none; its name is the URL.

    Raises:
        StoreError: The store cannot be asked.
    """
    with _explained(url, "read"):
        try:
            info = _system(url).info(_path(url))
        except FileNotFoundError:
            return None
        if info.get("type") != "file":
            return None
        if info.get("size") is None:
            raise StoreError(
                f"{url}: found an object of unknown size, expected one whose size the store tells; download it, and "
                "give the file"
            )
        return StoredObject(url, int(info["size"]), _modified_ns(info), _token(info))


def read_range(url: str, first: int, end: int) -> bytes:
    """Return some bytes of an object.

    Raises:
        StoreError: They cannot be read.
    """
    with _explained(url, "read"):
        data: bytes = _system(url).cat_file(_path(url), start=first, end=end)
    if len(data) != end - first:
        raise StoreError(f"{url}: {len(data)} bytes from {first}, expected {end - first}; it was changed, run it again")
    return data


def open_object(url: str) -> Any:
    """Return an object as a file that is read from the store piece by piece; errors as `read_range`."""
    with _explained(url, "read"):
        return _system(url).open(_path(url), "rb", block_size=1 << 18)


def fetch_object(found: StoredObject, path: Path) -> None:
    """Copy an object to a file, which is overwritten.

    Raises:
        OSError: The file cannot be written.
        StoreError: The object cannot be read, or was changed meanwhile.
    """
    path.write_bytes(b"")
    try:
        with _explained(found.name, "copied"):
            _system(found.name).get_file(_path(found.name), str(path))
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
    with _explained(url, "written"):
        system, name = _system(url), _path(url)
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
    with _explained(url, "removed"), suppress(FileNotFoundError):
        _system(url).rm_file(_path(url))


@contextmanager
def _explained(url: str, done: str) -> Iterator[None]:
    """Turn what a store raises in the block into one line."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # Each store raises errors of its own libraries, which have no class in common.
        reason, advice = _why(error)
        raise StoreError(f"{url}: cannot be {done} ({reason}); {advice}") from error


def _why(error: Exception) -> tuple[str, str]:
    """Return what went wrong, and what to do."""
    text = " ".join(str(error).split())[:160] or type(error).__name__
    known, kinds = text.lower(), " ".join(kind.__name__ for kind in type(error).__mro__).lower()
    if isinstance(error, ModuleNotFoundError):
        return f"found no {error.name}", "install it with: pip install 'tmkt[stores]'"
    if isinstance(error, ImportError):
        return text, "install it with pip"
    if "protocol not known" in known:
        return text, "check the URL"
    if isinstance(error, FileNotFoundError):
        return "no such object, folder or bucket", "check the URL"
    if isinstance(error, PermissionError) or _DENIED.search(known):
        return "access denied", "check the credentials of the store, and their rights"
    if "credential" in known:
        return text, "configure the credentials of the store"
    if "timeout" in kinds or "connect" in kinds + known:
        return f"no connection, {text}", "check the store and the network, and run it again"
    return text, "check the store, and run it again"


@lru_cache(maxsize=16)
def _opened(url: str) -> Any:
    import fsspec

    # Listings are not kept: what the store says is what it holds now.
    return fsspec.url_to_fs(url, use_listings_cache=False)[0]


def _system(url: str) -> Any:
    parts = urlsplit(url)
    # Some stores take the account from the host, none takes anything from the path.
    return _opened(f"{parts.scheme.lower()}://{parts.netloc}/")


def _path(url: str) -> str:
    path: str = _system(url)._strip_protocol(url)  # noqa: SLF001 - the public way to split a URL is to open it again
    return path


def _token(info: Mapping[str, Any]) -> int:
    """Return the token of what a store says of an object, see `StoredObject`."""
    for digest in (info.get("md5Hash"), (info.get("content_settings") or {}).get("content_md5")):
        if isinstance(digest, str):
            return _number(base64.b64decode(digest).hex())
        if digest:
            return _number(bytes(digest).hex())
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), str(_modified_ns(info)))
    return _number(tag.strip('"').lower())


def _number(text: str) -> int:
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


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="store")
