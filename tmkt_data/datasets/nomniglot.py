"""N-Omniglot: recordings of characters being drawn, paired with Omniglot images by character and drawer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue, class_folders, scan_folder, some
from tmkt_data.datasets.completeness import Declared, completeness, notes_of
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.source_table import Source, SourceTable, sorted_sources
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import SensorSize, Window
from tmkt_data.events.read import NOTHING_GIVEN, Reading
from tmkt_data.events.slices import NUM_DRAWERS
from tmkt_data.images.frames import Placement
from tmkt_data.spec import Side

NUM_CHARACTERS = 1623
CLASS_NAMES = tuple(f"{number:04d}" for number in range(1, NUM_CHARACTERS + 1))
"""The 4-digit number of each character, background 0001 to 0964, evaluation 0965 to 1623, in one label space."""
WINDOW = Window(54, 4, SensorSize(250, 250))
"""Crop of the 346 x 260 sensor used by the reference: columns 54 to 303, rows 4 to 253."""

INFO = DatasetInfo(
    name="nomniglot",
    title="N-Omniglot + Omniglot: 32460 recordings of 1623 characters, 20 drawers each",
    homes=(
        "recordings: https://figshare.com/articles/dataset/N-Omniglot/16821427",
        "images: https://github.com/brendenlake/omniglot (images_background.zip, images_evaluation.zip)",
    ),
    license="N-Omniglot see figshare; Omniglot MIT",
    tree=(
        "ROOT/dvs_background/<Alphabet>/characterNN/0709.aedat4 and 0709.csv   (and dvs_evaluation/...)",
        "or as unpacked by its code: ROOT/events_npy/{background,evaluation}/<Alphabet>/characterNN/0709_01.npy",
        "ROOT/omniglot-py/images_background/<Alphabet>/characterNN/0709_01.png  (and images_evaluation/...)",
    ),
    size=28,
    recipe="scnn_nomniglot",
    time_bins=12,
)

_EVENT_PARTS = ("dvs_background", "dvs_evaluation")
_ARRAY_PARTS = ("events_npy/background", "events_npy/evaluation")
_IMAGE_PARTS = ("images_background", "images_evaluation")
_EVENT_ROOTS = (".", "N-Omniglot", "n-omniglot")
_IMAGE_ROOTS = (".", "omniglot-py", "omniglot", "Omniglot")
_RECORDING = re.compile(r"[0-9]{4}\.aedat4")
_ARRAY = re.compile(r"[0-9]{4}_[0-9]{2}\.(npy|npz)")
_IMAGE = re.compile(r"[0-9]{4}_[0-9]{2}\.png")


def open_nomniglot(root: Path | None = None, events: Path | None = None, images: Path | None = None) -> Catalogue:
    """List N-Omniglot and Omniglot.

    The class of a sample is the 4-digit number in its file name, independent of the names and order of its folders.

    Args:
        root: Folder that contains both sides in one of the standard layouts.
        events: Folder that contains `dvs_background` and `dvs_evaluation`, or `events_npy`, if outside `root`. The
            arrays there are pickles; they are parsed and never executed.
        images: Folder that contains `images_background` and `images_evaluation`, if outside `root`.

    Returns:
        The catalogue; ids look like `"0394/01"`, character and drawer. Splits go by drawer.

    Raises:
        CatalogueError: A side is missing, or a number is duplicated or outside 1 to 1623.

    Source: Li et al., Scientific Data 9:746, 2022; Lake et al., Science 350, 2015.
    """
    array_parts = _find_parts(events, root, _EVENT_ROOTS, _ARRAY_PARTS)[0]
    slice_parts, looked_events = _find_parts(events, root, _EVENT_ROOTS, _EVENT_PARTS)
    image_parts, looked_images = _find_parts(images, root, _IMAGE_ROOTS, _IMAGE_PARTS)
    event_parts = array_parts or slice_parts
    if not event_parts:
        found: Side = "images" if image_parts else ""
        raise missing_data(INFO, "recordings (0709.aedat4)", looked_events, found)
    if not image_parts:
        raise missing_data(INFO, "images (0709_01.png)", looked_images, found="recordings")
    notes: list[str] = []
    recordings = _sorted(_drawings(event_parts, notes, _ARRAY) if array_parts else _recordings(event_parts, notes))
    drawings = _sorted(_drawings(image_parts, notes, _IMAGE))
    if not recordings:
        raise missing_data(INFO, "recordings (0709.aedat4)", event_parts)
    expected = [f"{name}/{drawer:02d}" for name in CLASS_NAMES for drawer in range(1, NUM_DRAWERS + 1)]
    for side, sources in (("recordings", recordings), ("images", drawings)):
        notes += notes_of(completeness({source.id for source in sources}, expected, side))
    return Catalogue(
        name=INFO.name,
        class_names=CLASS_NAMES,
        sensor_size=WINDOW.size,
        window=WINDOW,
        placement=Placement(0, 0, *WINDOW.size),
        recordings=recordings,
        images=drawings,
        split_layout="drawer",
        kind="files" if array_parts else "slices",
        reading=Reading(pickled=True) if array_parts else NOTHING_GIVEN,
        expected=len(expected),
        declared=Declared(expected, expected),
        notes=tuple(notes),
    )


def _find_parts(
    given: Path | None, root: Path | None, roots: Sequence[str], parts: Sequence[str]
) -> tuple[list[Path], list[Path]]:
    start = given if given is not None else root
    bases = [] if start is None else [start / name for name in roots]
    for base in bases:
        found = [base / part for part in parts if (base / part).is_dir()]
        if found:
            return found, bases
    return [], bases


def _recordings(parts: Sequence[Path], notes: list[str]) -> Iterator[Source]:
    without: list[str] = []
    for stem, file, size in _files(parts, _RECORDING, notes):
        path = Path(file)
        if not path.with_suffix(".csv").is_file():
            without.append(path.name)
            continue
        for drawer in range(NUM_DRAWERS):
            yield _source(stem, drawer + 1, path, size, drawer)
    if without:
        notes.append(f"recordings: left out, as no csv says where their samples begin: {some(without)}")


def _drawings(parts: Sequence[Path], notes: list[str], pattern: re.Pattern[str]) -> Iterator[Source]:
    strange: list[str] = []
    for stem, path, size in _files(parts, pattern, notes):
        character, _, drawer = stem.partition("_")
        if not 1 <= int(drawer) <= NUM_DRAWERS:
            strange.append(Path(path).name)
            continue
        yield _source(character, int(drawer), path, size)
    if strange:
        notes.append(f"left out, of no drawer from 1 to {NUM_DRAWERS}: {some(strange)}")


def _files(parts: Sequence[Path], pattern: re.Pattern[str], notes: list[str]) -> Iterator[tuple[str, str, int]]:
    foreign: list[str] = []
    for part in parts:
        for alphabet in class_folders(part):
            for character in class_folders(part / alphabet):
                files, others = scan_folder(part / alphabet / character, pattern)
                foreign += [f"{alphabet}/{character}/{other}" for other in others if not other.isascii()]
                yield from files
    if foreign:
        notes.append(f"left out, as their names are not in plain digits: {some(foreign)}")


def _source(character: str, drawer: int, path: str | Path, size: int, item: int = -1) -> Source:
    number = int(character)
    if not 1 <= number <= NUM_CHARACTERS:
        raise CatalogueError(f"{path}: character {character}, expected 0001 to {NUM_CHARACTERS}; remove it")
    return Source(f"{character}/{drawer:02d}", number - 1, str(path), size, item=item)


def _sorted(sources: Iterator[Source]) -> SourceTable:
    found: dict[str, Source] = {}
    for source in sources:
        if source.id in found:
            raise CatalogueError(f"{source.path}: duplicate {source.id}, also in {found[source.id].path}; remove one")
        found[source.id] = source
    return sorted_sources(found.values())
