"""Custom datasets: class folders of recordings and of images, with a small settings file."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tmkt_data.datasets.catalogue import (
    Catalogue,
    as_spelled,
    every_class_folder,
    holds_classes,
    is_plain,
    scan_folder,
    some,
)
from tmkt_data.datasets.info import DatasetInfo, MissingDataError, missing_data
from tmkt_data.datasets.look_alikes import difference, equal_when_normal, look_alikes
from tmkt_data.datasets.source_table import NO_SOURCES, Source, SourceTable, TableBuilder
from tmkt_data.errors import CatalogueError, counted
from tmkt_data.events.events import SensorSize
from tmkt_data.events.read import Reading
from tmkt_data.files import decode_text, read_bytes
from tmkt_data.images.frames import Placement
from tmkt_data.sample_ids import normal_name, rows_of
from tmkt_data.spec import AEDAT2_LAYOUTS, TIME_UNITS, Side

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
SETTINGS_NAME = "tmkt.toml"
RECORDING_NAME = re.compile(r".+\.(bin|bs2|aedat|aedat4|dat|raw|es|npy|npz|mat|h5|hdf5)", re.IGNORECASE)
IMAGE_NAME = re.compile(r".+\.(jpe?g|png|bmp|gif|ppm|tiff?|webp)", re.IGNORECASE)
_MAX_SETTINGS_BYTES = 1 << 20
_WHAT = {"recordings": "recordings (events/wave/first.aedat4)", "images": "images (images/wave/first.jpg)"}
_CHOICES: dict[str, tuple[str, ...]] = {
    "unit": TIME_UNITS,
    "orientation": AEDAT2_LAYOUTS,
    "twins": ("stem", "none"),
}


@dataclasses.dataclass(frozen=True)
class FolderSettings:
    """Settings in `tmkt.toml`.

    Attributes:
        sensor_size: Width and height of the sensor.
        events: Folder of the recordings below the root; None for `events`.
        images: Folder of the images below the root; `""` for event-only training without images; None for `images`.
        twins: `stem`: a recording and an image with the same class and stem are twins. `none`: there are no twins.
        columns: Order of the columns of plain arrays.
        unit: Unit of the times of arrays.
        orientation: Orientation of AEDAT 2.0 recordings.
        chip: Camera of AEDAT 2.0 recordings whose header names none.
        keys: Paths of the columns in HDF5 recordings, see `load_hdf5`.
        stream: Number of the event stream of AEDAT4 recordings; None for the first one with events.
    """

    sensor_size: SensorSize
    events: str | None = None
    images: str | None = None
    twins: str = "stem"
    columns: str | None = None
    unit: str | None = None
    orientation: str = "raw"
    chip: str | None = None
    keys: str | None = None
    stream: int | None = None

    def reading(self) -> Reading:
        """Return the reader options besides the sensor size."""
        unit: Any = self.unit
        orientation: Any = self.orientation
        return Reading(None, self.columns, unit, orientation, self.chip, self.keys, stream=self.stream)


def read_settings(path: Path) -> FolderSettings:
    """Read `tmkt.toml`.

    Raises:
        CatalogueError: The file is missing or not valid TOML, lacks the sensor size, or has unknown keys.
    """
    if not path.is_file():
        raise MissingDataError(
            f"{path}: no such file, expected the sensor size in it; create it with a line such as "
            "sensor_size = [240, 180]"
        )
    data = read_bytes(path, error=CatalogueError)
    if len(data) > _MAX_SETTINGS_BYTES:
        raise CatalogueError(f"{path}: {len(data):,} bytes, expected some lines of settings")
    try:
        values = tomllib.loads(decode_text(data))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise CatalogueError(f"{path}: not valid TOML ({str(broken).splitlines()[0]}); fix it") from None
    known = [field.name for field in dataclasses.fields(FolderSettings)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise CatalogueError(f"{path.name}: unknown {', '.join(map(repr, unknown))}, expected {', '.join(known)}")
    size = _size_of(values.pop("sensor_size", None), path)
    stream = _stream_of(values.pop("stream", None), path)
    _check_texts(values, path)
    return FolderSettings(sensor_size=size, stream=stream, **values)


def _size_of(value: object, path: Path) -> SensorSize:
    sides = value if isinstance(value, list) else []
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 65536 for side in sides):
        raise CatalogueError(
            f"{path.name}: sensor_size: found {value!r}, expected width and height such as [240, 180], 1 to 65536 each"
        )
    return SensorSize(*sides)


def _stream_of(value: object, path: Path) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise CatalogueError(f"{path.name}: stream: found {value!r}, expected the number of an event stream, 0 or more")
    return value if type(value) is int else None


def _check_texts(values: Mapping[str, object], path: Path) -> None:
    for name, value in values.items():
        choices = _CHOICES.get(name)
        if not isinstance(value, str) or (choices and value not in choices):
            expected = f"one of {', '.join(choices)}" if choices else "text"
            raise CatalogueError(f"{path.name}: {name}: found {value!r}, expected {expected}")
        if not is_plain(value):
            raise CatalogueError(f"{path.name}: {name}: found {value!a}, expected text without control characters")


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
        CatalogueError: Settings or a side are missing, two recordings or images share class and stem, or names of the
            two sides differ only in what a reader does not see or mean, see `look_alikes`.
    """
    if root is None:
        raise missing_data(INFO, "folder", [])
    settings = read_settings(root / SETTINGS_NAME)
    notes: list[str] = []
    event_folder = events or _stated(root, "events", settings.events, RECORDING_NAME, is_foreign)
    sides = [_Side("recordings", event_folder, RECORDING_NAME, "")]
    if images is not None or settings.images != "":
        image_folder = images or _stated(root, "images", settings.images, IMAGE_NAME, is_foreign)
        sides.append(_Side("images", image_folder, IMAGE_NAME, "" if settings.twins == "stem" else "~"))
    folders = sorted({normal_name(name) for side in sides for name in every_class_folder(side.folder)}, key=os.fsencode)
    recordings, *rest = (_list_side(side, folders, notes) for side in sides)
    pictures = rest[0] if rest else NO_SOURCES
    if rest:
        _require_alike(root, folders, recordings, pictures)
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
    )


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


