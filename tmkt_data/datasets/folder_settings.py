"""The settings file of a dataset in folders by class, `tmkt.toml`, with all of its mistakes at once."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tmkt_data.datasets.catalogue import is_plain
from tmkt_data.datasets.info import MissingDataError
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.read import Reading
from tmkt_data.files import decode_text, read_bytes
from tmkt_data.spec import AEDAT2_LAYOUTS, TIME_UNITS
from tmkt_data.storage.member_files import is_file

SETTINGS_NAME = "tmkt.toml"
_MAX_SETTINGS_BYTES = 1 << 20
_CHOICES: dict[str, tuple[str, ...]] = {
    "unit": TIME_UNITS,
    "orientation": AEDAT2_LAYOUTS,
    "twins": ("stem", "none"),
}
_ALSO = {"time_unit": "unit", "aedat2_layout": "orientation"}
"""Keys that are called as the options of the command line."""


class FolderError(CatalogueError):
    """Mistakes in a folder of one's own, all that were found.

    Args:
        problems: One line each.

    Attributes:
        problems: As given.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


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
        FolderError: The file is not valid TOML, lacks the sensor size, or has unknown keys or values.
        MissingDataError: There is no such file.
    """
    settings, problems = parse_settings(path)
    if problems or settings is None:
        raise FolderError(problems)
    return settings


def parse_settings(path: Path) -> tuple[FolderSettings | None, list[str]]:
    """Read `tmkt.toml`, and return what of it can be used with a line for each mistake.

    Returns:
        The settings without the wrong ones; None where those may say which folders the dataset lies in.

    Raises:
        MissingDataError: There is no such file.
        CatalogueError: It cannot be read.
    """
    if not is_file(path):
        raise MissingDataError(
            f"{path}: no such file, expected the sensor size in it; create it with a line such as "
            "sensor_size = [240, 180]"
        )
    data = read_bytes(path, error=CatalogueError)
    if len(data) > _MAX_SETTINGS_BYTES:
        return None, [f"{path}: {len(data):,} bytes, expected some lines of settings"]
    try:
        values = tomllib.loads(decode_text(data))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as broken:
        return None, [f"{path}: not valid TOML ({str(broken).splitlines()[0]}); fix it"]
    wrong = dict(_wrong_values(values))
    problems = [f"{path.name}: {line}" for line in wrong.values()]
    if wrong.keys() & {"events", "images", "twins"}:
        return None, problems
    known = {_ALSO.get(name, name): value for name, value in values.items() if name not in wrong}
    size = known.pop("sensor_size", (1, 1))
    return FolderSettings(sensor_size=SensorSize(*size), **known), problems


def _wrong_values(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys that are unknown or have a wrong value, with what is wrong."""
    known = [field.name for field in dataclasses.fields(FolderSettings)]
    for name in sorted(set(values) - {*known, *_ALSO}):
        yield name, f"unknown {name!r}, expected {', '.join(known)}{_hint(name, [*known, *_ALSO])}"
    for name in known:
        again = next((other for other, of in _ALSO.items() if of == name and other in values), None)
        if again is not None and name in values:
            yield again, f"{again}: found beside {name}, which is another name of it; remove one"
        line = _wrong_value(name, values.get(name, values.get(again or "")))
        if line and (name in values or again is not None or name == "sensor_size"):
            yield name if name in values or again is None else again, line


def _wrong_value(name: str, value: object) -> str:
    match name:
        case "sensor_size":
            sides = value if isinstance(value, list) else []
            if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 65536 for side in sides):
                return f"{name}: found {value!r}, expected width and height such as [240, 180], 1 to 65536 each"
        case "stream":
            if type(value) is not int or value < 0:
                return f"{name}: found {value!r}, expected the number of an event stream, 0 or more"
        case _:
            choices = _CHOICES.get(name, ())
            if not isinstance(value, str) or (choices and value not in choices):
                expected = f"one of {', '.join(choices)}" if choices else "text"
                return f"{name}: found {value!r}, expected {expected}{_hint(value, choices)}"
            if not is_plain(value):
                return f"{name}: found {value!a}, expected text without control characters"
    return ""


def _hint(found: object, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(found), known, n=1) if isinstance(found, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""
