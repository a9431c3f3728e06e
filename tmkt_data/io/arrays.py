"""Events in NumPy files: structured arrays, plain columns, and archives of columns. Nothing is ever unpickled."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events import MAX_TIME_US, Events, SensorSize, validate_events
from tmkt_data.io.npy import read_npy, read_npz
from tmkt_data.time_bins import TIME_UNITS, TimeUnit

_US_PER_UNIT = {"s": 1_000_000, "ms": 1000, "us": 1}
_NAMES: dict[str, tuple[str, ...]] = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x",),
    "y": ("y",),
    "p": ("p", "pol", "polarity", "on"),
}
_ALL_OFF_OR_ON = ({0, 1}, {-1, 1})
MAX_COORDINATE = 65535

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
    _check_unit(unit, place)
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
    _check_unit(unit, place)
    arrays = read_npz(data, place)
    if sensor_size is None and "sensor_size" in arrays:
        sensor_size = _stored_size(arrays["sensor_size"], place)
    arrays = {name: array for name, array in arrays.items() if name != "sensor_size"}
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
    place: str = "columns",
) -> Events:
    """Turn arrays by name into the record; names, units and errors as in `decode_npz`."""
    _check_unit(unit, place)
    return _from_columns(_named(arrays, place), sensor_size, unit, place)


def whole_times(column: NDArray[np.int64], unit: TimeUnit | None, place: str) -> NDArray[np.int64]:
    """Turn whole times of a unit, microseconds where none is given, into microseconds; errors as in `decode_npy`."""
    _check_unit(unit, place)
    return _times(column, unit, place)


def _check_unit(unit: str | None, place: str) -> None:
    if unit is not None and unit not in TIME_UNITS:
        raise EventError(f"{place}: unit: found {unit!r}, expected one of {', '.join(TIME_UNITS)}")


def _stored_size(array: NDArray[Any], place: str) -> SensorSize:
    if array.shape != (2,) or array.dtype.kind not in "iu" or not 1 <= int(array.min()) <= int(array.max()) <= 65536:
        raise EventError(f"{place}: sensor_size is no width and height of 1 to 65536; write it as two whole numbers")
    return SensorSize(int(array[0]), int(array[1]))


def decode_array(
    array: NDArray[Any], sensor_size: SensorSize | None, columns: str | None, unit: TimeUnit | None, place: str
) -> Events:
    """Turn one array, structured or of shape (N, 4), into the record; arguments and errors as in `decode_npy`."""
    if array.dtype.names is not None:
        if array.ndim != 1:
            raise EventError(f"{place}: a structured array of shape {array.shape}, expected (N,)")
        return _from_columns(_named({n: array[n] for n in array.dtype.names}, place), sensor_size, unit, place)
    if array.ndim == 2 and array.shape[1] == 4:
        order = _order(columns, "txyp", place)
        return _from_columns({name: array[:, at] for at, name in enumerate(order)}, sensor_size, unit, place)
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
    t, x, y, p = _typed(both, unit, place)
    by_time = np.argsort(t, kind="stable")
    return validate_events(t[by_time], x[by_time], y[by_time], p[by_time], sensor_size=sensor_size, place=place)


def _named(arrays: Columns, place: str) -> Columns:
    found: dict[str, NDArray[Any]] = {}
    lower = {name.lower(): array for name, array in arrays.items()}
    for letter, names in _NAMES.items():
        known = [name for name in names if name in lower]
        if len(known) != 1:
            what = f"{' and '.join(known)} for {letter}" if known else f"nothing for {letter}"
            held = ", ".join(sorted(arrays)[:8])
            raise EventError(f"{place}: found {what} among {held}; expected one of {', '.join(names)}")
        found[letter] = lower[known[0]]
    return found


def _from_columns(columns: Columns, sensor_size: SensorSize | None, unit: TimeUnit | None, place: str) -> Events:
    return validate_events(*_typed(columns, unit, place), sensor_size=sensor_size, place=place)


def _typed(
    columns: Columns, unit: TimeUnit | None, place: str
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.bool_]]:
    length = len(columns["t"]) if columns["t"].ndim else -1
    for name, column in columns.items():
        if column.ndim != 1 or len(column) != length or column.dtype.kind not in "biuf":
            raise EventError(
                f"{place}: {name} is {column.dtype} of shape {column.shape}, expected numbers, one for each of the "
                f"{max(length, 0)} times"
            )
    return (
        _times(columns["t"], unit, place),
        _coordinates("x", columns["x"], place),
        _coordinates("y", columns["y"], place),
        _polarities(columns["p"], place),
    )


def _times(column: NDArray[Any], unit: TimeUnit | None, place: str) -> NDArray[np.int64]:
    if column.dtype.kind == "b":
        raise EventError(f"{place}: t is bool, expected times; check the order of the columns")
    if column.dtype.kind == "f" and unit is None:
        raise EventError(f"{place}: t is {column.dtype}, whose unit is open; say unit='s' or another (--unit s)")
    if not len(column):
        return np.empty(0, np.int64)
    if not np.isfinite(column).all():
        raise EventError(f"{place}: t holds NaN or infinity, expected times; clean the recording first")
    smallest, largest = (value.item() for value in (column.min(), column.max()))
    scale = 0.001 if unit == "ns" else _US_PER_UNIT[unit or "us"]
    if not -MAX_TIME_US <= smallest * scale <= largest * scale <= MAX_TIME_US:
        raise EventError(
            f"{place}: t runs from {smallest} to {largest} {unit or 'us'}, expected at most 2**61 microseconds; "
            "check the unit"
        )
    if column.dtype.kind == "f":
        micros: NDArray[np.int64] = np.rint(column.astype(np.float64) * scale).astype(np.int64)
        return micros
    whole = column.astype(np.int64)
    return whole // 1000 if unit == "ns" else whole * int(scale)


def _coordinates(name: str, column: NDArray[Any], place: str) -> NDArray[np.uint16]:
    if column.dtype.kind == "b":
        raise EventError(f"{place}: {name} is bool, expected pixels; check the order of the columns")
    if not len(column):
        return np.empty(0, np.uint16)
    if column.dtype.kind == "f" and not (np.isfinite(column).all() and (column == np.rint(column)).all()):
        raise EventError(f"{place}: {name} is no whole number everywhere, expected pixels; check the order of columns")
    smallest, largest = (value.item() for value in (column.min(), column.max()))
    if not 0 <= smallest <= largest <= MAX_COORDINATE:
        raise EventError(
            f"{place}: {name} runs from {smallest:g} to {largest:g}, expected 0 to {MAX_COORDINATE}; check the order "
            "of the columns"
        )
    return column.astype(np.uint16)


def _polarities(column: NDArray[Any], place: str) -> NDArray[np.bool_]:
    if column.dtype.kind == "b":
        return column.astype(np.bool_)
    values = set(np.unique(column).tolist())
    if not any(values <= known for known in _ALL_OFF_OR_ON):
        some = ", ".join(f"{value:g}" for value in sorted(values)[:5])
        raise EventError(f"{place}: polarity holds {some}, expected bool, 0 and 1, or -1 and 1; check the columns")
    positive: NDArray[np.bool_] = column > 0
    return positive
