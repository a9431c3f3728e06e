"""The short way for ATIS recordings whose events are counted as they stand: from bytes to frames in one pass."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.source_table import Source
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.atis import ATIS_SIZE, BYTES_PER_EVENT
from tmkt_data.events.frames import CanvasBox, SampledGrid, canvas_box
from tmkt_data.events.read import SUFFIXES, recognize
from tmkt_data.events.stream import WHOLE_BYTES
from tmkt_data.events.summary import RecordingFacts
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.kernels.resize import axis_table
from tmkt_data.spec import PrepareSpec, Resize

_SIDE = 256
"""Coordinates are bytes."""
_HEAD = 4096
"""Bytes that tell other formats."""
_ATIS = Path("a.bin")
"""Any name that says ATIS, where the content does not say otherwise."""


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


class AtisFrames(NamedTuple):
    """What was found of a recording whose frames were stored.

    Attributes:
        facts: What it holds.
        num_outside_bins: Events in no bin.
        frames: Its frames as `FrameBuilder` makes them, bit for bit, flat; good until the next recording.
        largest: Their largest value.
    """

    facts: RecordingFacts
    num_outside_bins: int
    frames: NDArray[np.uint32] | NDArray[np.float32]
    largest: float


class AtisCounter:
    """Counts ATIS recordings one after the other, each in the same memory.

    Args:
        sensor_size: Size of the sensor.
        spec: The choices, see `counts_as_it_stands`.
    """

    def __init__(self, sensor_size: SensorSize, spec: PrepareSpec) -> None:
        from tmkt_data.kernels.atis_frames import EXTENT_ROOM

        self._sensor_size, self._spec = sensor_size, spec
        self._width, self._height = min(sensor_size.width, ATIS_SIZE.width), min(sensor_size.height, ATIS_SIZE.height)
        kind = np.uint32 if spec.resize == "sum" else np.float32
        self._frames: NDArray[Any] = np.empty((spec.time_bins, 2, spec.size, spec.size), kind)
        self._flat = self._frames.reshape(-1)
        self._room = np.empty(EXTENT_ROOM, np.uint8)

    def store(self, data: NDArray[np.uint8], stored: NDArray[Any]) -> AtisFrames | None:
        """Count the events of a recording, and store the frames.

        Args:
            data: The file, shape (N,), uint8.
            stored: Written to: shape (T, 2, H, W), uint8 under `sum`, else float16, see `kernels.pack`.

        Returns:
            None where the way by `FrameBuilder` is to be taken: for other bytes, for times that step back or events
            outside the sensor, and for whatever is an error there; nothing is said of what is stored then.
        """
        from tmkt_data.kernels import atis_frames as kernels

        if not data.size or data.size % BYTES_PER_EVENT or recognize(data[:_HEAD].tobytes(), _ATIS) != "atis":
            return None
        x_first, y_first, x_last, y_last, t_first, t_last = kernels.atis_extent(data, self._room)
        if x_last >= self._width or y_last >= self._height or t_last < t_first:
            return None
        num_events = data.size // BYTES_PER_EVENT
        extent = (x_first, y_first, x_last, y_last)
        box = canvas_box(extent, self._spec.canvas, self._sensor_size)
        edges = bin_edges(t_first, t_last, self._spec.time_bins, self._spec.bin_rule)
        tables = _tables(box, self._spec.size, self._spec.resize)
        counted, backwards, largest = self._store(data, edges, tables, stored.reshape(-1))
        if backwards:
            return None
        facts = RecordingFacts(t_first, t_last, extent, num_read=num_events, num_kept=num_events)
        return AtisFrames(facts, num_events - counted, self._flat, largest)

    def _store(
        self, data: NDArray[np.uint8], edges: NDArray[np.int64], tables: _Tables, stored: NDArray[Any]
    ) -> tuple[int, int, float]:
        from tmkt_data.kernels import atis_frames as kernels

        if tables.grid is None:
            return kernels.store_atis(data, edges, tables.column, tables.line, self._flat, stored)
        x, y = tables.grid.columns.taps, tables.grid.rows.taps
        counts, line = np.empty_like(tables.grid.counts), np.empty_like(tables.grid.line)
        return kernels.store_atis_weighted(
            data, edges, tables.column, tables.line, counts,
            x.start, x.place, x.weight, y.start, y.place, y.weight, line, self._frames, stored.view(np.uint16),
        )  # fmt: skip


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
