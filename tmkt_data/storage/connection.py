"""Connections to object stores, the one home of fsspec: how one is opened, and its errors in one line.

Credentials, endpoints and other options of a store are those of its own configuration and of fsspec's; none is taken
from a URL, written to a file or shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tmkt_data.errors import StoreError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

IN_FLIGHT = 64
"""Requests of a process at the same time, over all its threads."""
_GONE = (404, 410)
_DENIED = re.compile(r"access ?denied|forbidden|unauthorized|\b40[13]\b")


def system_of(url: str) -> Any:
    """Return the file system of fsspec that a URL is in."""
    parts = urlsplit(url)
    # Some stores take the account from the host, none takes anything from the path.
    return _opened(f"{parts.scheme.lower()}://{parts.netloc}/")


def path_in(url: str) -> str:
    """Return the path of a URL in its file system."""
    path: str = system_of(url)._strip_protocol(url)  # noqa: SLF001 - the public way to split a URL is to open it again
    return path


@contextmanager
def explained(url: str, done: str) -> Iterator[None]:
    """Turn what a store raises in the block into one line."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # Each store raises errors of its own libraries, which have no class in common.
        reason, advice = _why(_origin(error))
        raise StoreError(f"{url}: cannot be {done} ({reason}); {advice}") from error


def is_missing(error: FileNotFoundError) -> bool:
    """Return whether a store said that there is no such object.

    For web servers, fsspec also raises it where nobody answered, or where the answer was another one.
    """
    return _origin(error) is error


def _origin(error: BaseException) -> BaseException:
    """Return what fsspec made a missing object of, or the error itself."""
    cause = error.__cause__
    while isinstance(cause, FileNotFoundError):
        cause = cause.__cause__
    if not isinstance(error, FileNotFoundError) or cause is None:
        return error
    kinds = " ".join(kind.__name__ for kind in type(cause).__mro__).lower()
    is_other = "timeout" in kinds or "connect" in kinds or getattr(cause, "status", 404) not in _GONE
    return cause if is_other else error


def _why(error: BaseException) -> tuple[str, str]:
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


@lru_cache(maxsize=1)
def pool() -> ThreadPoolExecutor:
    """Return the threads that requests of this process run on."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="store")
