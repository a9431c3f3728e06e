"""Events in NumPy files: structured arrays, plain columns, and archives of columns. Nothing is ever unpickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError, printable
from tmkt_data.events.events import DecoderReport, Events, SensorSize, validate_events
from tmkt_data.events.formats.clock import WORD_RANGE, Clock, unwrap_words
from tmkt_data.events.formats.columns import (
    check_unit,
    column_names,
    decode_columns,
    microseconds,
    pixels_and_polarities,
    time_step_us,
)
from tmkt_data.events.formats.npy import DAMAGE, check_members, read_npy, read_npy_header, read_npz
from tmkt_data.files import is_refused
from tmkt_data.spec import TimeUnit

SIZE_NAME = "sensor_size"
"""Name of an array with the width and height of the sensor."""


def decode_npy(
    data: bytes,
    *,
    sensor_size: SensorSize | None = None,
    columns: str | None = None,
    unit: TimeUnit | None = None,
    place: str = "npy bytes",
) -> Events:
    """Decode a `.npy` file.

    Args:
        data: The file: a structured array with fields for t, x, y and p, or a plain one of shape (N, 4).
        sensor_size: Size of the sensor; events outside are dropped.
        columns: Order of the columns of a plain array, such as `xytp`; it is never guessed.
        unit: Unit of the times. Integers are microseconds by default; floating-point times have no default and are
            rounded to microseconds, half to even. Integer nanoseconds are rounded down.
        place: Prefix of error messages.

    Returns:
        The validated record. Polarity may be bool, 0 and 1, or -1 and 1.

    Raises:
        EventError: Damaged or foreign bytes, Python objects, another layout, values that are no events, or a layout
            that needs `columns` or `unit`.
    """
    check_unit(unit, place)
    return decode_array(read_npy(io.BytesIO(data), len(data), place), sensor_size, columns, unit, place)


def decode_npz(
    data: bytes,
    *,
    sensor_size: SensorSize | None = None,
    columns: str | None = None,
    unit: TimeUnit | None = None,
    place: str = "npz bytes",
) -> Events:
    """Decode a `.npz` file.

    Args:
        data: The file. It holds columns for t, x, y and p under these or usual other names, and optionally sensor_size
            (width, height); or `pos` and `neg`, each of shape (N, 3); or one array as `decode_npy` takes it.
        sensor_size: Size of the sensor; None takes the stored one.
        columns: Order of the columns of plain arrays, `xyt` or the like for `pos` and `neg`.
        unit: As in `decode_npy`.
        place: Prefix of error messages.

    Raises:
        EventError: As `decode_npy`; an archive that is damaged, encrypted, or unpacks to far more than its size.
    """
    check_unit(unit, place)
    arrays = read_npz(data, place)
    if sensor_size is None and SIZE_NAME in arrays:
        sensor_size = _stored_size(arrays[SIZE_NAME], place)
    arrays = {name: array for name, array in arrays.items() if name != SIZE_NAME}
    if set(arrays) == {"pos", "neg"}:
        return _decode_sides(arrays, sensor_size, columns, unit, place)
    if len(arrays) == 1:
        return decode_array(next(iter(arrays.values())), sensor_size, columns, unit, place)
    return decode_columns(arrays, sensor_size=sensor_size, unit=unit, place=place)


def decode_array(
    array: NDArray[Any],
    sensor_size: SensorSize | None,
    columns: str | None,
    unit: TimeUnit | None,
    place: str,
    clock: Clock | None = None,
) -> Events:
    """Decode one array, structured or of shape (N, 4); arguments and errors as `decode_npy` and `decode_columns`."""
    if array.dtype.names is not None:
        if array.ndim != 1:
            raise EventError(f"{place}: a structured array of shape {array.shape}, expected (N,)")
        named = {name: array[name] for name in array.dtype.names}
    elif array.ndim == 2 and array.shape[1] == 4:
        named = {name: array[:, at] for at, name in enumerate(_order(columns, "txyp", place))}
    else:
        what = "frames" if array.ndim >= 3 else "an array"
        raise EventError(
            f"{place}: {what} of shape {array.shape} and type {array.dtype}, expected events: fields t, x, y, p or "
            "shape (N, 4)"
        )
    return decode_columns(named, sensor_size=sensor_size, unit=unit, clock=clock, place=place)


def _decode_sides(
    arrays: dict[str, NDArray[Any]],
    sensor_size: SensorSize | None,
    columns: str | None,
    unit: TimeUnit | None,
    place: str,
) -> Events:
    for name, side in arrays.items():
        if side.dtype.names is not None or side.ndim != 2 or side.shape[1] != 3:
            raise EventError(f"{place}: {name} has shape {side.shape}, expected (N, 3) with x, y and t")
    pos, neg = arrays["pos"], arrays["neg"]
    order = _order(columns, "xyt", place)
    both = {name: np.concatenate([pos[:, at], neg[:, at]]) for at, name in enumerate(order)}
    both["t"], num_wraps = _side_times(pos[:, order.index("t")], neg[:, order.index("t")])
    both["p"] = np.repeat(np.array([True, False]), (len(pos), len(neg)))
    t = microseconds(both["t"], unit, place)
    x, y, p = pixels_and_polarities(both, place)
    by_time = np.argsort(t, kind="stable")
    return validate_events(
        t[by_time],
        x[by_time],
        y[by_time],
        p[by_time],
        sensor_size=sensor_size,
        report=DecoderReport(place, num_wraps=num_wraps, time_step_us=time_step_us(both["t"], unit)),
    )


def _side_times(pos: NDArray[Any], neg: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return the times of both sides, unwrapped, and how often their clock wrapped."""
    clocks = Clock(WORD_RANGE), Clock(WORD_RANGE)
    sides = [unwrap_words(t, clock) for t, clock in zip((pos, neg), clocks, strict=True)]
    num_wraps = max(clock.num_wraps for clock in clocks)
    if num_wraps and len(pos) and len(neg):
        # One side may begin after the first wrap.
        ahead = round((int(sides[1][0]) - int(sides[0][0])) / WORD_RANGE)
        late = 1 if ahead < 0 else 0
        sides[late] = sides[late].astype(np.int64) + abs(ahead) * WORD_RANGE
        num_wraps = max(clocks[late].num_wraps + abs(ahead), clocks[1 - late].num_wraps)
    return np.concatenate(sides), num_wraps


