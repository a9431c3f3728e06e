"""The event record: one recording in memory, and the one place where events are validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.kernels.event_columns import EventColumns

EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")])
"""Structured dtype of one event: `t` microseconds, `x` column, `y` row (0 is the top), `p` True for ON."""

MAX_TIME_US = 2**61
"""Largest magnitude of a time, so that differences of times and bin edges fit into int64."""

OUTSIDE = "outside the sensor"
"""Reason in `Events.num_dropped`."""

EventArray = NDArray[np.void]


class SensorSize(NamedTuple):
    """Size of a sensor or canvas in pixels; arrays over it have shape `[..., height, width]`."""

    width: int
    height: int


class Window(NamedTuple):
    """A rectangle of a sensor in pixels: first column and row, and size."""

    x_first: int
    y_first: int
    size: SensorSize


@dataclass(frozen=True, slots=True)
class Events:
    """The validated events of one recording, as contiguous columns in non-decreasing time.

    Attributes:
        t: File time, shape (N,), int64 microseconds, non-decreasing.
        x: Pixel column, shape (N,), uint16; 0 is the left edge.
        y: Pixel row, shape (N,), uint16; 0 is the top edge.
        p: Polarity, shape (N,), bool; True is ON (brighter).
        sensor_size: Size of the sensor; every event lies inside. None where neither source nor caller give it.
        num_read: Number of events in the source, before any was dropped.
        num_dropped: Number of dropped events by reason, such as `{"outside the sensor": 3}`.
        num_inversions: Number of neighbors in the source whose time stepped back; 0 means that nothing was sorted.
        num_wraps: How often the clock of the source wrapped; `t` is unwrapped.
        time_step_us: Resolution of floating-point times at the largest of them, rounded up to microseconds; 1 where
            the source resolves microseconds.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.bool_]
    sensor_size: SensorSize | None = None
    num_read: int = 0
    num_dropped: dict[str, int] = field(default_factory=dict)
    num_inversions: int = 0
    num_wraps: int = 0
    time_step_us: int = 1

    def __post_init__(self) -> None:
        """Refuse columns that kernels cannot trust, and make the others read-only.

        Raises:
            EventError: A column of another shape or type, or times that step back; `validate_events` sorts them.
        """
        for name, dtype in (("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.bool_)):
            column: NDArray[Any] = getattr(self, name)
            if column.dtype != dtype or column.shape != (len(self.t),) or not column.flags.c_contiguous:
                raise EventError(
                    f"events: column {name} is {column.dtype} of shape {column.shape}, expected contiguous "
                    f"{np.dtype(dtype)} of shape {(len(self.t),)}; build the record with validate_events"
                )
            column.flags.writeable = False
        if np.any(self.t[1:] < self.t[:-1]):
            raise EventError("events: time steps back, expected non-decreasing; build the record with validate_events")

    def __len__(self) -> int:
        return len(self.t)

    @property
    def columns(self) -> EventColumns:
        """The columns `(t, x, y, p)`, as kernels take them."""
        return self.t, self.x, self.y, self.p

    @property
    def extent(self) -> tuple[int, int, int, int]:
        """Smallest and largest coordinates that occur: `(x_min, y_min, x_max, y_max)`, inclusive.

        Raises:
            EventError: There is no event.
        """
        if not len(self):
            raise EventError("extent: no events; an empty recording has no extent")
        return int(self.x.min()), int(self.y.min()), int(self.x.max()), int(self.y.max())

    def to_array(self) -> EventArray:
        """Return the events as one structured array of `EVENT_DTYPE`, shape (N,), owned by the caller."""
        out = np.empty(len(self), dtype=EVENT_DTYPE)
        out["t"], out["x"], out["y"], out["p"] = self.t, self.x, self.y, self.p
        return out


class DecoderReport(NamedTuple):
    """What a decoder reports of its source besides the events.

    Attributes:
        place: Prefix of error messages, such as a file name.
        num_read: Number of events in the source; None takes the number of decoded ones.
        num_dropped: Number of events that the decoder dropped, by reason; counts of 0 are left out.
        num_wraps: As in `Events`.
        time_step_us: As in `Events`.
    """

    place: str = "events"
    num_read: int | None = None
    num_dropped: Mapping[str, int] = MappingProxyType({})
    num_wraps: int = 0
    time_step_us: int = 1


NO_REPORT = DecoderReport()


def validate_events(
    t: NDArray[np.int64],
    x: NDArray[np.integer[Any]],
    y: NDArray[np.integer[Any]],
    p: NDArray[np.bool_],
    *,
    sensor_size: SensorSize | None = None,
    report: DecoderReport = NO_REPORT,
) -> Events:
    """Validate a recording, drop and count what lies outside the sensor, and sort it by time.

    Args:
        t: Times, shape (N,), integer microseconds in any order.
        x: Columns, shape (N,), integers.
        y: Rows, shape (N,), integers.
        p: Polarities, shape (N,), bool; True is ON.
        sensor_size: Size of the sensor; events outside are dropped and counted. None: nothing is dropped.
        report: What a decoder reports of the source.

    Returns:
        The record. Events are sorted by time only where time steps back, and stably: events of equal time keep their
        order.

    Raises:
        EventError: Columns of different length or type, or a coordinate outside uint16.

    Example:
        >>> import numpy as np
        >>> events = validate_events(np.array([20, 10]), np.array([1, 2]), np.array([0, 0]), np.array([True, False]))
        >>> events.t.tolist(), events.x.tolist(), events.num_inversions
        ([10, 20], [2, 1], 1)
    """
    columns: dict[str, NDArray[Any]] = {"t": np.asarray(t), "x": np.asarray(x), "y": np.asarray(y), "p": np.asarray(p)}
    _check_columns(columns, report.place)
    dropped = {reason: count for reason, count in report.num_dropped.items() if count}
    num_read = len(columns["t"]) if report.num_read is None else report.num_read
    if sensor_size is not None and len(columns["t"]):
        inside = (columns["x"] < sensor_size.width) & (columns["y"] < sensor_size.height)
        num_outside = int(len(inside) - np.count_nonzero(inside))
        if num_outside:
            dropped[OUTSIDE] = dropped.get(OUTSIDE, 0) + num_outside
            columns = {name: column[inside] for name, column in columns.items()}
    times = columns["t"]
    num_inversions = int(np.count_nonzero(times[1:] < times[:-1]))
    if num_inversions:
        order = np.argsort(times, kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
    return Events(
        t=np.ascontiguousarray(columns["t"], dtype=np.int64),
        x=np.ascontiguousarray(columns["x"], dtype=np.uint16),
        y=np.ascontiguousarray(columns["y"], dtype=np.uint16),
        p=np.ascontiguousarray(columns["p"], dtype=np.bool_),
        sensor_size=sensor_size,
        num_read=num_read,
        num_dropped=dropped,
        num_inversions=num_inversions,
        num_wraps=report.num_wraps,
        time_step_us=report.time_step_us,
    )


def _check_columns(columns: dict[str, NDArray[Any]], place: str) -> None:
    length = columns["t"].shape
    for name, column in columns.items():
        if column.ndim != 1 or column.shape != length:
            raise EventError(
                f"{place}: column {name} has shape {column.shape}, expected {length} like t; "
                "give four columns of one length"
            )
        if name == "p":
            if column.dtype != np.bool_:
                raise EventError(f"{place}: polarity is {column.dtype}, expected bool; map it to True for ON first")
        elif not np.issubdtype(column.dtype, np.integer):
            raise EventError(f"{place}: column {name} is {column.dtype}, expected integers; round it first")
    for name in ("x", "y"):
        column = columns[name]
        if column.dtype != np.uint16 and len(column) and (column.min() < 0 or column.max() > np.iinfo(np.uint16).max):
            raise EventError(
                f"{place}: {name} runs from {column.min()} to {column.max()}, expected 0 to 65535; "
                "check the byte layout of the source"
            )
    times = columns["t"]
    if len(times) and not -MAX_TIME_US <= int(times.min()) <= int(times.max()) <= MAX_TIME_US:
        raise EventError(f"{place}: t runs from {times.min()} to {times.max()}, expected at most 2**61 microseconds")
