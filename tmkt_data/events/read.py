"""Read recordings: the format is recognized by content first, by suffix second."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

from tmkt_data.errors import EventError
from tmkt_data.events.events import EventArray, Events, SensorSize
from tmkt_data.events.formats.aedat2 import decode_aedat2
from tmkt_data.events.formats.aedat3 import decode_aedat3
from tmkt_data.events.formats.aedat4 import load_aedat4
from tmkt_data.events.formats.arrays import decode_npy, decode_npz, names_its_columns
from tmkt_data.events.formats.atis import decode_atis
from tmkt_data.events.formats.columns import decode_columns
from tmkt_data.events.formats.event_stream import decode_event_stream
from tmkt_data.events.formats.matlab import MAGIC, decode_matlab
from tmkt_data.events.formats.percent_header import read_percent_header
from tmkt_data.events.formats.pickles import read_pickled_npy
from tmkt_data.events.formats.prophesee import decode_dat, decode_evt
from tmkt_data.files import read_bytes
from tmkt_data.spec import CACHE_FORMAT, Aedat2Layout, EventFormat, TimeUnit
from tmkt_data.storage.member_files import on_disk

FORMAT_OF_SUFFIX: dict[str, EventFormat] = {
    ".bin": "atis",
    ".bs2": "atis",
    ".dat": "dat",
    ".raw": "evt",
    ".aedat": "aedat2",
}
_STARTS: dict[bytes, EventFormat] = {
    MAGIC: "mat",
    b"#!AER-DAT4": "aedat4",
    b"#!AER-DAT3": "aedat3",
    b"#!AER-DAT": "aedat2",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"Event Stream": "es",
}
# With the third byte, for deflate, as a recording may well start with an event at (31, 139).
_GZIP = b"\x1f\x8b\x08"
# An ATIS file would have to start at (37, 32), 4 s or later, and go on with text to look like this.
_HEADER_LINE = re.compile(rb"% [A-Za-z][\t\x20-\x7e]*\r?\n")
# Type and size of the events of a .dat file.
_DAT_STARTS = (b"\x00\x08", b"\x0c\x08")
_HEADER_LIMIT = 1 << 16


class ReadOptions(TypedDict, total=False):
    """What a file may leave open and the caller knows; the keyword arguments of `read_events`."""

    sensor_size: SensorSize | None
    columns: str | None
    unit: TimeUnit | None
    orientation: Aedat2Layout
    chip: str | None
    keys: str | None
    stream: int | None


class Reading(NamedTuple):
    """`ReadOptions` with their defaults, see `read_events`, and how `.npy` files are read.

    Attributes:
        sensor_size: Size of the sensor; events outside are dropped.
        columns: Order of the columns of plain arrays, such as `xytp`.
        unit: Unit of the times of arrays.
        orientation: Orientation of an AEDAT 2.0 recording, see `decode_aedat2`.
        chip: Camera of an AEDAT 2.0 recording whose header names none.
        keys: Paths of the columns of an HDF5 file, see `load_hdf5`.
        stream: Number of the event stream of an AEDAT4 file; None for the first one with events.
        pickled: Whether a `.npy` file holds a pickled dictionary of columns, which is parsed but never run.
    """

    sensor_size: SensorSize | None = None
    columns: str | None = None
    unit: TimeUnit | None = None
    orientation: Aedat2Layout = "raw"
    chip: str | None = None
    keys: str | None = None
    stream: int | None = None
    pickled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the options but the sensor size, as a cache stores them: later ones only where set."""
        values = self._asdict()
        del values["sensor_size"]
        return {name: value for name, value in values.items() if name != "stream" or value is not None}


NOTHING_GIVEN = Reading()
ARRAY_SUFFIXES = (".npy", ".npz", ".mat", ".h5", ".hdf5")
"""Suffixes of files of arrays, which leave the unit of their times open."""
_TAKEN_BY: dict[str, tuple[EventFormat, ...]] = {
    "columns": ("npy", "npz", "hdf5"),
    "unit": ("npy", "npz", "mat", "hdf5"),
    "orientation": ("aedat2",),
    "chip": ("aedat2",),
    "keys": ("hdf5",),
    "stream": ("aedat4",),
}


def read_events(path: str | Path, **options: Unpack[ReadOptions]) -> EventArray:
    """Read a recording into one structured array.

    The format is recognized by content, then by suffix: ATIS (`.bin`, `.bs2`), AEDAT 2.0, 3.1 and 4 (the last with
    `tmkt[aedat4]`), Prophesee `.dat` and `.raw` (EVT 2, 2.1, 3), Event Stream `.es`, NumPy `.npy` and `.npz`,
    MATLAB 5 and 7.3 `.mat` with the variables x, y, ts and p, and HDF5.

    Args:
        path: The file.
        **options: What the file leaves open, each optional.

            `sensor_size`: size of the sensor; events outside are dropped. Default: the size that the file declares.
            `columns`: order of the columns of a plain array, or of an HDF5 table of shape (N, 4), such as `xytp`; it is
            never guessed.
            `unit`: unit of the times of NumPy, MATLAB and HDF5 files, `s`, `ms`, `us` or `ns`. Default: `us` for
            integers; for floating-point times it is required.
            `orientation`: `raw` (default), `jaer` or `cifar10dvs` for AEDAT 2.0, see `decode_aedat2`.
            `chip`: camera of an AEDAT 2.0 recording whose header names none.
            `keys`: paths of the columns of an HDF5 file, see `load_hdf5`.
            `stream`: number of the event stream of an AEDAT4 file. Default: the first one with events.

    Returns:
        Events in non-decreasing file time, shape (N,), `tmkt_data.EVENT_DTYPE`: `t` int64 microseconds, `x` and `y`
        uint16 pixels, `p` bool with True for ON. Owned by the caller.

    Raises:
        EventError: The file is missing, of another format, truncated or damaged; it leaves open what is not given; or
            an option is given that its format does not have.
    """
    return load_events(path, **options).to_array()


