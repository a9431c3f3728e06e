"""Custom datasets: class folders of recordings and of images, with a small settings file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tmkt_data.datasets.catalogue import (
    Catalogue,
    as_spelled,
    class_folders,
    every_class_folder,
    holds_classes,
    is_plain,
    scan_folder,
    some,
)
from tmkt_data.datasets.folder_settings import SETTINGS_NAME, FolderError, FolderSettings, parse_settings
from tmkt_data.datasets.info import DatasetInfo, MissingDataError, missing_data
from tmkt_data.datasets.look_alikes import difference, equal_when_normal, look_alikes
from tmkt_data.datasets.source_table import NO_SOURCES, Source, SourceTable, TableBuilder
from tmkt_data.errors import CatalogueError, counted
from tmkt_data.images.frames import Placement
from tmkt_data.sample_ids import normal_name, rows_of
from tmkt_data.spec import Side
from tmkt_data.storage.member_files import is_folder

INFO = DatasetInfo(
    name="folder",
    title="your own recordings and images, in folders by class",
    homes=("your own; settings in tmkt.toml are documented in docs/how-to/folder.md",),
    license="yours",
    tree=(
        "ROOT/tmkt.toml                      sensor_size = [240, 180]",
        "ROOT/events/wave/first.aedat4       bin, bs2, aedat, aedat4, dat, raw, es, npy, npz, mat or h5",
        "ROOT/images/wave/first.jpg          jpg, jpeg, png, bmp, gif, ppm, tif, tiff or webp",
    ),
    size=48,
    recipe="scnn_folder",
)
RECORDING_NAME = re.compile(r".+\.(bin|bs2|aedat|aedat4|dat|raw|es|npy|npz|mat|h5|hdf5)", re.IGNORECASE)
IMAGE_NAME = re.compile(r".+\.(jpe?g|png|bmp|gif|ppm|tiff?|webp)", re.IGNORECASE)
_WHAT = {"recordings": "recordings (events/wave/first.aedat4)", "images": "images (images/wave/first.jpg)"}


def open_folder(
    root: Path | None = None, events: Path | None = None, images: Path | None = None, *, is_foreign: bool = False
) -> Catalogue:
    """List a folder of class folders.

    Classes are the folder names of both sides in Unicode form C, sorted bytewise. Hidden files and folders, and folders
    without any sample, are excluded and noted.

    Args:
        root: Folder that contains `tmkt.toml` and both sides.
        events: Folder of the recordings, if outside `root`.
        images: Folder of the images, if outside `root`.
        is_foreign: Whether the folder was unpacked from an archive; its settings may not point outside it.

    Returns:
        The catalogue; ids look like `"wave/first"`. Images cover the whole sensor.

    Raises:
        MissingDataError: The settings or a side are missing.
        FolderError: Wrong settings, two recordings or images that share class and stem, names of the two sides that
            differ only in what a reader does not see or mean, see `look_alikes`: all such mistakes.
        CatalogueError: A folder cannot be read.
    """
    if root is None:
        raise missing_data(INFO, "folder", [])
    settings, problems = parse_settings(root / SETTINGS_NAME)
    if settings is None:
        raise FolderError(problems)
    notes: list[str] = []
    sides = _sides_of(root, (events, images), settings, problems, is_foreign=is_foreign)
    if nested := [line for side in sides for line in _nested_problems(side)]:
        raise FolderError([*problems, *nested])
    found = {name for side in sides for name in _class_names(side.folder, problems)}
    folders = sorted(set(map(normal_name, found)), key=os.fsencode)
    try:
        recordings, *rest = [_list_side(side, folders, notes, problems) for side in sides]
    except MissingDataError as missing:
        if problems:
            raise FolderError([*problems, missing.lines[0]]) from None
        raise
    pictures = rest[0] if rest else NO_SOURCES
    if rest:
        problems += _look_alike_problems(root, folders, recordings, pictures)
    else:
        notes += [f"folders {difference(*pair)}; they are two classes" for pair in look_alikes(folders, folders)][:1]
    if problems:
        raise FolderError(problems)
    used = np.union1d(recordings.labels, pictures.labels)
    names = [folders[label] for label in used.tolist()]
    empty = [name for name in folders if name not in names and not name.startswith(".")]
    if empty:
        notes.append(f"{len(empty)} folders without a recording or an image left out: {some(empty)}")
    return Catalogue(
        name=INFO.name,
        class_names=tuple(names),
        sensor_size=settings.sensor_size,
        placement=Placement(0, 0, *settings.sensor_size),
        recordings=recordings.with_labels(np.searchsorted(used, recordings.labels)),
        images=pictures.with_labels(np.searchsorted(used, pictures.labels)),
        reading=settings.reading(),
        notes=tuple(notes),
        own_name=_own_name(root),
    )


def _class_names(folder: Path, problems: list[str]) -> list[str]:
    """Return the names of the class folders; broken links, which may have been some, are added to the problems."""
    try:
        return every_class_folder(folder)
    except CatalogueError as broken:
        problems.append(str(broken))
        return class_folders(folder)


def _own_name(root: Path) -> str:
    """Return a name for caches of a folder: its own, and a digest of where it lies, as names like `data` recur."""
    path = os.path.realpath(root)
    name = re.sub(r"[^\w.-]+", "-", normal_name(Path(path).name)).strip("-.")
    short = name if is_plain(name) and len(os.fsencode(name)) <= 80 else ""
    return "-".join([*([short] if short else []), hashlib.sha256(os.fsencode(path)).hexdigest()[:4]])


def _sides_of(
    root: Path,
    given: tuple[Path | None, Path | None],
    settings: FolderSettings,
    problems: list[str],
    *,
    is_foreign: bool,
) -> list[_Side]:
    """Return the sides of the dataset; folders that the settings state wrongly are added to the problems."""
    events, images = given
    stated: dict[str, Path] = {}
    wanted = [("events", events, settings.events, RECORDING_NAME)]
    if images is not None or settings.images != "":
        wanted.append(("images", images, settings.images, IMAGE_NAME))
    for name, folder, setting, pattern in wanted:
        try:
            stated[name] = folder or _stated(root, name, setting, pattern, is_foreign)
        except CatalogueError as wrong:
            problems.append(str(wrong))
    if len(stated) < len(wanted):
        raise FolderError(problems)
    sides = [_Side("recordings", stated["events"], RECORDING_NAME, "")]
    if "images" in stated:
        sides.append(_Side("images", stated["images"], IMAGE_NAME, "" if settings.twins == "stem" else "~"))
    return sides


def _stated(root: Path, side: str, stated: str | None, pattern: re.Pattern[str], is_foreign: bool) -> Path:
    """Return the folder of a side; a folder named in the settings must exist, without fallback."""
    if stated is None:
        return root / side
    if is_foreign and (Path(stated).is_absolute() or ".." in Path(stated).parts):
        raise CatalogueError(
            f"{SETTINGS_NAME}: {side}: found {stated!r}, which points outside the archive; unpack it yourself if "
            "you trust it"
        )
    folder = as_spelled(root / stated)
    if not holds_classes(folder, pattern):
        raise CatalogueError(
            f"{root / SETTINGS_NAME}: {side}: found {stated!r}, expected a folder of class folders with {side}; fix it"
        )
    return folder


class _Side(NamedTuple):
    """One side of the dataset; a `mark` before the stem keeps images from being twins of recordings."""

    name: str
    folder: Path
    pattern: re.Pattern[str]
    mark: str


def _list_side(side: _Side, folders: Sequence[str], notes: list[str], problems: list[str]) -> SourceTable:
    """List the files of one side, sorted by id; the label is the index of the folder among all."""
    if not holds_classes(side.folder, side.pattern):
        found: Side = "recordings" if side.name == "images" else ""
        raise missing_data(INFO, _WHAT[side.name], [side.folder], found=found)
    builder = TableBuilder()
    label_of = {name: label for label, name in enumerate(folders)}
    names = class_folders(side.folder)
    problems += _doubled(side.folder, names, "two folders of one name")
    ignored: list[str] = []
    hidden: list[str] = []
    for name in names:
        if name.startswith("."):
            hidden.append(name)
            continue
        if not is_plain(name):
            problems.append(f"{side.folder}: folder {name!a} has control characters in its name; rename it")
            continue
        files, others = scan_folder(side.folder / name, side.pattern)
        ignored.extend(f"{name}/{other}" for other in others)
        problems += _doubled(side.folder / name, [stem for stem, _, _ in files], "two files of one stem")
        label = label_of[normal_name(name)]
        builder.extend(Source(f"{name}/{side.mark}{stem}", label, file, size) for stem, file, size in files)
    if ignored:
        notes.append(f"{side.name}: left out: {some(ignored)}")
        notes += _nested_note(side, ignored)
    if hidden:
        notes.append(f"{side.name}: {len(hidden)} hidden folders left out: {some(hidden)}")
    return builder.sorted_table()


def _nested_problems(side: _Side) -> Iterator[str]:
    """Yield a line if class folders lie one folder deeper; images in a single one are found there."""
    if holds_classes(side.folder, side.pattern):
        return
    outer = [side.folder / name for name in class_folders(side.folder) if not name.startswith(".")]
    nested = [folder.name for folder in outer if holds_classes(folder, side.pattern)]
    if nested and (side.name == "recordings" or len(nested) > 1):
        key = "events" if side.name == "recordings" else "images"
        yield (
            f"{side.folder}: found class folders within {some(nested)}, expected {side.name} in class folders directly "
            f'below; move the class folders up, or choose with {key} = "{key}/{nested[0]}" in {SETTINGS_NAME}'
        )


def _nested_note(side: _Side, ignored: Sequence[str]) -> Iterator[str]:
    """Yield a note where folders within class folders hold files that are left out."""
    files = [f"{inner}/{stem}" for inner in ignored for stem in _files_in(side.folder / inner, side.pattern)]
    if files:
        yield (
            f"{side.name}: {counted(len(files), 'file')} in folders within class folders left out, such as {files[0]}; "
            "only files directly in a class folder are of the class, move them up"
        )


def _files_in(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    return [Path(file).name for _, file, _ in scan_folder(folder, pattern)[0]] if is_folder(folder) else []


def _doubled(folder: Path, names: Sequence[str], what: str) -> Iterator[str]:
    """Yield a line for each name of a folder that equals another, as stems may, or does so after normalization."""
    for again in equal_when_normal(names):
        same = f"two files with the stem {again[1]!r}, expected one" if again[0] == again[1] else what
        how = "" if again[0] == again[1] else f": {difference(*again)}"
        yield f"{folder}: {same}{how}; rename or remove one of them"


def _look_alike_problems(
    root: Path, folders: Sequence[str], recordings: SourceTable, images: SourceTable
) -> Iterator[str]:
    """Yield a line for each class folder that misses another by a difference that is hard to see, else for twins."""
    here, there = ({folders[label] for label in np.unique(side.labels).tolist()} for side in (recordings, images))
    pairs = [
        *look_alikes(sorted(here - there), sorted(there)),
        *look_alikes(sorted(there - here), sorted(here)),
    ]
    if pairs:
        # Both may miss each other.
        told: dict[frozenset[str], tuple[str, str]] = {}
        for pair in pairs:
            told.setdefault(frozenset(pair), pair)
        for pair in told.values():
            yield f"{root}: class folders {difference(*pair)}; rename one of them as the other"
        return
    alone = recordings.take(rows_of(recordings.ids, images.ids) < 0)
    free = images.take(rows_of(images.ids, recordings.ids) < 0)
    alike = list(look_alikes([source.id for source in alone], (source.id for source in free))) if len(free) else []
    if alike:
        yield (
            f"{root}: {counted(len(alike), 'recording')} without a twin, but an image looks as if it was: "
            f"{difference(*alike[0])}; rename one of them as the other"
        )