def _list_side(side: _Side, folders: Sequence[str], notes: list[str]) -> SourceTable:
    """List the files of one side, sorted by id; the label is the index of the folder among all."""
    if not holds_classes(side.folder, side.pattern):
        found: Side = "recordings" if side.name == "images" else ""
        raise missing_data(INFO, _WHAT[side.name], [side.folder], found=found)
    builder = TableBuilder()
    label_of = {name: label for label, name in enumerate(folders)}
    names = every_class_folder(side.folder)
    _require_single(side.folder, names, "two folders of one name")
    ignored: list[str] = []
    hidden: list[str] = []
    for name in names:
        if name.startswith("."):
            hidden.append(name)
            continue
        if not is_plain(name):
            raise CatalogueError(f"{side.folder}: folder {name!a} has control characters in its name; rename it")
        files, others = scan_folder(side.folder / name, side.pattern)
        ignored.extend(f"{name}/{other}" for other in others)
        _require_single(side.folder / name, [stem for stem, _, _ in files], "two files of one stem")
        label = label_of[normal_name(name)]
        builder.extend(Source(f"{name}/{side.mark}{stem}", label, file, size) for stem, file, size in files)
    if ignored:
        notes.append(f"{side.name}: left out: {some(ignored)}")
    if hidden:
        notes.append(f"{side.name}: {len(hidden)} hidden folders left out: {some(hidden)}")
    return builder.sorted_table()


def _require_single(folder: Path, names: Sequence[str], what: str) -> None:
    """Refuse names of one folder that are equal, as stems may be, or become so after Unicode normalization."""
    again = equal_when_normal(names)
    if again is not None:
        same = f"two files with the stem {again[1]!r}, expected one" if again[0] == again[1] else what
        how = "" if again[0] == again[1] else f": {difference(*again)}"
        raise CatalogueError(f"{folder}: {same}{how}; rename or remove one of them")


def _require_alike(root: Path, folders: Sequence[str], recordings: SourceTable, images: SourceTable) -> None:
    """Refuse class folders and twins that would miss each other by a difference that is hard to see."""
    here, there = ({folders[label] for label in np.unique(side.labels).tolist()} for side in (recordings, images))
    for one, other in (
        *look_alikes(sorted(here - there), sorted(there)),
        *look_alikes(sorted(there - here), sorted(here)),
    ):
        raise CatalogueError(f"{root}: class folders {difference(one, other)}; rename one of them as the other")
    alone = recordings.take(rows_of(recordings.ids, images.ids) < 0)
    free = images.take(rows_of(images.ids, recordings.ids) < 0)
    alike = list(look_alikes([source.id for source in alone], (source.id for source in free))) if len(free) else []
    if alike:
        raise CatalogueError(
            f"{root}: {counted(len(alike), 'recording')} without a twin, but an image looks as if it was: "
            f"{difference(*alike[0])}; rename one of them as the other"
        )
