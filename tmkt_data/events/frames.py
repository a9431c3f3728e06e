"""Events to aligned frames: time bins, canvas and resize in one pass, straight into the target grid."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError, SpecError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.kernels.resize import SampledAxis, Weights, axis_table, sampled_axis
from tmkt_data.spec import BinRule, Canvas, Representation, Resize

MAX_SENSOR_SIDE = 65536
"""Coordinates are uint16."""
MAX_SAMPLED_PIXELS = 1 << 23
"""Largest grid of counts before they are weighted, 64 MiB; sensors have up to 1280 x 960 pixels."""


def _check_choice(value: str, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise SpecError(f"{name}: found {value!r}, expected one of {', '.join(allowed)}")


@dataclass(frozen=True)
class FrameSpec:
    """How the events of a recording become frames.

    Attributes:
        num_bins: Time bins, T.
        height: Rows of a frame, H.
        width: Columns of a frame, W.
        bin_rule: Where the bins lie, see `time_bins.bin_edges`; a voxel grid does not use it.
        resize: `sum`, `bilinear` or `area`, see `kernels.resize.axis_table`.
        representation: `counts`, OFF in channel 0 and ON in channel 1, or `voxel`, one signed channel.

    Raises:
        SpecError: Sides that are not whole numbers of 1 or more, or an unknown choice.
    """

    num_bins: int = 10
    height: int = 48
    width: int = 48
    bin_rule: BinRule = "exact"
    resize: Resize = "sum"
    representation: Representation = "counts"

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            if not isinstance(getattr(self, name), Integral) or getattr(self, name) < 1:
                raise SpecError(f"{name}: found {getattr(self, name)!r}, expected a whole number of 1 or more")
        _check_choice(self.resize, get_args(Resize), "resize")
        _check_choice(self.representation, get_args(Representation), "representation")

    @property
    def is_weighted(self) -> bool:
        """Whether cells hold weighted counts, which are float32."""
        return self.representation == "counts" and self.resize != "sum"

    def zeros(self) -> NDArray[Any]:
        """Return frames of zeros, shape (T, C, H, W): uint32 for counts under `sum`, float32 otherwise."""
        num_channels, dtype = (1, np.float32) if self.representation == "voxel" else (2, np.uint32)
        dtype = np.float32 if self.is_weighted else dtype
        return np.zeros((self.num_bins, num_channels, self.height, self.width), dtype)


DEFAULT_FRAMES = FrameSpec()


class EventFrames(NamedTuple):
    """Frames of one recording.

    Attributes:
        frames: Shape (T, C, H, W): uint32 for counts under `sum`, float32 otherwise. C is 2 for counts (OFF, ON),
            1 for a voxel grid. Owned by the caller.
        num_outside_bins: Number of events that lie in no bin.
    """

    frames: NDArray[np.uint32] | NDArray[np.float32]
    num_outside_bins: int


class CanvasBox(NamedTuple):
    """The part of the sensor that is scaled to the frame, in sensor pixels."""

    x_first: int
    y_first: int
    width: int
    height: int

    def holds(self, extent: tuple[int, int, int, int]) -> bool:
        """Return whether coordinates of that extent, see `Events.extent`, lie in the box."""
        x_first, y_first, x_last, y_last = extent
        is_right_and_below = x_first >= self.x_first and y_first >= self.y_first
        return is_right_and_below and x_last - self.x_first < self.width and y_last - self.y_first < self.height


def canvas_box(extent: tuple[int, int, int, int] | None, canvas: Canvas, sensor_size: SensorSize | None) -> CanvasBox:
    """Return the part of the sensor that is scaled to the frame.

    Args:
        extent: Smallest and largest coordinates of the events, see `Events.extent`; None without events.
        canvas: `fixed`: the sensor; `tight`: the extent of the events; `max`: the sensor up to it.
        sensor_size: Size of the sensor; required for `fixed`.

    Raises:
        EventError: `fixed` without a size or with events outside it, another without events.
        SpecError: Another canvas.
    """
    _check_choice(canvas, get_args(Canvas), "canvas")
    if canvas != "fixed":
        if extent is None:
            raise EventError("extent: no events; an empty recording has no extent")
        x_first, y_first, x_last, y_last = extent
        if canvas == "max":
            x_first = y_first = 0
        return CanvasBox(x_first, y_first, x_last - x_first + 1, y_last - y_first + 1)
    if sensor_size is None:
        raise EventError("canvas 'fixed': no sensor size; give one, or use canvas 'tight'")
    if not 1 <= min(sensor_size) <= max(sensor_size) <= MAX_SENSOR_SIDE:
        raise EventError(
            f"canvas 'fixed': sensor {tuple(sensor_size)}, expected sides of 1 to {MAX_SENSOR_SIDE} pixels"
        )
    box = CanvasBox(0, 0, *sensor_size)
    if extent is not None and not box.holds(extent):
        raise EventError(
            f"canvas 'fixed': events reach ({extent[2]}, {extent[3]}), the sensor is {sensor_size.width} x "
            f"{sensor_size.height}; give the right size"
        )
    return box


def event_frames(
    events: Events, spec: FrameSpec = DEFAULT_FRAMES, *, canvas: Canvas = "fixed", sensor_size: SensorSize | None = None
) -> EventFrames:
    """Turn one recording into frames of the target size.

    Args:
        events: Validated events of one recording.
        spec: Bins, size and values of the frames.
        canvas: `fixed`: the whole sensor; `tight`: the extent of the events; `max`: the sensor up to it.
        sensor_size: Size of the sensor; None takes the size that the events carry.

    Returns:
        The frames and the number of events in no bin. Without events, frames of zeros.

    Raises:
        EventError: No sensor size for a fixed canvas, or events outside the sensor.
        SpecError: Fewer than one bin, an unknown choice, or events in another form.

    Example:
        >>> from tmkt_data.events.formats.atis import decode_atis
        >>> data = bytes.fromhex("8302800006 2121812345 0c92000064")
        >>> events = decode_atis(data, sensor_size=SensorSize(240, 180))
        >>> result = event_frames(events, FrameSpec(num_bins=2, height=6, width=8))
        >>> result.frames.shape, int(result.frames.sum()), result.num_outside_bins
        ((2, 2, 6, 8), 3, 0)
    """
    _check_choice(canvas, get_args(Canvas), "canvas")
    if not isinstance(events, Events):
        raise SpecError(f"events: found {type(events).__name__}, expected Events; tmkt_data.load_events reads them")
    t_first, t_last = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
    size = events.sensor_size if sensor_size is None else SensorSize(*sensor_size)
    box = canvas_box(events.extent, canvas, size) if len(events) else CanvasBox(0, 0, 1, 1)
    builder = FrameBuilder(spec, box, t_first, t_last)
    builder.add(events)
    return builder.result()


class SampledGrid(NamedTuple):
    """Counts of one bin on the pixels that weighted cells sample, and the weights.

    Attributes:
        columns: Sampled columns.
        rows: Sampled rows.
        room: The counts, and scratch for one row, see `kernels.frames.Room`.
    """

    columns: SampledAxis
    rows: SampledAxis
    room: tuple[NDArray[np.uint32], NDArray[np.float32]]

    @classmethod
    def of(cls, box: CanvasBox, height: int, width: int, resize: Resize) -> SampledGrid:
        """Return a grid of zeros for a part of the sensor and frames of (height, width).

        Raises:
            EventError: More pixels are sampled than any camera has.
        """
        if resize == "area" and box.width * box.height > MAX_SAMPLED_PIXELS:
            raise EventError(
                f"frames: {box.width} x {box.height} pixels under 'area', expected at most {MAX_SAMPLED_PIXELS:,} in "
                "all; one event may lie far out: give --canvas fixed, or --resize sum"
            )
        columns, rows = sampled_axis(box.width, width, resize), sampled_axis(box.height, height, resize)
        counts = np.zeros((2, rows.num_places + 1, columns.num_places + 1), np.uint32)
        return cls(columns, rows, (counts, np.zeros(counts.shape[2], np.float32)))

    @property
    def taps(self) -> tuple[Weights, Weights]:
        """Taps of the columns and of the rows, as kernels take them."""
        return self.columns.taps[:], self.rows.taps[:]


class FrameBuilder:
    """Build the frames of a recording from pieces in order of time; the result equals that of all events at once.

    Args:
        spec: Bins, size and values of the frames.
        box: The part of the sensor that is scaled to the frame; every event lies inside.
        t_first: Time of the first event of the recording, microseconds.
        t_last: Time of the last one.

    Raises:
        SpecError: Fewer than one bin, or an unknown bin rule.
        EventError: More pixels are sampled than any camera has.
    """

    def __init__(self, spec: FrameSpec, box: CanvasBox, t_first: int, t_last: int) -> None:
        self._spec, self._box = spec, box
        self._edges = bin_edges(t_first, t_last, spec.num_bins, spec.bin_rule)
        self._span = (t_first, t_last - t_first)
        self._tables = axis_table(box.width, spec.width, spec.resize), axis_table(box.height, spec.height, spec.resize)
        self._grid = SampledGrid.of(box, spec.height, spec.width, spec.resize) if spec.is_weighted else None
        self._out = spec.zeros()
        self._bin = 0
        self._num_outside_bins = 0
        self._per_bin = np.zeros(spec.num_bins, np.int64)

    def add(self, events: Events) -> None:
        """Count the next events.

        Raises:
            EventError: An event lies outside the box.
        """
        if not len(events):
            return
        box, extent = self._box, events.extent
        if not box.holds(extent):
            raise EventError(
                f"frames: events reach ({extent[2]}, {extent[3]}), outside of {tuple(box)}; give the right size"
            )
        # numba loads only here, where there is something to count.
        from tmkt_data.kernels import frames as kernels

        self._per_bin += np.diff(np.searchsorted(events.t, self._edges))
        origin = (box.x_first, box.y_first)
        across, down = self._tables
        if self._spec.representation == "voxel":
            kernels.voxel_grid(events.columns, (across[:], down[:]), origin, self._span, self._out)
            return
        if self._grid is None:
            cells = (across.target, down.target)
            counted = kernels.count_frames(events.columns, self._edges, cells, origin, self._out)
        else:
            cells = (self._grid.columns.place, self._grid.rows.place)
            counted, self._bin = kernels.count_frames_weighted(
                events.columns, self._edges, cells, origin, self._grid.taps, self._bin, self._grid.room, self._out
            )
        self._num_outside_bins += len(events) - counted

    @property
    def largest_bin(self) -> int:
        """Number of events so far in the time bin that has most of them."""
        return int(self._per_bin.max())

    def result(self) -> EventFrames:
        """Return the frames of all events so far."""
        if self._grid is not None and self._bin < len(self._out):
            from tmkt_data.kernels.frames import resample

            resample(self._grid.room, self._grid.taps, self._out[self._bin])
        return EventFrames(self._out, self._num_outside_bins)
