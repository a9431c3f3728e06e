"""The values of columns: times of any unit, pixels and polarities of any type, into those of a record."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import MAX_TIME_US
from tmkt_data.spec import TIME_UNITS, TimeUnit

_US_PER_UNIT = {"s": 1_000_000, "ms": 1000, "us": 1}
_ALL_OFF_OR_ON = ({0, 1}, {-1, 1})
MAX_COORDINATE = 65535


def check_unit(unit: str | None, place: str) -> None:
    """Refuse a unit of time that is none.

    Raises:
        EventError: Such a unit.
    """
    if unit is not None and unit not in TIME_UNITS:
        raise EventError(f"{place}: unit: found {unit!r}, expected one of {', '.join(TIME_UNITS)}")


def microseconds(column: NDArray[Any], unit: TimeUnit | None, place: str) -> NDArray[np.int64]:
    """Turn times into microseconds; arguments and errors as in `arrays.decode_npy`."""
    check_unit(unit, place)
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


def time_step_us(column: NDArray[Any], unit: TimeUnit | None) -> int:
    """Return what `Events.time_step_us` says of times that `microseconds` takes."""
    if column.dtype.kind != "f" or not len(column):
        return 1
    scale = 0.001 if unit == "ns" else _US_PER_UNIT[unit or "us"]
    return max(1, math.ceil(float(np.spacing(np.abs(column).max())) * scale))


def coordinates(name: str, column: NDArray[Any], place: str) -> NDArray[np.uint16]:
    """Turn columns or rows of pixels into those of a record; errors as in `arrays.decode_npy`."""
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


def polarities(column: NDArray[Any], place: str) -> NDArray[np.bool_]:
    """Turn polarities, which are bool, 0 and 1, or -1 and 1, into bool; errors as in `arrays.decode_npy`."""
    if column.dtype.kind == "b":
        return column.astype(np.bool_)
    values = set(np.unique(column).tolist())
    if not any(values <= known for known in _ALL_OFF_OR_ON):
        some = ", ".join(f"{value:g}" for value in sorted(values)[:5])
        raise EventError(f"{place}: polarity holds {some}, expected bool, 0 and 1, or -1 and 1; check the columns")
    positive: NDArray[np.bool_] = column > 0
    return positive
