"""The short way for ATIS recordings whose events are counted as they stand: from bytes to frames in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue, Source
from tmkt_data.event_filters import OUTSIDE
from tmkt_data.events import SensorSize
from tmkt_data.io.atis import ATIS_SIZE, BYTES_PER_EVENT
from tmkt_data.io.pieces import WHOLE_BYTES
from tmkt_data.io.read import SUFFIXES, recognize
from tmkt_data.kernels.resize import axis_table
from tmkt_data.source_reader import RecordingFacts
from tmkt_data.spec import PrepareSpec
from tmkt_data.time_bins import bin_edges
from tmkt_data.voxelize import EventFrames, canvas_box

_TABLE = 256
"""Coordinates are bytes."""


def counts_as_it_stands(source: Source, catalogue: Catalogue, spec: PrepareSpec) -> bool:
    """Return whether a recording may be an ATIS file whose events are counted without being moved or filtered."""
    moved = (source.shift, spec.shift_x, spec.shift_y, spec.orientation, spec.polarity, spec.time_offset_us)
    return (
        catalogue.kind == "files"
        and catalogue.window is None
        and SUFFIXES.get(source.path.suffix.lower()) == "atis"
        and source.num_bytes <= WHOLE_BYTES
        and moved == ((0, 0), 0, 0, "as-is", "as-is", 0)
        and not spec.filters
        and (spec.representation, spec.resize) == ("counts", "sum")
    )


def count_recording(
    data: bytes, source: Source, sensor_size: SensorSize, spec: PrepareSpec
) -> tuple[RecordingFacts, EventFrames] | None:
    """Count the events of an ATIS recording.

    Args:
        data: The file.
        source: Where it is from.
        sensor_size: Size of the sensor.
        spec: The choices, such as `counts_as_it_stands` wants them.

    Returns:
        What it holds, and its frames, shape (T, 2, H, W), uint32: the same as by way of `Events`. None where that way
        is to be taken: for other bytes, for times that step back, and for whatever is an error there.
    """
    from tmkt_data.kernels import atis_frames as kernels

    if not data or len(data) % BYTES_PER_EVENT or recognize(data, source.path) != "atis":
        return None
    pixels = np.frombuffer(data, np.uint8)
    width, height = min(sensor_size.width, ATIS_SIZE.width), min(sensor_size.height, ATIS_SIZE.height)
    first, last = kernels.find_ends(pixels, width, height)
    if first < 0 or last < first:
        return None
    facts = RecordingFacts(t_first=first, t_last=last, num_read=len(data) // BYTES_PER_EVENT)
    if spec.canvas == "tight":
        facts.extent = _extent(pixels, width, height)
    box = canvas_box(facts.extent, spec.canvas, sensor_size)
    edges = bin_edges(first, last, spec.time_bins, spec.bin_rule)
    place = _table(axis_table(box.width, spec.size, "sum").target, box.x_first, 1)
    start = _table(axis_table(box.height, spec.size, "sum").target, box.y_first, spec.size)
    frames = np.zeros((spec.time_bins, 2, spec.size, spec.size), np.uint32)
    counted, kept, inversions = kernels.count_atis(pixels, width, height, edges, place, start, frames.reshape(-1))
    if inversions:
        return None
    facts.num_kept = kept
    facts.num_dropped = {OUTSIDE: facts.num_read - kept} if kept < facts.num_read else {}
    return facts, EventFrames(frames, kept - counted)


def _extent(pixels: NDArray[np.uint8], width: int, height: int) -> tuple[int, int, int, int]:
    from tmkt_data.kernels import atis_frames as kernels

    seen = np.zeros((2, _TABLE), np.bool_)
    kernels.mark_seen(pixels, width, height, seen[0], seen[1])
    columns, rows = np.flatnonzero(seen[0]), np.flatnonzero(seen[1])
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _table(targets: NDArray[np.int32], first: int, stride: int) -> NDArray[np.int64]:
    table = np.zeros(_TABLE, np.int64)
    held = targets[: _TABLE - first]
    table[first : first + len(held)] = held.astype(np.int64) * stride
    return table
