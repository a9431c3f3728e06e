"""A catalogue: which samples a dataset holds, their class, and their twin; nothing is decoded yet."""

from __future__ import annotations

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
from tmkt_data.sample_ids import first_disorder, rows_of
from tmkt_data.spec import Motion, RecordingKind, SplitLayout


@dataclass(frozen=True)
class Catalogue:
    """Everything that `prepare` has to know of a dataset.

    Attributes:
        name: Name of the dataset, as `tmkt-data prepare NAME` takes it.
        class_names: Names of all classes that the dataset declares, present on disk or not; the label is the position.
        sensor_size: The canvas of the recordings.
        placement: Where an image lies on that canvas.
        recordings: Sorted bytewise by id; may be given as any sequence of sources, as may the images.
        images: Sorted bytewise by id.
        motion: How the sensor moved: `saccade`, the three saccades of N-MNIST and N-Caltech101, or `none`.
        split_layout: `prefix`, `block` or `drawer`: splits are laid down, see `splits`; `drawn`: stratified and seeded.
        kind: What a recording is: a file, a slice of a long one that a csv beside it names, or simulated of its image.
        reading: What the readers of the recordings are told beside the sensor's size.
        window: Part of the sensor that recordings are cut to; `sensor_size` is its size then. None: the whole sensor.
        expected: Recordings that the complete dataset has; 0 where unknown.
        declared: The ids that the complete dataset has.
        is_centered: Each recording is moved to the middle of the sensor, by the sizes that a list states for it.
        notes: What was found and left out, or is missing; one line each.
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

    def __post_init__(self) -> None:
        for side in ("recordings", "images"):
            table = SourceTable.of(getattr(self, side))
            object.__setattr__(self, side, table)
            wrong = first_disorder(table.ids)
            if wrong is not None:
                later = table[wrong].id
                raise CatalogueError(f"{self.name} {side}: id {later!r} twice or unsorted; ids are unique and sorted")

    def unpaired_classes(self) -> tuple[str, ...]:
        """Return the classes that have recordings and no image at all."""
        alone = np.setdiff1d(self.recordings.labels, self.images.labels)
        return tuple(self.class_names[label] for label in alone.tolist())

    def unmatched_notes(self) -> tuple[str, ...]:
        """Return one line for each side that has samples without a twin on the other."""
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
    def num_twins(self) -> int:
        """Recordings whose own image is there."""
        return int((rows_of(self.recordings.ids, self.images.ids) >= 0).sum())


def scan_folder(folder: Path, pattern: re.Pattern[str]) -> tuple[list[tuple[str, str, int]], list[str]]:
    """List the files of one folder whose name matches, and the names that do not.

    Returns:
        `(stem, file, bytes)` sorted bytewise by stem, and the names left out: those that do not match, links that lead
        nowhere or to themselves, and hidden files such as the `._name` that macOS puts beside each. Of hidden ones
        those that do not match are not named.

    Raises:
        CatalogueError: The folder cannot be read.
    """
    found: list[tuple[str, str, int]] = []
    ignored: list[str] = []
    try:
        with os.scandir(folder) as entries:
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


def _file_size(entry: os.DirEntry[str]) -> int | None:
    """Return the size of a file; None for a folder, and for a link that cannot be followed."""
    try:
        return entry.stat().st_size if entry.is_file() else None
    except PermissionError:
        raise
    except OSError:
        return None


def find_folder(
    given: Path | None, root: Path | None, names: Sequence[str], holds: re.Pattern[str]
) -> tuple[Path | None, list[Path]]:
    """Find the folder of one side: the one that holds most class folders with a matching file.

    Args:
        given: Folder named by the user, taken itself or one of `names` below it; None to look below `root`.
        root: Folder that holds both sides.
        names: Usual places below it, most usual first; `"."` is the folder itself.
        holds: Pattern of a file name that proves the side.

    Returns:
        The folder, or None; and every folder looked at.
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
    """Return whether a folder has class folders with a file whose name matches; False where it is not there.

    Hidden folders and files do not count.
    """
    return any(True for _ in _classes(folder, pattern))


def _classes(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    for child in _folders(folder):
        if child.name.startswith("."):
            continue
        try:
            with os.scandir(child) as entries:
                if any(pattern.fullmatch(entry.name) and not entry.name.startswith(".") for entry in entries):
                    yield child
        except OSError as broken:
            raise unreadable_folder(child, broken) from broken


def _folders(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name for entry in entries if _is_folder(entry)), key=os.fsencode)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as broken:
        raise unreadable_folder(folder, broken) from broken
    for name in names:
        yield folder / name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except PermissionError:
        raise
    except OSError:
        return False


def unreadable_folder(folder: Path, broken: OSError) -> CatalogueError:
    """Build the error for a folder that is there and cannot be read: it must not count as empty."""
    return CatalogueError(f"{folder}: cannot be read ({broken.strerror or broken}); check its permissions")


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted bytewise; none where it is not there."""
    return sorted((path.name for path in _folders(folder)), key=os.fsencode)


def is_plain(name: str) -> bool:
    """Return whether a name has no control character, such as a newline, that would forge a line of output."""
    return name.isprintable() or not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)


def some(names: Sequence[str], limit: int = 5) -> str:
    """Join names for a message, the first few of many, with control characters escaped."""
    shown = ", ".join(name if is_plain(name) else ascii(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
