"""Events to aligned frames: time bins, canvas and resize in one pass, straight into the target grid."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError, SpecError
from tmkt_data.events import Events, SensorSize
from tmkt_data.kernels.resize import axis_table
from tmkt_data.spec import Canvas, Representation, Resize
from tmkt_data.time_bins import BinRule, bin_edges

MAX_SENSOR_SIDE = 65536
"""Coordinates are uint16."""


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


def canvas_box(events: Events, canvas: Canvas, sensor_size: SensorSize | None) -> CanvasBox:
    """Return what part of the sensor is scaled to the frame.

    Args:
        events: At least one event for `tight`.
        canvas: `fixed`: the sensor; `tight`: the extent of the events.
        sensor_size: The sensor; needed for `fixed`.

    Raises:
        EventError: `fixed` without a size or with events outside it, `tight` without events.
    """
    if canvas == "tight":
        x_first, y_first, x_last, y_last = events.extent
        return CanvasBox(x_first, y_first, x_last - x_first + 1, y_last - y_first + 1)
    if sensor_size is None:
        raise EventError("canvas 'fixed': no sensor size; give one, or use canvas 'tight'")
    if not 1 <= min(sensor_size) <= max(sensor_size) <= MAX_SENSOR_SIDE:
        raise EventError(
            f"canvas 'fixed': sensor {tuple(sensor_size)}, expected sides of 1 to {MAX_SENSOR_SIDE} pixels"
        )
    if len(events):
        _, _, x_last, y_last = events.extent
        if x_last >= sensor_size.width or y_last >= sensor_size.height:
            raise EventError(
                f"canvas 'fixed': events reach ({x_last}, {y_last}), the sensor is {sensor_size.width} x "
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
        >>> from tmkt_data.io.atis import decode_atis
        >>> events = decode_atis(bytes.fromhex("8302800006 2121812345 0c92000064"))
        >>> result = event_frames(events, num_bins=2, height=6, width=8)
        >>> result.frames.shape, int(result.frames.sum()), result.num_outside_bins
        ((2, 2, 6, 8), 3, 0)
    """
    _check_choices(height, width, canvas, resize, representation)
    edges = bin_edges(
        int(events.t[0]) if len(events) else 0, int(events.t[-1]) if len(events) else 0, num_bins, bin_rule
    )
    channels = 2 if representation == "counts" else 1
    whole = representation == "counts" and resize == "sum"
    out: NDArray[Any] = np.zeros((num_bins, channels, height, width), np.uint32 if whole else np.float32)
    if not len(events):
        return EventFrames(out, 0)
    box = canvas_box(events, canvas, sensor_size or events.sensor_size)
    columns = axis_table(box.width, width, resize)
    rows = axis_table(box.height, height, resize)
    origin = (box.x_first, box.y_first)
    event_columns = (events.t, events.x, events.y, events.p)
    if representation == "voxel":
        from tmkt_data.kernels.voxel import voxel_grid

        voxel_grid(*event_columns, *columns, *rows, *origin, out)
        return EventFrames(out, 0)
    from tmkt_data.kernels.count import count_frames, count_frames_weighted

    if resize == "sum":
        counted = count_frames(*event_columns, edges, columns.target, rows.target, *origin, out)
    else:
        counted = count_frames_weighted(*event_columns, edges, *columns, *rows, *origin, out)
    return EventFrames(out, len(events) - counted)


def _check_choices(height: int, width: int, canvas: str, resize: str, representation: str) -> None:
    for name, length in (("height", height), ("width", width)):
        if length < 1:
            raise SpecError(f"{name}: found {length}, expected 1 or more")
    choices = (
        (canvas, Canvas, "canvas"),
        (resize, Resize, "resize"),
        (representation, Representation, "representation"),
    )
    for value, allowed, name in choices:
        if value not in get_args(allowed):
            raise SpecError(f"{name}: found {value!r}, expected one of {', '.join(get_args(allowed))}")
