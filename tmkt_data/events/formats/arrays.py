"""Events in NumPy files: structured arrays, plain columns, and archives of columns. Nothing is ever unpickled."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError, printable
from tmkt_data.events.events import Events, SensorSize, validate_events
from tmkt_data.events.formats.clock import Clock
from tmkt_data.events.formats.columns import check_unit, coordinates, microseconds, polarities, time_step_us
from tmkt_data.events.formats.npy import read_npy, read_npz
from tmkt_data.spec import TimeUnit

_NAMES: dict[str, tuple[str, ...]] = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x",),
    "y": ("y",),
    "p": ("p", "pol", "polarity", "on"),
}
SIZE_NAME = "sensor_size"
"""Name of an array with the width and height of the sensor."""
CLOCK_RANGE = 1 << 32
"""Where times that are unsigned whole numbers of 32 bits begin anew, in their unit."""

Columns = Mapping[str, NDArray[Any]]


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
        unit: Unit of the times. Whole numbers are microseconds unless told otherwise; decimal ones have no default
            and are rounded to microseconds, half to even. Nanoseconds are cut to whole microseconds.
        place: What the message of an error starts with.

    Returns:
        The validated record. Polarity may be bool, 0 and 1, or -1 and 1.

    Raises:
        EventError: Damaged or foreign bytes, objects, another layout, values that are no events, or a layout that
            needs `columns` or `unit`.
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
        data: The file. It holds the columns t, x, y and p under these or usual other names, and maybe sensor_size
            (width, height); or `pos` and `neg`, each of shape (N, 3); or one array as `decode_npy` takes it.
        sensor_size: Size of the sensor; None takes the stored one.
        columns: Order of the columns of plain arrays, `xyt` or the like for `pos` and `neg`.
        unit: As in `decode_npy`.
        place: What the message of an error starts with.

    Raises:
        EventError: As `decode_npy`; an archive that is damaged, encrypted, or would unpack to far more than its size.
    """
    check_unit(unit, place)
    arrays = read_npz(data, place)
    if sensor_size is None and SIZE_NAME in arrays:
        sensor_size = stored_size(arrays[SIZE_NAME], place)
    arrays = {name: array for name, array in arrays.items() if name != SIZE_NAME}
    if set(arrays) == {"pos", "neg"}:
        return _from_sides(arrays["pos"], arrays["neg"], sensor_size, columns, unit, place)
    if len(arrays) == 1:
        return decode_array(next(iter(arrays.values())), sensor_size, columns, unit, place)
    return _from_columns(_named(arrays, place), sensor_size, unit, place)


def decode_columns(
    arrays: Columns,
    *,
    sensor_size: SensorSize | None = None,
    unit: TimeUnit | None = None,
    origin: int = 0,
    clock: Clock | None = None,
    place: str = "columns",
) -> Events:
    """Turn arrays by name into the record; names, units and errors as in `decode_npz`.

    Args:
        arrays: The columns.
        sensor_size: As in `decode_npy`.
        unit: As in `decode_npy`.
        origin: Added to the times, in their unit.
        clock: What earlier columns of the recording have left, of `CLOCK_RANGE`; carried on. None begins anew.
        place: What the message of an error starts with.
    """
    check_unit(unit, place)
    return _from_columns(_named(arrays, place), sensor_size, unit, place, clock, origin)


def stored_size(array: NDArray[Any], place: str) -> SensorSize:
    """Return the size of a sensor that is stored as an array.

    Raises:
        EventError: It is no width and height.
    """
    if array.shape != (2,) or array.dtype.kind not in "iu" or not 1 <= int(array.min()) <= int(array.max()) <= 65536:
        raise EventError(f"{place}: sensor_size is no width and height of 1 to 65536; write it as two whole numbers")
    return SensorSize(int(array[0]), int(array[1]))


