"""Columns of any type and unit, under their usual names, to a record."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError, printable
from tmkt_data.events.events import MAX_TIME_US, DecoderReport, Events, SensorSize, validate_events
from tmkt_data.events.formats.clock import WORD_RANGE, Clock, unwrap_words
from tmkt_data.spec import TIME_UNITS, TimeUnit

MAX_COORDINATE = 65535
_NAMES: dict[str, tuple[str, ...]] = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x",),
    "y": ("y",),
    "p": ("p", "pol", "polarity", "on"),
}
_US_PER_UNIT = {"s": 1_000_000, "ms": 1000, "us": 1}
_POLARITIES = ({0, 1}, {-1, 1})

Columns = Mapping[str, NDArray[Any]]


def decode_columns(
    arrays: Columns,
    *,
    sensor_size: SensorSize | None = None,
    unit: TimeUnit | None = None,
    origin: int = 0,
    clock: Clock | None = None,
    place: str = "columns",
) -> Events:
    """Turn columns into the record.

    Args:
        arrays: Columns for t, x, y and p, under these or usual other names, shape (N,) each.
        sensor_size: Size of the sensor; events outside are dropped.
        unit: Unit of the times, see `microseconds`.
        origin: Added to the times, in their unit.
        clock: Clock of `WORD_RANGE` that earlier columns of the recording have advanced; updated. None: a new one.
        place: Prefix of error messages.

    Returns:
        The validated record. Times that are integers of 32 bits are unwrapped.

    Raises:
        EventError: Columns that are missing, of different length, or hold no events; or times whose unit is unknown.
    """
    check_unit(unit, place)
    columns = {letter: arrays[name] for letter, name in column_names(arrays, place).items()}
    x, y, p = pixels_and_polarities(columns, place)
    clock = clock or Clock(WORD_RANGE)
    t = unwrap_words(columns["t"], clock)
    if origin:
        t = t.astype(np.int64) + origin
    times = microseconds(t, unit, place)
    report = DecoderReport(place, num_wraps=clock.num_new_wraps, time_step_us=time_step_us(t, unit))
    return validate_events(times, x, y, p, sensor_size=sensor_size, report=report)


def column_names(held: Collection[str], place: str) -> dict[str, str]:
    """Return which of the given names stand for t, x, y and p.

    Raises:
        EventError: None of them stands for one of the four, or more than one does.
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


def pixels_and_polarities(
    columns: Columns, place: str
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.bool_]]:
    """Convert the columns x, y and p, once all four are known to be of one length; errors as `decode_columns`."""
    length = len(columns["t"]) if columns["t"].ndim else -1
    for name, column in columns.items():
        if column.ndim != 1 or len(column) != length or column.dtype.kind not in "biuf":
            raise EventError(
                f"{place}: {name} is {column.dtype} of shape {column.shape}, expected numbers, one for each of the "
                f"{max(length, 0)} times"
            )
    x, y = (_coordinates(name, columns[name], place) for name in "xy")
    return x, y, _polarities(columns["p"], place)


def check_unit(unit: str | None, place: str) -> None:
    """Refuse an unknown unit of time.

    Raises:
        EventError: It is unknown.
    """
    if unit is not None and unit not in TIME_UNITS:
        raise EventError(f"{place}: unit: found {unit!r}, expected one of {', '.join(TIME_UNITS)}")


def microseconds(column: NDArray[Any], unit: TimeUnit | None, place: str) -> NDArray[np.int64]:
    """Convert times to microseconds.

    Args:
        column: Times, shape (N,).
        unit: Their unit. Integers are microseconds by default; floating-point times have no default and are rounded,
            half to even. Integer nanoseconds are rounded down.
        place: Prefix of error messages.

    Raises:
        EventError: An unknown unit, floating-point times without one, NaN, infinity, or times beyond 2**61 us.
    """
    check_unit(unit, place)
    if column.dtype.kind == "b":
        raise EventError(f"{place}: t is bool, expected times; check the order of the columns")
    if column.dtype.kind == "f" and unit is None:
        raise EventError(f"{place}: t is {column.dtype} without a unit; give unit='s' or another (--unit s)")
    if not len(column):
        return np.empty(0, np.int64)
    if not np.isfinite(column).all():
        raise EventError(f"{place}: t holds NaN or infinity, expected times; clean the recording first")
    smallest, largest = (value.item() for value in (column.min(), column.max()))
    scale = _scale(unit)
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


def time_step_us(column: NDArray[Any], unit: TimeUnit | None) -> int:
    """Return the resolution of times before `microseconds`, see `Events.time_step_us`."""
    if column.dtype.kind != "f" or not len(column):
        return 1
    return max(1, math.ceil(float(np.spacing(np.abs(column).max())) * _scale(unit)))


def _scale(unit: TimeUnit | None) -> float:
    return 0.001 if unit == "ns" else _US_PER_UNIT[unit or "us"]


def _coordinates(name: str, column: NDArray[Any], place: str) -> NDArray[np.uint16]:
    if column.dtype.kind == "b":
        raise EventError(f"{place}: {name} is bool, expected pixels; check the order of the columns")
    if not len(column):
        return np.empty(0, np.uint16)
    if column.dtype.kind == "f" and not (np.isfinite(column).all() and (column == np.rint(column)).all()):
        raise EventError(_fractions(name, column, place))
    smallest, largest = (value.item() for value in (column.min(), column.max()))
    if not 0 <= smallest <= largest <= MAX_COORDINATE:
        raise EventError(
            f"{place}: {name} runs from {smallest:g} to {largest:g}, expected 0 to {MAX_COORDINATE}; check the order "
            "of the columns"
        )
    return column.astype(np.uint16)


def _fractions(name: str, column: NDArray[Any], place: str) -> str:
    if not np.isfinite(column).all():
        return f"{place}: {name} holds NaN or infinity, expected whole pixels; clean the recording first"
    example = column[column != np.rint(column)][0].item()
    if np.abs(column).max() <= 1:
        what = "normalized coordinates, or times if the order of the columns is another; scale them to the sensor"
    else:
        what = "undistorted or resampled coordinates; take the raw recording, or round them"
    return f"{place}: {name} has fractions, such as {example:g}, expected whole pixels; these are probably {what}"


def _polarities(column: NDArray[Any], place: str) -> NDArray[np.bool_]:
    if column.dtype.kind == "b":
        return column.astype(np.bool_)
    values = set(np.unique(column).tolist())
    if not any(values <= known for known in _POLARITIES):
        some = ", ".join(f"{value:g}" for value in sorted(values)[:5])
        raise EventError(f"{place}: polarity holds {some}, expected bool, 0 and 1, or -1 and 1; check the columns")
    positive: NDArray[np.bool_] = column > 0
    return positive
