"""Download files over HTTP: resumable, verified before they are put in place."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from tmkt_data.errors import CatalogueError
from tmkt_data.files import file_digest, sync_folder
from tmkt_data.locks import lock
from tmkt_data.sources.urls import Download

TIMEOUT_S = 30.0
_CHUNK = 1 << 18
_PARTIAL, _OK = 206, 200
_RANGE_REFUSED = 416


class Transfer(NamedTuple):
    """Progress of a download in bytes; `total` is -1 if unknown."""

    done: int
    total: int


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to web addresses only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError(f"redirect to {newurl[:60]!r}, which is not a web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(entry: Download, folder: Path, urls: Sequence[str] | None = None) -> Iterator[Transfer]:
    """Download one file of a dataset from the first address that serves it completely and correctly.

    A partial download is kept as `.NAME.part` and resumed if the server supports it.

    Args:
        entry: The file.
        folder: Target folder; created if missing.
        urls: Addresses to try in turn; None for those of the entry.

    Yields:
        The progress.

    Raises:
        CatalogueError: No address serves the published file, the existing file has another digest, the disk is full,
            or another process is downloading it. Partial data is kept unless its digest is wrong.
    """
    path = folder / entry.name
    if path.is_file():
        why = _difference(path, entry)
        if why:
            raise CatalogueError(f"{path}: {why}; it is damaged, remove it and fetch it again")
        return
    part = folder / f".{entry.name}.part"
    busy = CatalogueError(f"{path}: another process is downloading it; wait for it to finish")
    reasons: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / f".{entry.name}.lock", busy):
            for url in entry.urls if urls is None else urls:
                why = yield from _from_one_source(url, part, entry)
                if not why:
                    with part.open("r+b") as written:
                        os.fsync(written.fileno())
                    part.replace(path)
                    sync_folder(folder)
                    return
                reasons.append(f"{urlsplit(url).netloc}: {why}")
    except OSError as broken:
        raise CatalogueError(
            f"{path}: cannot be written ({broken.strerror or broken}); partial data is kept"
        ) from broken
    why = "; ".join(reasons) or "no address is known"
    raise CatalogueError(f"{entry.name}: cannot be downloaded ({why}); get it by hand, or try again later")


def _from_one_source(url: str, part: Path, entry: Download) -> Generator[Transfer, None, str]:
    """Download from one address into `part`; return why it failed, or `""`.

    A file with the wrong digest is removed; if it was resumed from earlier partial data, the address is tried once more
    for the whole file.
    """
    why = ""
    for is_continued in (part.is_file() and part.stat().st_size > 0, False):
        try:
            yield from _transfer(url, part)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as broken:
            return str(getattr(broken, "reason", broken))[:80]
        why = _difference(part, entry)
        if why:
            part.unlink()
        if not why or not is_continued:
            break
    return why


def _difference(path: Path, entry: Download) -> str:
    algorithm, expected = entry.published
    found = file_digest(path, algorithm, error=CatalogueError) if algorithm else ""
    return "" if found == expected else f"{algorithm} {found}, expected {expected}"


def _transfer(url: str, part: Path) -> Iterator[Transfer]:
    """Append the missing bytes to `part`."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise urllib.error.URLError("not a web address")
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "tmkt", "Range": f"bytes={done}-"})
    try:
        answer = urllib.request.build_opener(_WebOnly).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as refused:
        if refused.code == _RANGE_REFUSED and done:
            # Either the download was complete or the file differs: the digest decides.
            return
        raise
    with answer:
        if answer.status == _OK:
            done = 0
        elif answer.status != _PARTIAL or not _continues(answer.headers.get("Content-Range", ""), done):
            raise urllib.error.URLError(f"status {answer.status} with another range than requested")
        length = answer.headers.get("Content-Length", "")
        total = done + int(length) if length.isascii() and length.isdigit() else -1
        _require_room(part.parent, total - done)
        with part.open("ab" if done else "wb") as out:
            yield from _copy(answer, out, done, total)


def _continues(content_range: str, done: int) -> bool:
    return content_range.strip().startswith(f"bytes {done}-")


def _copy(answer: IO[bytes], out: IO[bytes], done: int, total: int) -> Iterator[Transfer]:
    yield Transfer(done, total)
    while chunk := answer.read(_CHUNK):
        out.write(chunk)
        done += len(chunk)
        yield Transfer(done, total)
    if total >= 0 and done != total:
        raise urllib.error.URLError(f"received {done:,} of {total:,} bytes")


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CatalogueError(f"{folder}: {free / 1e6:.0f} MB free, needed {needed / 1e6:.0f} MB; free some space")