def decode_array(
    array: NDArray[Any],
    sensor_size: SensorSize | None,
    columns: str | None,
    unit: TimeUnit | None,
    place: str,
    clock: Clock | None = None,
) -> Events:
    """Turn one array, structured or of shape (N, 4), into the record; arguments and errors as in `decode_columns`."""
    if array.dtype.names is not None:
        if array.ndim != 1:
            raise EventError(f"{place}: a structured array of shape {array.shape}, expected (N,)")
        return _from_columns(_named({n: array[n] for n in array.dtype.names}, place), sensor_size, unit, place, clock)
    if array.ndim == 2 and array.shape[1] == 4:
        order = _order(columns, "txyp", place)
        return _from_columns({name: array[:, at] for at, name in enumerate(order)}, sensor_size, unit, place, clock)
    what = "frames" if array.ndim >= 3 else "an array"
    raise EventError(
        f"{place}: {what} of shape {array.shape} and type {array.dtype}, expected events: fields t, x, y, p or "
        "shape (N, 4)"
    )


def _order(columns: str | None, letters: str, place: str) -> str:
    if columns is None:
        raise EventError(
            f"{place}: {len(letters)} columns without names; say their order, columns={letters!r} or the like "
            f"(--columns {letters})"
        )
    if sorted(columns) != sorted(letters):
        raise EventError(f"{place}: columns: found {columns!r}, expected the letters of {letters!r} in some order")
    return columns


def _from_sides(
    pos: NDArray[Any],
    neg: NDArray[Any],
    sensor_size: SensorSize | None,
    columns: str | None,
    unit: TimeUnit | None,
    place: str,
) -> Events:
    for name, side in (("pos", pos), ("neg", neg)):
        if side.dtype.names is not None or side.ndim != 2 or side.shape[1] != 3:
            raise EventError(f"{place}: {name} has shape {side.shape}, expected (N, 3) with x, y and t")
    order = _order(columns, "xyt", place)
    both = {name: np.concatenate([pos[:, at], neg[:, at]]) for at, name in enumerate(order)}
    both["p"] = np.repeat(np.array([True, False]), (len(pos), len(neg)))
    t, x, y, p = microseconds(both["t"], unit, place), *_pixels_and_polarities(both, place)
    by_time = np.argsort(t, kind="stable")
    return validate_events(
        t[by_time], x[by_time], y[by_time], p[by_time],
        sensor_size=sensor_size, time_step_us=time_step_us(both["t"], unit), place=place,
    )  # fmt: skip


def column_names(held: Collection[str], place: str) -> dict[str, str]:
    """Return which of the names that are held stand for t, x, y and p.

    Raises:
        EventError: None does, or more than one.
    """
    found: dict[str, str] = {}
    for letter, names in _NAMES.items():
        known = sorted(name for name in held if name.lower() in names)
        if len(known) != 1:
            what = f"{' and '.join(known)} for {letter}" if known else f"nothing for {letter}"
            some = ", ".join(printable(name[:40]) for name in sorted(held)[:8])
            raise EventError(f"{place}: found {what} among {some}; expected one of {', '.join(names)}")
        found[letter] = known[0]
    return found


def _named(arrays: Columns, place: str) -> Columns:
    return {letter: arrays[name] for letter, name in column_names(arrays, place).items()}


def _from_columns(
    columns: Columns,
    sensor_size: SensorSize | None,
    unit: TimeUnit | None,
    place: str,
    clock: Clock | None = None,
    origin: int = 0,
) -> Events:
    x, y, p = _pixels_and_polarities(columns, place)
    clock = clock or Clock(CLOCK_RANGE)
    num_before = clock.num_wraps
    t = columns["t"]
    if t.dtype.kind == "u" and t.dtype.itemsize == 4:
        t = clock.unwrap(t.astype(np.int64))
    if origin:
        t = t.astype(np.int64) + origin
    return validate_events(
        microseconds(t, unit, place), x, y, p,
        sensor_size=sensor_size, num_wraps=clock.num_wraps - num_before,
        time_step_us=time_step_us(t, unit), place=place,
    )  # fmt: skip


def _pixels_and_polarities(
    columns: Columns, place: str
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.bool_]]:
    length = len(columns["t"]) if columns["t"].ndim else -1
    for name, column in columns.items():
        if column.ndim != 1 or len(column) != length or column.dtype.kind not in "biuf":
            raise EventError(
                f"{place}: {name} is {column.dtype} of shape {column.shape}, expected numbers, one for each of the "
                f"{max(length, 0)} times"
            )
    return (
        coordinates("x", columns["x"], place),
        coordinates("y", columns["y"], place),
        polarities(columns["p"], place),
    )
