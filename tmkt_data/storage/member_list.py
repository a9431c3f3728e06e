"""Lists of members: small files that say where each member lies in which archive or object store."""

from __future__ import annotations

import errno
import json
import os
import stat
import zipfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import CatalogueError
from tmkt_data.storage.member_bytes import Archive, FileStatus, MemberPlace, Store

SUFFIX = ".members"
FORMAT = "tmkt-members 1"
COLUMNS = {"archive": "<i2", "offset": "<i8", "num_packed": "<i8", "num_bytes": "<i8", "method": "<i2", "crc": "<i8"}
"""Columns of a list, one row a member: the fields of `MemberPlace`."""


class Entry(NamedTuple):
    """A file or folder in a folder, with the face of `os.DirEntry`; a folder has no size."""

    name: str
    path: str
    num_bytes: int | None

    def is_dir(self, **_: bool) -> bool:
        """Return whether it is a folder; members are no links."""
        return self.num_bytes is None

    def is_file(self, **_: bool) -> bool:
        """Return whether it is a file."""
        return self.num_bytes is not None

    def stat(self, **_: bool) -> os.stat_result:
        """Return its size; all else is 0."""
        return os.stat_result((0, 0, 0, 0, 0, 0, self.num_bytes or 0, 0, 0, 0))


class _Names(Sequence[bytes]):
    """Names as one text, sorted bytewise."""

    def __init__(self, text: bytes, ends: NDArray[np.int64]) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, at: Any) -> Any:
        return self._text[int(self._ends[at - 1]) if at else 0 : int(self._ends[at])]


class MemberList:
    """A list of members that was read.

    Attributes:
        path: Its file.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.path = path
        self._holders = [Store(**held) if "url" in held else Archive(**held) for held in header["archives"]]
        self._names = _Names(arrays["names"].tobytes(), arrays["ends"])
        self._columns = [arrays[name] for name in COLUMNS]
        self._last = -1

    def find(self, name: str) -> MemberPlace | None:
        """Return where a member lies, None where there is none of the name."""
        sought = os.fsencode(name)
        # Members are mostly asked for in their order.
        at = self._last + 1
        if at >= len(self._names) or self._names[at] != sought:
            at = bisect_left(self._names, sought)
            if at == len(self._names) or self._names[at] != sought:
                return None
        self._last = at
        return MemberPlace(*(int(column[at]) for column in self._columns))

    def is_folder(self, name: str) -> bool:
        """Return whether there are members below a name; `""` is the whole list."""
        return next(self._children(name), None) is not None

    def entries(self, name: str) -> list[Entry]:
        """Return what lies in a folder.

        Raises:
            FileNotFoundError: There is no such folder.
            NotADirectoryError: It is a file.
        """
        found = [Entry(child, f"{self._folder(name)}{child}", size) for child, size in self._children(name)]
        if not found:
            number = errno.ENOTDIR if self.find(name) is not None else errno.ENOENT
            raise OSError(number, os.strerror(number), self._folder(name))
        return found

    def _folder(self, name: str) -> str:
        return f"{os.path.join(self.path, name)}{os.sep}" if name else f"{self.path}{os.sep}"  # noqa: PTH118 - as text

    def _children(self, name: str) -> Iterator[tuple[str, int | None]]:
        prefix = os.fsencode(name) + b"/" if name else b""
        at = bisect_left(self._names, prefix)
        while at < len(self._names) and self._names[at].startswith(prefix):
            child, slash, _ = self._names[at][len(prefix) :].partition(b"/")
            yield os.fsdecode(child), None if slash else int(self._columns[3][at])
            # "0" follows "/".
            at = bisect_left(self._names, prefix + child + b"0", at) if slash else at + 1

    def read(self, place: MemberPlace, name: str) -> bytes:
        """Return the bytes of a member.

        Raises:
            CatalogueError: Its archive is gone, was changed, or is damaged.
            StoreError: It cannot be read from its store, or was changed there.
        """
        return self._holders[place.archive].read(place, name)

    def store_of(self, place: MemberPlace) -> Store | None:
        """Return the store that a member is an object of, None for a member of an archive."""
        holder = self._holders[place.archive]
        return holder if isinstance(holder, Store) else None

    def status(self, place: MemberPlace) -> FileStatus:
        """Return size and times of a member."""
        return self._holders[place.archive].status(place)


def split_member(path: str | Path, *, or_list: bool = False) -> tuple[MemberList, str] | None:
    """Return the list and the name in it of a path that leads into one, None for any other path.

    Args:
        path: The path.
        or_list: Whether the path of a list is the folder `""` of it, and not the file that it is.

    Raises:
        CatalogueError: The list is damaged.
    """
    text = os.fspath(path)
    end = text.find(SUFFIX) + len(SUFFIX)
    while end >= len(SUFFIX):
        name = text[end:]
        if name.startswith(os.sep) or (or_list and not name):
            try:
                status = os.stat(text[:end])  # noqa: PTH116 - once a member
            except (OSError, ValueError):
                return None
            # A folder may have such a name.
            if stat.S_ISREG(status.st_mode):
                members = _member_list(text[:end], status.st_mtime_ns, status.st_ino)
                return members, _plain(name.lstrip(os.sep))
        end = text.find(SUFFIX, end) + len(SUFFIX)
    return None


def _plain(name: str) -> str:
    is_plain = os.sep == "/" and not name.startswith(".") and "/." not in name and "//" not in name
    return name if is_plain or not name else Path(name).as_posix()


@lru_cache(maxsize=8)
def _member_list(path: str, *_: int) -> MemberList:
    return read_member_list(Path(path))


def read_member_list(path: Path) -> MemberList:
    """Read a list of members.

    Raises:
        CatalogueError: It cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop("header").tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}, expected {FORMAT!r}")
        return MemberList(path, header, arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as broken:
        reason = str(broken).splitlines()[0] if str(broken) else repr(broken)
        raise CatalogueError(
            f"{path}: no list of members, or a damaged one ({reason}); remove it and run it again"
        ) from broken
