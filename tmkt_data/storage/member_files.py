"""Members of archives and stores as files: `LIST.members/NAME` is a member that a list names, read in place.

Nothing but the member is read, from any number of threads and processes. Paths that name no member are those of the
file system, at no cost.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tmkt_data.errors import CatalogueError
from tmkt_data.storage.member_bytes import FileStatus, MemberPlace, Store
from tmkt_data.storage.member_list import SUFFIX, Entry, split_member

AHEAD_FILES, AHEAD_BYTES = 64, 32 << 20
"""What is asked of a store ahead of its use by each of several threads, at most and about."""


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
