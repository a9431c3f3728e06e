"""The fast path for ATIS recordings whose events are counted unchanged: from bytes to frames in one pass."""

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
from tmkt_data.events.read import FORMAT_OF_SUFFIX, recognize
from tmkt_data.events.stream import WHOLE_BYTES
from tmkt_data.events.summary import RecordingFacts
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.kernels.resize import Weights, axis_table
from tmkt_data.spec import PrepareSpec, Resize

_SIDE = 256
"""Coordinates are bytes."""
_HEAD = 4096
"""Bytes that identify other formats."""
_ATIS = Path("a.bin")
"""Any name that stands for ATIS where the content does not say otherwise."""


def has_fast_path(catalogue: Catalogue, spec: PrepareSpec) -> bool:
    """Return whether events are counted unmoved and unfiltered, so that ATIS files may take the fast path."""
    moved = (spec.shift_x, spec.shift_y, spec.orientation, spec.polarity, spec.time_offset_us)
    return (
        catalogue.kind == "files"
        and catalogue.window is None
        and moved == (0, 0, "as-is", "as-is", 0)
        and not spec.filters
        and spec.time_range == "whole"
        and spec.representation == "counts"
    )


def may_take_fast_path(source: Source) -> bool:
    """Return whether a source is by its name an ATIS file, unmoved, and small enough to be read at once."""
    suffix = source.file[source.file.rfind(".") :].lower()
    return FORMAT_OF_SUFFIX.get(suffix) == "atis" and source.num_bytes <= WHOLE_BYTES and source.shift == (0, 0)


class AtisFrames(NamedTuple):
    """A recording whose frames were stored.

    Attributes:
        facts: What it holds.
        num_outside_bins: Number of events in no bin.
        frames: Its frames, flat, bit for bit those of `FrameBuilder`; overwritten by the next recording.
        largest: Their largest value.
        largest_bin: Events of the time bin that has most of them.
    """

    facts: RecordingFacts
    num_outside_bins: int
    frames: NDArray[np.uint32] | NDArray[np.float32]
    largest: float
    largest_bin: int


class AtisCounter:
    """Count ATIS recordings one after the other, all in the same memory.

    Args:
        sensor_size: Size of the sensor.
        spec: The options, see `has_fast_path`.
    """

    def __init__(self, sensor_size: SensorSize, spec: PrepareSpec) -> None:
        # Kernels are looked up once: an import in each call would take a tenth of the time of a small recording.
        from tmkt_data.kernels.atis import EXTENT_ROOM, atis_extent, store_atis, store_atis_weighted

        self._extent_of, self._store_counts, self._store_weighted = atis_extent, store_atis, store_atis_weighted
        self._sensor_size, self._spec = sensor_size, spec
        self._width, self._height = min(sensor_size.width, ATIS_SIZE.width), min(sensor_size.height, ATIS_SIZE.height)
        dtype = np.uint32 if spec.resize == "sum" else np.float32
        self._frames: NDArray[Any] = np.empty((spec.time_bins, 2, spec.size, spec.size), dtype)
        self._flat = self._frames.reshape(-1)
        self._room = np.empty(EXTENT_ROOM, np.uint8)

    def store(self, data: NDArray[np.uint8], stored: NDArray[Any]) -> AtisFrames | None:
        """Count the events of a recording, and store the frames.

        Args:
            data: The file, shape (N,), uint8.
            stored: Written to: shape (T, 2, H, W), uint8 under `sum`, else float16, see `kernels.pack`.

        Returns:
            None where `FrameBuilder` has to be used: for bytes of another format, times that step back, events outside
            the sensor, and whatever is an error there; `stored` is then undefined.
        """
        if not data.size or data.size % BYTES_PER_EVENT or recognize(data[:_HEAD].tobytes(), _ATIS) != "atis":
            return None
        x_first, y_first, x_last, y_last, t_first, t_last, polarities = self._extent_of(data, self._room)
        if x_last >= self._width or y_last >= self._height or t_last < t_first:
            return None
        num_events = data.size // BYTES_PER_EVENT
        extent = (x_first, y_first, x_last, y_last)
        box = canvas_box(extent, self._spec.canvas, self._sensor_size)
        edges = bin_edges(t_first, t_last, self._spec.time_bins, self._spec.bin_rule)
        counted, largest_bin, backwards, largest = self._store(data, edges, box, stored.reshape(-1))
        if backwards:
            return None
        facts = RecordingFacts(t_first, t_last, extent, num_read=num_events, num_kept=num_events)
        facts.polarities = polarities
        return AtisFrames(facts, num_events - counted, self._flat, largest, largest_bin)

    def _store(
        self, data: NDArray[np.uint8], edges: NDArray[np.int64], box: CanvasBox, stored: NDArray[Any]
    ) -> tuple[int, int, int, float]:
        target = _target(box, self._spec.size, self._spec.resize)
        if target.sampled is None:
            return self._store_counts(data, edges, target.offsets, self._flat, stored)
        shape, taps = target.sampled
        room = np.empty(shape, np.uint32), np.empty(shape[2], np.float32)
        return self._store_weighted(data, edges, target.offsets, taps, room, self._frames, stored.view(np.uint16))


class _Target(NamedTuple):
    """Where events are counted: straight into the frame under `sum`, otherwise on the grid of the sampled pixels.

    Attributes:
        offsets: See `kernels.atis.Offsets`.
        sampled: Shape of the grid, and taps of its columns and rows; None under `sum`.
    """

    offsets: tuple[NDArray[np.uint32], NDArray[np.uint32]]
    sampled: tuple[tuple[int, int, int], tuple[Weights, Weights]] | None


@lru_cache(maxsize=256)
def _target(box: CanvasBox, size: int, resize: Resize) -> _Target:
    if resize == "sum":
        sampled, height, width = None, size, size
        columns, rows = axis_table(box.width, size, "sum").target, axis_table(box.height, size, "sum").target
    else:
        grid = SampledGrid.of(box, size, size, resize)
        columns, rows = grid.columns.place, grid.rows.place
        height, width = grid.rows.num_places + 1, grid.columns.num_places + 1
        sampled = ((2, height, width), grid.taps)
    column, line = np.zeros(_SIDE, np.uint32), np.zeros((_SIDE, 2), np.uint32)
    held = columns[: _SIDE - box.x_first]
    column[box.x_first : box.x_first + len(held)] = held
    held = rows[: _SIDE - box.y_first]
    line[box.y_first : box.y_first + len(held)] = held[:, None] * width + np.array([0, height * width])
    return _Target((column, line.reshape(-1)), sampled)
