"""Events to aligned frames: time bins, canvas and resize in one pass, straight into the target grid."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError, SpecError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.kernels.resize import SampledAxis, axis_table, sampled_axis
from tmkt_data.spec import BinRule, Canvas, Representation, Resize

MAX_SENSOR_SIDE = 65536
"""Coordinates are uint16."""
MAX_SAMPLED_PIXELS = 1 << 23
"""Counted apart before they are weighed, 64 MiB; sensors have up to 1280 x 960."""


class EventFrames(NamedTuple):
    """Frames of one recording.

    Attributes:
        frames: Shape (T, C, H, W): uint32 for counts under `sum`, float32 otherwise. C is 2 for counts (OFF, ON),
            1 for a voxel grid. Owned by the caller.
        num_outside_bins: Events that the bin rule puts in no bin.
    """

    frames: NDArray[np.uint32] | NDArray[np.float32]
    num_outside_bins: int


class CanvasBox(NamedTuple):
    """The part of the sensor that is scaled to the frame, in sensor pixels."""

    x_first: int
    y_first: int
    width: int
    height: int


def canvas_box(extent: tuple[int, int, int, int] | None, canvas: Canvas, sensor_size: SensorSize | None) -> CanvasBox:
    """Return what part of the sensor is scaled to the frame.

    Args:
        extent: Smallest and largest coordinates of the events, see `Events.extent`; None without events.
        canvas: `fixed`: the sensor; `tight`: the extent of the events.
        sensor_size: The sensor; needed for `fixed`.

    Raises:
        EventError: `fixed` without a size or with events outside it, `tight` without events.
        SpecError: Another canvas.
    """
    _check_choice(canvas, get_args(Canvas), "canvas")
    if canvas == "tight":
        if extent is None:
            raise EventError("extent: no events; an empty recording has no extent")
        x_first, y_first, x_last, y_last = extent
        return CanvasBox(x_first, y_first, x_last - x_first + 1, y_last - y_first + 1)
    if sensor_size is None:
        raise EventError("canvas 'fixed': no sensor size; give one, or use canvas 'tight'")
    if not 1 <= min(sensor_size) <= max(sensor_size) <= MAX_SENSOR_SIDE:
        raise EventError(
            f"canvas 'fixed': sensor {tuple(sensor_size)}, expected sides of 1 to {MAX_SENSOR_SIDE} pixels"
        )
    if extent is not None and (extent[2] >= sensor_size.width or extent[3] >= sensor_size.height):
        raise EventError(
            f"canvas 'fixed': events reach ({extent[2]}, {extent[3]}), the sensor is {sensor_size.width} x "
            f"{sensor_size.height}; give the right size"
        )
    return CanvasBox(0, 0, sensor_size.width, sensor_size.height)


def event_frames(
    events: Events,
    *,
    num_bins: int = 10,
    height: int = 48,
    width: int = 48,
    bin_rule: BinRule = "exact",
    canvas: Canvas = "fixed",
    resize: Resize = "sum",
    representation: Representation = "counts",
    sensor_size: SensorSize | None = None,
) -> EventFrames:
    """Turn one recording into frames of the target size.

    Args:
        events: Validated events of one recording, times non-decreasing.
        num_bins: Time bins, T.
        height: Rows of a frame, H.
        width: Columns of a frame, W.
        bin_rule: Where the bins lie, see `time_bins.bin_edges`; a voxel grid does not use it.
        canvas: `fixed`: the whole sensor; `tight`: the extent of the events.
        resize: `sum`, `bilinear` or `area`, see `kernels.resize.axis_table`.
        representation: `counts`, OFF in channel 0 and ON in channel 1, or `voxel`, one signed channel.
        sensor_size: The sensor; None takes the size that the events carry.

    Returns:
        The frames and the number of events in no bin. Without events, frames of zeros.

    Raises:
        EventError: No sensor size for a fixed canvas, or events outside it.
        SpecError: A number of bins, rows or columns below 1, or a choice that does not exist.

    Example:
        >>> from tmkt_data.events.formats.atis import decode_atis
        >>> data = bytes.fromhex("8302800006 2121812345 0c92000064")
        >>> events = decode_atis(data, sensor_size=SensorSize(240, 180))
        >>> result = event_frames(events, num_bins=2, height=6, width=8)
        >>> result.frames.shape, int(result.frames.sum()), result.num_outside_bins
        ((2, 2, 6, 8), 3, 0)
    """
    _check_choice(canvas, get_args(Canvas), "canvas")
    t_first, t_last = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
    size = sensor_size or events.sensor_size
    box = canvas_box(events.extent, canvas, size) if len(events) else CanvasBox(0, 0, 1, 1)
    builder = FrameBuilder(
        box, t_first, t_last,
        num_bins=num_bins, height=height, width=width, bin_rule=bin_rule, resize=resize, representation=representation,
    )  # fmt: skip
    builder.add(events)
    return builder.result()


class SampledGrid(NamedTuple):
    """Counts of one bin on the pixels that weighted cells sample, and how the cells weigh them.

    Attributes:
        columns: Taps along x.
        rows: Taps along y.
        counts: Shape (2, Y + 1, X + 1), uint32; the last row and column take what no cell samples.
        line: Room for one row of it, float32.
    """

    columns: SampledAxis
    rows: SampledAxis
    counts: NDArray[np.uint32]
    line: NDArray[np.float32]

    @classmethod
    def of(cls, box: CanvasBox, height: int, width: int, resize: Resize) -> SampledGrid:
        """Make one of zeros for a part of the sensor and the frames of (height, width).

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
        return cls(columns, rows, counts, np.zeros(counts.shape[2], np.float32))