def load_events(path: str | Path, **options: Unpack[ReadOptions]) -> Events:
    """Read a recording into the validated record, with the counts of dropped events; see `read_events`."""
    path = Path(path)
    reading = Reading(**options)
    if reading.sensor_size is not None:
        # A plain pair of numbers is what people type.
        reading = reading._replace(sensor_size=SensorSize(*reading.sensor_size))
    start = read_bytes(path, limit=_HEADER_LIMIT)
    check_reading(start, path, reading)
    reads_by_path = recognize(start, path) in ("aedat4", "hdf5")
    return decode_recording(start if reads_by_path else read_bytes(path), path, reading)


def recognize(data: bytes, path: Path) -> EventFormat:
    """Return the format of a recording.

    Args:
        data: Its bytes, or the first 64 KiB of them.
        path: Its path; the suffix decides where the content does not.

    Raises:
        EventError: Neither content nor suffix identify a format.
    """
    for start, name in _STARTS.items():
        if data.startswith(start):
            return name
    if data.startswith(f"{CACHE_FORMAT} ".encode()):
        raise EventError(
            f"{path.name}: a cache of tmkt-data prepare, expected a recording; see what it holds with tmkt-data "
            "inspect or tmkt-data preview"
        )
    if data.startswith(b"\x89HDF") or data[512:516] == b"\x89HDF":
        return "hdf5"
    if data.startswith(_GZIP):
        raise EventError(f"{path.name}: found gzip bytes, expected a recording; unpack it with gunzip first")
    by_suffix = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if data.startswith(b"%") and (by_suffix != "atis" or _HEADER_LINE.match(data)):
        header = read_percent_header(data[:_HEADER_LIMIT])
        if any(line.startswith(("evt ", "format ")) for line in header.lines):
            return "evt"
        return "evt" if by_suffix == "evt" and not data.startswith(_DAT_STARTS, header.size) else "dat"
    if by_suffix == "evt" and data.startswith(_DAT_STARTS):
        return "dat"
    if by_suffix is None:
        found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        known = ", ".join((*FORMAT_OF_SUFFIX, ".aedat4", ".es", ".npy", ".npz", ".mat", ".h5"))
        raise EventError(f"{path.name}: found {found} and no known start, expected a recording ({known})")
    return by_suffix


def takes_unit(path: Path) -> bool:
    """Return whether the format of a recording leaves the unit of its times open; errors as `recognize`."""
    return recognize(read_bytes(path, limit=_HEADER_LIMIT), path) in _TAKEN_BY["unit"]


def check_reading(data: bytes, path: Path, reading: Reading) -> None:
    """Refuse options that the format of a recording does not have, rather than ignore them.

    Args:
        data: As in `recognize`.
        path: As in `recognize`.
        reading: The options.

    Raises:
        EventError: There is one, or the format is unknown.
    """
    kind = recognize(data, path)
    for name, formats in _TAKEN_BY.items():
        value = getattr(reading, name)
        if value != getattr(NOTHING_GIVEN, name) and kind not in formats:
            raise EventError(
                f"{path.name}: {name}: found {value!r}, expected none for a recording of format {kind}; leave it out "
                f"(--{name})"
            )
    if reading.columns is not None and names_its_columns(path):
        raise EventError(
            f"{path.name}: columns: found {reading.columns!r}, expected none for columns with names; leave it out "
            "(--columns)"
        )


def decode_recording(data: bytes, path: Path, reading: Reading) -> Events:
    """Decode the bytes of the recording at `path`; errors as `read_events`."""
    size, place = reading.sensor_size, path.name
    match recognize(data, path):
        case "atis":
            return decode_atis(data, sensor_size=size, place=place)
        case "aedat2":
            return decode_aedat2(
                data, sensor_size=size, orientation=reading.orientation, chip=reading.chip, place=place
            )
        case "aedat3":
            return decode_aedat3(data, sensor_size=size, place=place)
        case "aedat4":
            with on_disk(path) as file:
                return load_aedat4(file, size, reading.stream)
        case "dat":
            return decode_dat(data, sensor_size=size, place=place)
        case "evt":
            return decode_evt(data, sensor_size=size, place=place)
        case "es":
            return decode_event_stream(data, sensor_size=size, place=place)
        case "npy" if reading.pickled:
            return decode_columns(read_pickled_npy(data, place), sensor_size=size, unit=reading.unit, place=place)
        case "npy":
            return decode_npy(data, sensor_size=size, columns=reading.columns, unit=reading.unit, place=place)
        case "npz":
            return decode_npz(data, sensor_size=size, columns=reading.columns, unit=reading.unit, place=place)
        case "hdf5":
            # h5py takes long to load, and most recordings are none of its.
            from tmkt_data.events.formats.hdf5 import load_hdf5

            keys, unit, columns = reading.keys, reading.unit, reading.columns
            with on_disk(path) as file:
                return load_hdf5(file, sensor_size=size, keys=keys, unit=unit, columns=columns)
        case "mat":
            return decode_matlab(data, sensor_size=size, unit=reading.unit, place=place)
