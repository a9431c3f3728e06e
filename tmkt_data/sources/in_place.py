"""List the members of archives, so that they are read in place, within the limits of unpacking."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tmkt_data.sources.archive_members import DAMAGE, ArchiveLimits, Budget, Member, archive_members, safe_name
from tmkt_data.sources.archives import damaged_archive, duplicate_member, is_archive, member_below_file, unpack_failure
from tmkt_data.storage.member_bytes import MemberPlace
from tmkt_data.storage.member_list import COLUMNS, FORMAT

LARGEST_MEMBER = 64 << 20
"""A larger recording is decoded piece by piece, for which it has to be a file."""


def list_members(archives: Mapping[Path, str], limits: ArchiveLimits | None = None) -> dict[str, MemberPlace] | str:
    """Return where the members of archives lie, by the names that they would be unpacked to.

    Args:
        archives: Zip or tar files, each with the folder that its members lie in, as `unpack_archives`.
        limits: Limits for each archive; None for the defaults.

    Returns:
        The members; or in one line why they cannot be read in place.

    Raises:
        CatalogueError: As `unpack_archives`, except for damage that shows only when the content of a member is read.
    """
    members: dict[str, MemberPlace] = {}
    for number, (archive, folder) in enumerate(archives.items()):
        budget = Budget(archive, limits or ArchiveLimits())
        try:
            for member in archive_members(archive, budget, unpacks=False):
                name = (PurePosixPath(folder) / safe_name(member.name, archive.name)).as_posix()
                if (why := _why_not(archive, member)) or member.place is None:
                    return why
                budget.spend(member.place.num_bytes)
                if name in members:
                    raise duplicate_member(archive.name, name)
                members[name] = member.place._replace(archive=number)
        except DAMAGE as broken:
            raise damaged_archive(archive, broken) from None
        except OSError as broken:
            raise unpack_failure(archive, archive, broken) from broken
        _require_tree(members, archive.name)
    return members


def encode_member_list(archives: Sequence[Path], members: Mapping[str, MemberPlace]) -> memoryview:
    """Return the bytes of a list; equal archives and members give equal bytes."""
    known: list[dict[str, Any]] = []
    for archive in archives:
        status = archive.stat()
        known.append({"path": str(archive.absolute()), "num_bytes": status.st_size, "modified_ns": status.st_mtime_ns})
    return encode_list(known, members)


def encode_list(holders: Sequence[Mapping[str, Any]], members: Mapping[str, MemberPlace]) -> memoryview:
    """Return the bytes of a list.

    Args:
        holders: What holds the members, in the order of their numbers: fields of `Archive` or `Store`.
        members: Where each lies.
    """
    names = sorted(members, key=os.fsencode)
    encoded = [os.fsencode(name) for name in names]
    header = json.dumps({"format": FORMAT, "archives": holders}).encode()
    columns = zip(*(members[name] for name in names), strict=True) if names else [()] * len(COLUMNS)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        header=np.frombuffer(header, np.uint8),
        names=np.frombuffer(b"".join(encoded), np.uint8),
        ends=np.cumsum([len(name) for name in encoded], dtype=np.int64),
        **{name: np.array(column, kind) for (name, kind), column in zip(COLUMNS.items(), columns, strict=True)},  # type: ignore[arg-type]
    )
    return buffer.getbuffer()


def _why_not(archive: Path, member: Member) -> str:
    if member.place is None:
        return f"{archive.name} is compressed as a whole, or holds files in a form that is not read in place"
    if is_archive(Path(member.name)):
        return f"{archive.name} holds another archive"
    if member.place.num_bytes > LARGEST_MEMBER:
        return f"{archive.name} holds a file of more than {LARGEST_MEMBER >> 20} MiB"
    return ""


def _require_tree(members: Mapping[str, MemberPlace], archive: str) -> None:
    """Check that no member lies below another one, as a file cannot be a folder."""
    for folder in folders_of(members):
        if folder in members:
            raise member_below_file(archive, next(name for name in members if name.startswith(f"{folder}/")))


def folders_of(names: Iterable[str]) -> set[str]:
    """Return all folders that names with `/` lie in."""
    folders: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders
