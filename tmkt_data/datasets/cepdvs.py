"""CEP-DVS: recordings of CIFAR-100 pictures shown on a screen, paired with the pictures by file number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from tmkt_data.datasets.catalogue import Catalogue, scan_folder, some
from tmkt_data.datasets.completeness import Declared, completeness, count_note, notes_of
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.source_table import Source, SourceTable, sorted_sources
from tmkt_data.errors import CatalogueError, EventError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.read import load_events
from tmkt_data.files import decode_text, read_bytes
from tmkt_data.images.frames import Placement
from tmkt_data.sample_ids import evenly_spaced
from tmkt_data.spec import Side

CLASS_NAMES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip
SENSOR_SIZE = SensorSize(640, 480)
"""An upper bound, the largest common sensor: its own is not published, and canvas `tight` ignores it (inferred)."""

NUM_LOOKED_AT = 20
USUAL_SENSORS = ((128, 128), (240, 180), (304, 240), (346, 260), (640, 480))
_PLAUSIBLE_US = (1_000, 60_000_000)

INFO = DatasetInfo(
    name="cepdvs",
    title="CEP-DVS: 10000 recordings of CIFAR-100 pictures in 20 classes, and the pictures",
    homes=("both: https://1drv.ms/f/s!AvsXtwnFBhV9hgKc6QWxc42O0Vxx (SuppDoc/EventKD)",),
    license="none published; ask its authors (Deng et al., IEEE TIP 2021)",
    tree=(
        "ROOT/pathFile.csv                 a header, then one row per number, starting at 0",
        "ROOT/data/MAT/img/01891.mat       recording of number 1891",
        "ROOT/data/img/01891.jpg           its picture",
    ),
    size=48,
    recipe="resnet18_cepdvs",
    canvas="tight",
    time_bins=6,
)

_EXPECTED = 10_000
_ROOTS = (".", "CEP-DVS", "CEPDVS", "cepdvs")
_RECORDING = re.compile(r"\d+\.mat")
_IMAGE = re.compile(r"\d+\.jpg")
_FIFTH_TOKEN = re.compile(r"(?:\S*\s){4}(\S+)")
_MAX_CSV_BYTES = 10_000_000


def open_cepdvs(root: Path | None = None, events: Path | None = None, images: Path | None = None) -> Catalogue:
    """List CEP-DVS.

    A recording and a picture with the same number are twins, and the row of that number names their class; the order
    of a directory listing is never used.

    Args:
        root: Folder that contains `pathFile.csv` and `data`, or its parent.
        events: Folder of the `.mat` files, if outside `root`.
        images: Folder of the `.jpg` files, if outside `root`.

    Returns:
        The catalogue; ids look like `"flowers/01891"`.

    Raises:
        CatalogueError: A side is missing, a row names no class or two, or a number is duplicated or has no row.

    Source: Deng et al., IEEE TIP 2021; layout as in two public readers, not checked against the original (inferred).
    """
    folders = [] if root is None else [root / name for name in _ROOTS]
    base = next((folder for folder in folders if (folder / "pathFile.csv").is_file()), None)
    if base is None:
        raise missing_data(INFO, "pathFile.csv", folders)
    labels = read_labels(base / "pathFile.csv")
    event_folder, image_folder = events or base / "data" / "MAT" / "img", images or base / "data" / "img"
    if not event_folder.is_dir():
        found: Side = "images" if image_folder.is_dir() else ""
        raise missing_data(INFO, "recordings (01891.mat)", [event_folder], found)
    if not image_folder.is_dir():
        raise missing_data(INFO, "images (01891.jpg)", [image_folder], found="recordings")
    notes: list[str] = []
    recordings = _list_side(event_folder, _RECORDING, labels, "recordings", notes)
    pictures = _list_side(image_folder, _IMAGE, labels, "images", notes)
    if not recordings:
        raise missing_data(INFO, "recordings (01891.mat)", [event_folder], found="images" if pictures else "")
    expected = [f"{CLASS_NAMES[label]}/{number:05d}" for number, label in enumerate(labels)]
    expected.sort(key=lambda sample: sample.encode())
    notes += notes_of(
        completeness({source.id for source in recordings}, expected, "recordings"),
        completeness({source.id for source in pictures}, expected, "images"),
        count_note(len(labels), _EXPECTED, "rows of pathFile.csv"),
    )
    notes.append("sensor size and unit of time are not published; --sensor-size and --time-unit set them (inferred)")
    notes.append(probe_notes(recordings))
    if any(later < earlier for earlier, later in pairwise(labels)):
        notes.append("classes are not in blocks along pathFile.csv; splits go by class all the same")
    return Catalogue(
        name=INFO.name,
        class_names=CLASS_NAMES,
        sensor_size=SENSOR_SIZE,
        placement=Placement(0, 0, *SENSOR_SIZE),
        recordings=recordings,
        images=pictures,
        split_layout="block",
        expected=_EXPECTED,
        declared=Declared(expected, expected),
        notes=tuple(notes),
    )


def read_labels(path: Path) -> list[int]:
    """Read the class of each number from `pathFile.csv`: one header line, then one row per number.

    Raises:
        CatalogueError: The file cannot be read, or a row names no class or two.
    """
    data = read_bytes(path, error=CatalogueError)
    if len(data) > _MAX_CSV_BYTES:
        raise CatalogueError(f"{path}: {len(data):,} bytes, expected a list of at most {_MAX_CSV_BYTES:,}")
    rows = decode_text(data, errors="replace").splitlines()[1:]
    while rows and not rows[-1].strip():
        rows.pop()
    return [_label(row, f"{path.name}, row {number}") for number, row in enumerate(rows)]


def _label(row: str, place: str) -> int:
    fifth = _FIFTH_TOKEN.search(row)
    named = {token for token in row.split() if token in CLASS_NAMES}
    if fifth is not None and fifth[1] in CLASS_NAMES:
        named.add(fifth[1])
    if len(named) != 1:
        found = "no class" if not named else " and ".join(sorted(named))
        raise CatalogueError(f"{place}: found {found} in {row[:60]!r}, expected the name of one of 20 classes")
    return CLASS_NAMES.index(named.pop())


def _list_side(folder: Path, pattern: re.Pattern[str], labels: list[int], side: str, notes: list[str]) -> SourceTable:
    files, ignored = scan_folder(folder, pattern)
    if ignored:
        notes.append(f"{side}: files left out: {some(ignored)}")
    sources: dict[int, Source] = {}
    for stem, path, size in files:
        number = int(stem)
        if number >= len(labels):
            raise CatalogueError(
                f"{path}: number {number}, but pathFile.csv has rows 0 to {len(labels) - 1}; add its row"
            )
        if number in sources:
            raise CatalogueError(f"{path}: duplicate number {number}, also in {sources[number].path.name}; remove one")
        label = labels[number]
        sources[number] = Source(f"{CLASS_NAMES[label]}/{number:05d}", label, path, size)
    return sorted_sources(sources.values())


def probe_notes(recordings: Sequence[Source], num: int = NUM_LOOKED_AT) -> str:
    """Decode a few evenly spaced recordings and summarize their extent and duration.

    Args:
        recordings: The recordings, at least one.
        num: Number of recordings to decode.

    Returns:
        One line: extent, the smallest common sensor that contains it, median duration, and anything unusual.
    """
    chosen = [recordings[i] for i in evenly_spaced(len(recordings), num).tolist()]
    extents, spans = [], []
    for source in chosen:
        try:
            events = load_events(source.path)
        except EventError:
            continue
        if len(events):
            extents.append(events.extent)
            spans.append(int(events.t[-1] - events.t[0]))
    if not extents:
        return f"of {len(chosen)} recordings looked at none can be read"
    x_min, y_min = (min(extent[side] for extent in extents) for side in (0, 1))
    x_max, y_max = (max(extent[side] for extent in extents) for side in (2, 3))
    holds = next((f"{w} x {h}" for w, h in USUAL_SENSORS if x_max < w and y_max < h), "none of the usual sensors")
    span = float(np.median(spans))
    odd = ""
    if x_min >= 1 and y_min >= 1:
        odd += "; no event in column 0 or row 0, maybe counted from 1 (--shift-x -1 --shift-y -1)"
    if not _PLAUSIBLE_US[0] <= span <= _PLAUSIBLE_US[1]:
        odd += "; that is no usual duration, check --time-unit"
    return (
        f"{len(extents)} recordings looked at: columns {x_min} to {x_max}, rows {y_min} to {y_max}, which {holds} "
        f"holds; median duration {span:,.0f} in microseconds{odd}"
    )
