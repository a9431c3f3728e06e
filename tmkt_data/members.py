"""Members of archives as files: `LIST.members/NAME` is a member that a list of members names, read in place.

A list is a small file of its own. It says where each member lies in which archive or object store, so nothing but the
member is read, from any number of threads and processes. Paths that name no member are those of the file system, at no
cost.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import tempfile
import zipfile
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import CatalogueError
from tmkt_data.member_bytes import Archive, FileStatus, MemberPlace, Store

SUFFIX = ".members"
FORMAT = "tmkt-members 1"
AHEAD_FILES, AHEAD_BYTES = 64, 32 << 20
"""What is asked of a store ahead of its use by each of several threads, at most and about."""
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
                return members, _plain(name[1:])
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
        with np.load(path, allow_pickle=False) as stored:
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


def open_member(path: str | Path) -> io.BytesIO | None:
    """Return a member as a file in memory, None for a path that leads into no list.

    Raises:
        FileNotFoundError: There is no such member.
        IsADirectoryError: It is a folder.
        CatalogueError: As `MemberList.read`.
    """
    found = split_member(path)
    if found is None:
        return None
    members, name = found
    place = members.find(name)
    if place is None:
        number = errno.EISDIR if members.is_folder(name) else errno.ENOENT
        raise OSError(number, os.strerror(number), os.fspath(path))
    return io.BytesIO(members.read(place, name))


def file_status(path: str | Path) -> FileStatus:
    """Return size and times of a file or member; errors as `os.stat`."""
    found = split_member(path)
    if found is None:
        status = os.stat(path)  # noqa: PTH116 - not a Path for each of millions
        return FileStatus(status.st_size, status.st_mtime_ns, max(status.st_mtime_ns, status.st_ctime_ns))
    place = found[0].find(found[1])
    if place is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    return found[0].status(place)


def is_in_store(path: str) -> bool:
    """Return whether a path leads to an object of a store, which takes its time to answer."""
    return _stored_member(path) is not None


def _stored_member(path: str) -> tuple[Store, MemberPlace, str] | None:
    """Return the store, the place and the name of an object that a path leads to, None for any other path."""
    found = split_member(path)
    if found is None:
        return None
    members, name = found
    place = members.find(name)
    store = None if place is None else members.store_of(place)
    return None if place is None or store is None else (store, place, name)


def is_file(path: Path) -> bool:
    """Return whether a path is a file, or a member."""
    found = split_member(path)
    return path.is_file() if found is None else found[0].find(found[1]) is not None


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, or has members below it."""
    found = split_member(path, or_list=True)
    return path.is_dir() if found is None else found[0].is_folder(found[1])


@contextmanager
def scan(folder: str | Path) -> Iterator[Iterator[os.DirEntry[str] | Entry]]:
    """Give what lies in a folder, of members, too; errors as `os.scandir`."""
    found = split_member(folder, or_list=True)
    if found is not None:
        yield iter(found[0].entries(found[1]))
        return
    with os.scandir(folder) as entries:
        yield entries


@contextmanager
def on_disk(path: Path) -> Iterator[Path]:
    """Give a file of the file system: a path itself, or while the block runs a copy of a member, under its name."""
    member = open_member(path)
    if member is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tmkt-") as folder:
        copy = Path(folder, path.name)
        try:
            copy.write_bytes(member.getbuffer())
        except OSError as broken:
            reason = f"cannot be written ({broken.strerror or broken})"
            raise CatalogueError(f"{copy}: {reason}; free some space, or set TMPDIR to another disk") from broken
        yield copy


@contextmanager
def asked_ahead(paths: Sequence[str]) -> Iterator[Callable[[int], None]]:
    """Ask stores for files before they are read, since each answer takes a while; other files cost nothing.

    Args:
        paths: The files, in the order in which they are read once each; `""` for none.

    Yields:
        To be called with the number of a file before it is read.
    """
    if not any(SUFFIX in path for path in paths):
        yield lambda _: None
        return
    asked: deque[tuple[int, Store, str, int]] = deque()
    following = 0

    def ask(at: int) -> None:
        nonlocal following
        while asked and asked[0][0] < at:
            _, holder, name, _ = asked.popleft()
            holder.forget(name)
        following, room = max(following, at), AHEAD_BYTES - sum(num_bytes for *_, num_bytes in asked)
        while following < len(paths) and following - at < AHEAD_FILES and room > 0:
            found = _stored_member(paths[following])
            if found is not None:
                store, place, name = found
                store.ask(place, name)
                asked.append((following, store, name, place.num_bytes))
                room -= place.num_bytes
            following += 1

    try:
        yield ask
    finally:
        ask(len(paths))
