"""Archives of columns that are larger than memory: all members are unpacked at once, a little of each at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError, printable
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.formats.arrays import CLOCK_RANGE, SIZE_NAME, column_names, decode_columns, stored_size
from tmkt_data.events.formats.clock import Clock
from tmkt_data.events.formats.npy import DAMAGE, check_members, read_npy, read_npy_header
from tmkt_data.spec import TimeUnit


class _Column(NamedTuple):
    stream: IO[bytes]
    dtype: np.dtype[Any]
    place: str


def holds_columns(path: Path) -> bool:
    """Return whether an archive holds a column for each of t, x, y and p, and so may be read in pieces."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
        column_names([name for name in names if name != SIZE_NAME], path.name)
    except (*DAMAGE, NotImplementedError, OSError, EventError):
        return False
    return True


def names_its_columns(path: Path) -> bool:
    """Return whether a NumPy file names its columns: an archive of them, or an array with fields."""
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return holds_columns(path)
            file.seek(0)
            return read_npy_header(file, path.stat().st_size, path.name)[2].names is not None
    except (OSError, EventError):
        return False


def npz_pieces(
    path: Path, num_events: int, *, sensor_size: SensorSize | None, unit: TimeUnit | None
) -> Iterator[Events]:
    """Read an archive of columns in records of `num_events`; arguments and errors as `arrays.decode_npz`."""
    place = path.name
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            members = archive.infolist()
            check_members(members, path.stat().st_size, place)
            by_name = {member.filename.removesuffix(".npy"): member for member in members}
            if sensor_size is None and SIZE_NAME in by_name:
                with archive.open(by_name[SIZE_NAME]) as stream:
                    sensor_size = stored_size(read_npy(stream, by_name[SIZE_NAME].file_size, place), place)
            names = column_names([name for name in by_name if name != SIZE_NAME], place)
            opened = {
                letter: _open(stack.enter_context(archive.open(by_name[name])), by_name[name], place)
                for letter, name in names.items()
            }
            length = _common_length({letter: length for letter, (_, length) in opened.items()}, place)
            clock = Clock(CLOCK_RANGE)
            for start in range(0, max(length, 1), num_events):
                count = min(num_events, length - start)
                columns = {letter: _read(column, count) for letter, (column, _) in opened.items()}
                yield decode_columns(columns, sensor_size=sensor_size, unit=unit, clock=clock, place=place)
    except (*DAMAGE, NotImplementedError, OSError) as broken:
        raise EventError(f"{place}: no readable npz archive ({str(broken)[:100]}); the file is damaged") from None


def _open(stream: IO[bytes], member: zipfile.ZipInfo, place: str) -> tuple[_Column, int]:
    place = f"{place}, {printable(member.filename[:60])}"
    shape, _, dtype = read_npy_header(stream, member.file_size, place)
    if len(shape) != 1 or dtype.kind not in "biuf":
        raise EventError(f"{place}: {dtype} of shape {shape}, expected one column of numbers")
    return _Column(stream, dtype, place), shape[0]


def _common_length(lengths: dict[str, int], place: str) -> int:
    if len(set(lengths.values())) > 1:
        about = ", ".join(f"{letter} {length:,}" for letter, length in lengths.items())
        raise EventError(f"{place}: columns of different length ({about}); the file is damaged")
    return lengths["t"]


def _read(column: _Column, count: int) -> NDArray[Any]:
    expected = count * column.dtype.itemsize
    data = column.stream.read(expected)
    if len(data) != expected:
        raise EventError(f"{column.place}: {len(data)} bytes of data, expected {expected}; the file is truncated")
    return np.frombuffer(data, column.dtype)