class FrameBuilder:
    """Frames of one recording whose events come in pieces, in order of time; the same as all at once.

    Args:
        box: The part of the sensor that is scaled to the frame; no event may lie outside.
        t_first: Time of the first event of the recording, microseconds.
        t_last: Time of the last one.
        num_bins: As in `event_frames`, and so are the others.
        height: Rows of a frame, H.
        width: Columns of a frame, W.
        bin_rule: Where the bins lie.
        resize: How events come to cells.
        representation: `counts` or `voxel`.

    Raises:
        SpecError: As `event_frames`.
    """

    def __init__(
        self,
        box: CanvasBox,
        t_first: int,
        t_last: int,
        *,
        num_bins: int,
        height: int,
        width: int,
        bin_rule: BinRule,
        resize: Resize,
        representation: Representation,
    ) -> None:
        _check_choices(height, width, resize, representation)
        self._edges = bin_edges(t_first, t_last, num_bins, bin_rule)
        self._span = (t_first, t_last - t_first)
        self._box, self._resize, self._representation = box, resize, representation
        self._target = (height, width)
        whole = representation == "counts" and resize == "sum"
        channels = 2 if representation == "counts" else 1
        self._out: NDArray[Any] = np.zeros((num_bins, channels, height, width), np.uint32 if whole else np.float32)
        self._grid: SampledGrid | None = None
        if representation == "counts" and not whole:
            self._grid = SampledGrid.of(box, height, width, resize)
        self._bin = 0
        self._num_outside_bins = 0

    def add(self, events: Events) -> None:
        """Count the next events.

        Raises:
            EventError: An event outside the box.
        """
        if not len(events):
            return
        x_first, y_first, x_last, y_last = events.extent
        box = self._box
        if min(x_first - box.x_first, y_first - box.y_first) < 0 or (
            x_last - box.x_first >= box.width or y_last - box.y_first >= box.height
        ):
            raise EventError(f"frames: events reach ({x_last}, {y_last}), outside of {tuple(box)}; give the right size")
        origin = (box.x_first, box.y_first)
        event_columns = (events.t, events.x, events.y, events.p)
        if self._representation == "voxel":
            from tmkt_data.kernels.voxel import voxel_grid

            across, down = (axis_table(*sides, self._resize) for sides in self._sides())
            voxel_grid(*event_columns, *across, *down, *origin, *self._span, self._out)
            return
        from tmkt_data.kernels.count import count_frames, count_frames_weighted

        grid = self._grid
        if grid is None:
            columns, rows = (axis_table(*sides, "sum").target for sides in self._sides())
            counted = count_frames(*event_columns, self._edges, columns, rows, *origin, self._out)
        else:
            x, y = grid.columns.taps, grid.rows.taps
            counted, self._bin = count_frames_weighted(
                *event_columns, self._edges, grid.columns.place, grid.rows.place, *origin,
                x.start, x.place, x.weight, y.start, y.place, y.weight, self._bin, grid.counts, grid.line, self._out,
            )  # fmt: skip
        self._num_outside_bins += len(events) - counted

    def result(self) -> EventFrames:
        """Return the frames of all events so far."""
        if self._grid is not None and self._bin < len(self._out):
            from tmkt_data.kernels.spread import spread

            grid = self._grid
            spread(grid.counts, *grid.columns.taps, *grid.rows.taps, grid.line, self._out[self._bin])
        return EventFrames(self._out, self._num_outside_bins)

    def _sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (self._box.width, self._target[1]), (self._box.height, self._target[0])


def _check_choices(height: int, width: int, resize: str, representation: str) -> None:
    for name, length in (("height", height), ("width", width)):
        if length < 1:
            raise SpecError(f"{name}: found {length}, expected 1 or more")
    for value, allowed, name in ((resize, Resize, "resize"), (representation, Representation, "representation")):
        _check_choice(value, get_args(allowed), name)


def _check_choice(value: str, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise SpecError(f"{name}: found {value!r}, expected one of {', '.join(allowed)}")
