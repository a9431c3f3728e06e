"""URLs of object stores: what is one, what it may hold, and what kind of store it names."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, urlsplit

from tmkt_data.errors import StoreError, printable

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
_BEYOND = re.compile(r"[?#]")
_SIGNED = re.compile(r"[?&](sig|[a-z-]*signature)=", re.ASCII | re.IGNORECASE)
_FLAT = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
_WITH_PORT = ("http", "https", "hdfs", "file")
"""Where digits after a colon are a port, whatever follows; elsewhere a password may begin with them."""


def is_url(text: object) -> bool:
    """Return whether something is the URL of a store, not a path.

    Example:
        >>> is_url("s3://bucket/a.h5"), is_url("C:/a.h5")
        (True, False)
    """
    return isinstance(text, str) and _URL.match(text) is not None


def checked_url(text: str) -> str:
    """Return a URL without the slashes at its end.

    Raises:
        StoreError: It holds a password or a signature, is a chain of URLs, or names no host or bucket.
    """
    try:
        parts = urlsplit(text)
    except ValueError:  # Of brackets that hold no address.
        raise StoreError(f"{printable(text.rpartition('@')[2])}: expected a URL such as s3://bucket/folder") from None
    # After all that a password may be in: with a slash in it, it seems to end the host.
    shown = printable(f"{parts.scheme}://{_BEYOND.split(text.partition('://')[2].rpartition('@')[2])[0]}")
    is_login = is_http(text) and (parts.query or parts.username)
    is_cut = "@" in parts.path + parts.query + parts.fragment and _holds_password(parts)
    if is_login or is_cut or parts.password is not None or _SIGNED.search(text):
        raise StoreError(
            f"{shown}: found a URL with a password or a signature, expected one without; put "
            "credentials into the configuration of the store or of fsspec"
        )
    if "::" in text or not text.isprintable() or not (parts.netloc or parts.path.strip("/")):
        raise StoreError(f"{shown}: expected a URL such as s3://bucket/folder")
    return text.rstrip("/")


def _holds_password(parts: SplitResult) -> bool:
    """Return whether a colon stands before no port, or where none can be."""
    scheme = parts.scheme.lower()
    try:
        has_port = parts.port is not None or parts.netloc.endswith(":")
    except ValueError:
        return True
    return has_port and (scheme in _FLAT or (scheme not in _WITH_PORT and "@" not in parts.netloc))


def object_at(url: str, name: str) -> str:
    """Return the URL of an object below a URL."""
    return f"{url}/{quote(name) if is_http(url) else name}" if name else url


def is_http(url: str) -> bool:
    """Return whether a URL is that of a web server."""
    return url.lower().startswith(("http://", "https://"))


def is_flat(url: str) -> bool:
    """Return whether a store has no folders, and lists all objects below a prefix at once."""
    return urlsplit(url).scheme.lower() in _FLAT
