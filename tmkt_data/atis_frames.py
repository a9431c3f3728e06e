"""The short way for ATIS recordings whose events are counted as they stand: from bytes to frames in one pass."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue, Source
from tmkt_data.events import SensorSize
from tmkt_data.io.atis import ATIS_SIZE, BYTES_PER_EVENT
from tmkt_data.io.pieces import WHOLE_BYTES
from tmkt_data.io.read import SUFFIXES, recognize
from tmkt_data.kernels.resize import axis_table
from tmkt_data.source_reader import RecordingFacts
from tmkt_data.spec import PrepareSpec, Resize
from tmkt_data.time_bins import bin_edges
from tmkt_data.voxelize import CanvasBox, EventFrames, SampledGrid, canvas_box

_SIDE = 256
"""Coordinates are bytes."""


def counts_as_it_stands(catalogue: Catalogue, spec: PrepareSpec) -> bool:
    """Return whether events are counted without being moved or filtered, so that ATIS files may go the short way."""
    moved = (spec.shift_x, spec.shift_y, spec.orientation, spec.polarity, spec.time_offset_us)
    return (
        catalogue.kind == "files"
        and catalogue.window is None
        and moved == (0, 0, "as-is", "as-is", 0)
        and not spec.filters
        and spec.representation == "counts"
    )


def may_be_counted(source: Source) -> bool:
    """Return whether a source is an ATIS file by its name, unmoved, and small enough to be read at once."""
    suffix = source.file[source.file.rfind(".") :].lower()
    return SUFFIXES.get(suffix) == "atis" and source.num_bytes <= WHOLE_BYTES and source.shift == (0, 0)


def count_recording(
    data: bytes, source: Source, sensor_size: SensorSize, spec: PrepareSpec
) -> tuple[RecordingFacts, EventFrames] | None:
    """Count the events of an ATIS recording.

    Args:
        data: The file.
        source: Where it is from.
        sensor_size: Size of the sensor.
        spec: The choices, see `counts_as_it_stands`.

    Returns:
        What it holds, and its frames as `FrameBuilder` makes them, bit for bit. None where that way is to be taken:
        for other bytes, for times that step back or events outside the sensor, and for whatever is an error there.
    """
    from tmkt_data.kernels import atis_frames as kernels

    if not len(data) or len(data) % BYTES_PER_EVENT or recognize(data, source.path) != "atis":
        return None
    pixels = np.frombuffer(data, np.uint8)
    x_first, y_first, x_last, y_last, t_first, t_last = kernels.atis_extent(pixels)
    if x_last >= min(sensor_size.width, ATIS_SIZE.width) or y_last >= min(sensor_size.height, ATIS_SIZE.height):
        return None
    if t_last < t_first:
        return None
    num_events = len(data) // BYTES_PER_EVENT
    extent = (x_first, y_first, x_last, y_last)
    facts = RecordingFacts(t_first, t_last, extent, num_read=num_events, num_kept=num_events)
    tables = _tables(canvas_box(extent, spec.canvas, sensor_size), spec.size, spec.resize)
    edges = bin_edges(t_first, t_last, spec.time_bins, spec.bin_rule)
    shape = (spec.time_bins, 2, spec.size, spec.size)
    frames: NDArray[np.uint32] | NDArray[np.float32]
    if tables.grid is None:
        frames = np.zeros(shape, np.uint32)
        counted, backwards = kernels.count_atis(pixels, edges, tables.column, tables.line, frames.reshape(-1))
    else:
        frames = np.empty(shape, np.float32)
        counts, line = np.empty_like(tables.grid.counts), np.empty_like(tables.grid.line)
        counted, backwards = kernels.count_atis_weighted(
            pixels,
            edges,
            tables.column,
            tables.line,
            counts,
            *tables.grid.columns.taps,
            *tables.grid.rows.taps,
            line,
            frames,
        )
    return None if backwards else (facts, EventFrames(frames, num_events - counted))


class _Tables(NamedTuple):
    """Where events are counted: straight into the frame under `sum`, else on the grid of the sampled pixels.

    Attributes:
        column: Column of each x, shape (256,), uint32.
        line: Where the line of each y and polarity begins, shape (512,), uint32, at 2 y + p.
        grid: The grid, whose arrays each recording has anew; None under `sum`.
    """

    column: NDArray[np.uint32]
    line: NDArray[np.uint32]
    grid: SampledGrid | None


@lru_cache(maxsize=256)
def _tables(box: CanvasBox, size: int, resize: Resize) -> _Tables:
    if resize == "sum":
        grid, height, width = None, size, size
        columns, rows = axis_table(box.width, size, "sum").target, axis_table(box.height, size, "sum").target
    else:
        grid = SampledGrid.of(box, size, size, resize)
        columns, rows = grid.columns.place, grid.rows.place
        _, height, width = grid.counts.shape
    column, line = np.zeros(_SIDE, np.uint32), np.zeros((_SIDE, 2), np.uint32)
    held = columns[: _SIDE - box.x_first]
    column[box.x_first : box.x_first + len(held)] = held
    held = rows[: _SIDE - box.y_first]
    line[box.y_first : box.y_first + len(held)] = held[:, None] * width + np.array([0, height * width])
    return _Tables(column, line.reshape(-1), grid)
