"""The catalogue of a dataset: its samples, their classes and twins, before anything is decoded."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tmkt_data.datasets.completeness import NOTHING_DECLARED, Declared
from tmkt_data.datasets.source_table import SourceTable
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import SensorSize, Window
from tmkt_data.events.read import NOTHING_GIVEN, Reading
from tmkt_data.images.frames import Placement
from tmkt_data.sample_ids import first_disorder, normal_name, rows_of
from tmkt_data.spec import Motion, RecordingKind, SplitLayout
from tmkt_data.storage.member_files import is_file, is_folder, scan
from tmkt_data.storage.member_list import Entry

_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
"""What a broken link is; any other error of the system says nothing of what is there. Windows gives the last one."""


@dataclass(frozen=True)
class Catalogue:
    """Everything that `prepare` needs to know about a dataset.

    Attributes:
        name: Name of the dataset, as in `tmkt-data prepare NAME`.
        class_names: Names of all classes of the dataset, present on disk or not; a label is an index into it.
        sensor_size: Canvas of the recordings.
        placement: Where an image lies on that canvas.
        recordings: Recordings, sorted bytewise by id; any sequence of sources.
        images: Images, sorted bytewise by id; any sequence of sources.
        motion: How the sensor moved: `saccade`, the three saccades of N-MNIST and N-Caltech101, or `none`.
        split_layout: `prefix`, `block` or `drawer`: fixed splits, see `splits`; `drawn`: stratified and seeded.
        kind: What a recording is: a file, a slice of a long file by the CSV beside it, or simulated from its image.
        reading: Reader options besides the sensor size.
        window: Part of the sensor that recordings are cropped to, whose size is `sensor_size`; None for all of it.
        expected: Number of recordings in the complete dataset; 0 if unknown.
        declared: Ids of the complete dataset.
        is_centered: Whether each recording is shifted to the sensor center, using the size listed for it.
        notes: What was excluded or is missing, one line each.
        recorded_with: What simulated recordings are made with, part of the key of a cache; empty for real ones.
        own_name: Name of a user's own folder, which becomes part of the name of its cache; empty for known datasets.
    """

    name: str
    class_names: tuple[str, ...]
    sensor_size: SensorSize
    placement: Placement
    recordings: SourceTable
    images: SourceTable
    motion: Motion = "none"
    split_layout: SplitLayout = "drawn"
    kind: RecordingKind = "files"
    reading: Reading = NOTHING_GIVEN
    window: Window | None = None
    expected: int = 0
    declared: Declared = NOTHING_DECLARED
    is_centered: bool = False
    notes: tuple[str, ...] = ()
    recorded_with: str = ""
    own_name: str = ""

    def __post_init__(self) -> None:
        for side in ("recordings", "images"):
            table = SourceTable.of(getattr(self, side))
            object.__setattr__(self, side, table)
            wrong = first_disorder(table.ids)
            if wrong is not None:
                later = table[wrong].id
                raise CatalogueError(f"{self.name} {side}: duplicate or unsorted {later!r}, expected unique sorted ids")

    def unpaired_classes(self) -> tuple[str, ...]:
        """Return the classes that have recordings but no images."""
        alone = np.setdiff1d(self.recordings.labels, self.images.labels)
        return tuple(self.class_names[label] for label in alone.tolist())

    def unmatched_notes(self) -> tuple[str, ...]:
        """Return one line for each side that has samples without a twin."""
        if not len(self.images):
            return ("there are no images: for event-only training",)
        notes: list[str] = []
        for side, here, there, use in (
            ("recordings", self.recordings, self.images, "paired with images of their class only"),
            ("images", self.images, self.recordings, "free for training"),
        ):
            alone = np.flatnonzero(rows_of(here.ids, there.ids) < 0)
            if len(alone):
                notes.append(f"{len(alone)} {side} have no twin, such as {here[int(alone[0])].id}; {use}")
        return tuple(notes)

    @property
    def cache_name(self) -> str:
        """What names of its caches begin with."""
        return f"{self.name}-{self.own_name}" if self.own_name else self.name

    @property
    def num_twins(self) -> int:
        """Number of recordings whose twin image is present."""
        return int((rows_of(self.recordings.ids, self.images.ids) >= 0).sum())


def scan_folder(folder: Path, pattern: re.Pattern[str]) -> tuple[list[tuple[str, str, int]], list[str]]:
    """List the files of one folder whose name matches, and the names excluded.

    Returns:
        `(stem, file, bytes)` sorted bytewise by stem, and the excluded names: those that do not match, broken or
        circular links, and hidden files whose name would match, such as the `._name` files of macOS. Other hidden
        files are ignored.

    Raises:
        CatalogueError: The folder cannot be read.
    """
    found: list[tuple[str, str, int]] = []
    ignored: list[str] = []
    try:
        with scan(folder) as entries:
            for entry in entries:
                is_match, is_hidden = pattern.fullmatch(entry.name) is not None, entry.name.startswith(".")
                size = _file_size(entry) if is_match and not is_hidden and is_plain(entry.name) else None
                if size is not None:
                    found.append((entry.name.rpartition(".")[0], entry.path, size))
                elif is_match or not is_hidden:
                    ignored.append(entry.name)
    except OSError as broken:
        raise unreadable_folder(folder, broken) from broken
    return sorted(found, key=lambda file: os.fsencode(file[0])), sorted(ignored, key=os.fsencode)


def _file_size(entry: os.DirEntry[str] | Entry) -> int | None:
    """Return the size of a file; None for a folder or a broken link."""
    try:
        return entry.stat().st_size if entry.is_file() else None
    except OSError as broken:
        if broken.errno in _LEADS_NOWHERE:
            return None
        raise


def find_folder(
    given: Path | None, root: Path | None, names: Sequence[str], holds: re.Pattern[str]
) -> tuple[Path | None, list[Path]]:
    """Find the folder of one side: the one with the most class folders that contain a matching file.

    Args:
        given: Folder given by the user, used as is or with one of `names`; None to search below `root`.
        root: Folder that contains both sides.
        names: Standard locations below it, most common first; `"."` is the folder itself.
        holds: Pattern of the file names that identify the side.

    Returns:
        The folder, or None; and every folder searched.
    """
    start = given if given is not None else root
    if start is None:
        return None, []
    candidates = [start, *(start / name for name in names if name != ".")]
    counts = [sum(1 for _ in _classes(candidate, holds)) for candidate in candidates]
    # A stray file beside the class folders makes the folder above look like one with a single class.
    best = counts.index(max(counts))
    return (candidates[best], candidates[: best + 1]) if counts[best] else (None, candidates)


def holds_classes(folder: Path, pattern: re.Pattern[str]) -> bool:
    """Return whether a folder has class folders with a matching file; False if it does not exist.

    Hidden folders and files are ignored.
    """
    return any(True for _ in _classes(folder, pattern))


def _classes(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    for child in _folders(folder):
        if child.name.startswith("."):
            continue
        try:
            with scan(child) as entries:
                if any(pattern.fullmatch(entry.name) and not entry.name.startswith(".") for entry in entries):
                    yield child
        except OSError as broken:
            raise unreadable_folder(child, broken) from broken


def _folders(folder: Path) -> Iterator[Path]:
    try:
        with scan(folder) as entries:
            names = sorted((entry.name for entry in entries if _is_folder(entry)), key=os.fsencode)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as broken:
        raise unreadable_folder(folder, broken) from broken
    for name in names:
        yield folder / name


def _is_folder(entry: os.DirEntry[str] | Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError as broken:
        if broken.errno in _LEADS_NOWHERE:
            return False
        raise


def unreadable_folder(folder: Path, broken: OSError) -> CatalogueError:
    """Build the error for a folder that exists but cannot be read: it must not count as empty."""
    advice = "its permissions" if isinstance(broken, PermissionError) else "the folder and its disk"
    return CatalogueError(f"{folder}: cannot be read ({broken.strerror or broken}); check {advice}")


def class_folders(folder: Path) -> list[str]:
    """Return the names of the subfolders, sorted bytewise; empty if the folder does not exist."""
    return sorted((path.name for path in _folders(folder)), key=os.fsencode)


def every_class_folder(folder: Path) -> list[str]:
    """Return the names of the subfolders, as `class_folders`, where they alone say which classes there are.

    Raises:
        CatalogueError: A link leads nowhere, and may have been a class, or the folder cannot be read. Hidden links are
            ignored.
    """
    names = class_folders(folder)
    try:
        with os.scandir(folder) as entries:
            broken = sorted(entry.name for entry in entries if not entry.name.startswith(".") and _leads_nowhere(entry))
    except (FileNotFoundError, NotADirectoryError):
        return names
    except OSError as error:
        raise unreadable_folder(folder, error) from error
    if broken:
        links = f"the link {_shown(broken[0])} leads" if len(broken) == 1 else f"the links {some(broken)} lead"
        raise CatalogueError(f"{folder}: {links} nowhere, expected folders of classes; repair or remove what is broken")
    return names


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return False
    try:
        entry.stat()
    except OSError as broken:
        if broken.errno in _LEADS_NOWHERE:
            return True
        raise
    return False


def as_spelled(path: Path) -> Path:
    """Return a path as the disk spells it, which may be in another Unicode form than it was typed in."""
    if str(path).isascii() or is_file(path) or is_folder(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        named = part
        if not part.isascii() and not (is_file(found / part) or is_folder(found / part)):
            names = _names_in(found)
            named = next((name for name in names if normal_name(name) == normal_name(part)), part)
        found /= named
    return found


def _names_in(folder: Path) -> list[str]:
    try:
        with scan(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


def is_plain(name: str) -> bool:
    """Return whether a name is free of control characters, such as a newline that would forge a line of output."""
    return name.isprintable() or not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)


def some(names: Sequence[str], limit: int = 5) -> str:
    """Join the first few names for a message, escaped where they look like another name."""
    shown = ", ".join(_shown(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def _shown(name: str) -> str:
    if name.isascii():
        return name if is_plain(name) and name == name.strip() else repr(name)
    hidden = not name.isprintable() or any(c.isdecimal() and not c.isascii() for c in name)
    return ascii(name) if hidden or name != name.strip() or name != normal_name(name) else name