def _order(columns: str | None, letters: str, place: str) -> str:
    if columns is None:
        raise EventError(
            f"{place}: {len(letters)} columns without names; give their order, columns={letters!r} or the like "
            f"(--columns {letters})"
        )
    if sorted(columns) != sorted(letters):
        raise EventError(f"{place}: columns: found {columns!r}, expected the letters of {letters!r} in some order")
    return columns


def _stored_size(array: NDArray[Any], place: str) -> SensorSize:
    if array.shape != (2,) or array.dtype.kind not in "iu" or not 1 <= int(array.min()) <= int(array.max()) <= 65536:
        raise EventError(f"{place}: sensor_size is no width and height of 1 to 65536; write it as two integers")
    return SensorSize(int(array[0]), int(array[1]))


def holds_columns(path: Path) -> bool:
    """Return whether an archive holds a column for each of t, x, y and p, and so can be read in pieces."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
        column_names([name for name in names if name != SIZE_NAME], path.name)
    except (*DAMAGE, NotImplementedError, OSError, EventError) as broken:
        _require_readable(path, broken)
        return False
    return True


def names_its_columns(path: Path) -> bool:
    """Return whether a NumPy file names its columns: an archive of columns, or an array with fields."""
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return holds_columns(path)
            file.seek(0)
            return read_npy_header(file, path.stat().st_size, path.name)[2].names is not None
    except (OSError, EventError) as broken:
        _require_readable(path, broken)
        return False


def _require_readable(path: Path, broken: Exception) -> None:
    """Raise an error where the system refused to read a file, which says nothing about its content."""
    if is_refused(broken):
        raise EventError(f"{path}: cannot be read ({broken}); check the file and its disk") from broken


class _Column(NamedTuple):
    """A column of an archive that is unpacked little by little."""

    stream: IO[bytes]
    dtype: np.dtype[Any]
    length: int
    place: str

    @classmethod
    def open(cls, stream: IO[bytes], member: zipfile.ZipInfo, place: str) -> _Column:
        place = f"{place}, {printable(member.filename[:60])}"
        shape, _, dtype = read_npy_header(stream, member.file_size, place)
        if len(shape) != 1 or dtype.kind not in "biuf":
            raise EventError(f"{place}: {dtype} of shape {shape}, expected one column of numbers")
        return cls(stream, dtype, shape[0], place)

    def read(self, count: int) -> NDArray[Any]:
        expected = count * self.dtype.itemsize
        data = self.stream.read(expected)
        if len(data) != expected:
            raise EventError(f"{self.place}: {len(data)} bytes of data, expected {expected}; the file is truncated")
        return np.frombuffer(data, self.dtype)


def npz_pieces(
    path: Path, num_events: int, *, sensor_size: SensorSize | None, unit: TimeUnit | None
) -> Iterator[Events]:
    """Read an archive of columns in pieces of `num_events`; arguments and errors as `decode_npz`.

    All columns are unpacked side by side, so that an archive larger than memory can be read.
    """
    place = path.name
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            members = archive.infolist()
            check_members(members, path.stat().st_size, place)
            by_name = {member.filename.removesuffix(".npy"): member for member in members}
            if sensor_size is None and SIZE_NAME in by_name:
                with archive.open(by_name[SIZE_NAME]) as stream:
                    sensor_size = _stored_size(read_npy(stream, by_name[SIZE_NAME].file_size, place), place)
            names = column_names([name for name in by_name if name != SIZE_NAME], place)
            opened = {
                letter: _Column.open(stack.enter_context(archive.open(by_name[name])), by_name[name], place)
                for letter, name in names.items()
            }
            length = _common_length({letter: column.length for letter, column in opened.items()}, place)
            clock = Clock(WORD_RANGE)
            for start in range(0, max(length, 1), num_events):
                count = min(num_events, length - start)
                columns = {letter: column.read(count) for letter, column in opened.items()}
                yield decode_columns(columns, sensor_size=sensor_size, unit=unit, clock=clock, place=place)
    except (*DAMAGE, NotImplementedError, OSError) as broken:
        _require_readable(path, broken)
        raise EventError(f"{place}: no readable npz archive ({str(broken)[:100]}); the file is damaged") from None


def _common_length(lengths: dict[str, int], place: str) -> int:
    if len(set(lengths.values())) > 1:
        about = ", ".join(f"{letter} {length:,}" for letter, length in lengths.items())
        raise EventError(f"{place}: columns of different length ({about}); the file is damaged")
    return lengths["t"]
