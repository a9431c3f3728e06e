"""Convert a block of recordings."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.side_rows import BlockArrays
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.recording_reader import RecordingReader, canvas_of
from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import EventError
from tmkt_data.events.events import OUTSIDE
from tmkt_data.events.filters import num_filtered
from tmkt_data.events.formats.aedat4 import num_of_other_streams
from tmkt_data.events.frames import FrameBuilder, FrameSpec, canvas_box
from tmkt_data.events.summary import RecordingFacts
from tmkt_data.events.time_range import OUTSIDE_TIME
from tmkt_data.files import checksum
from tmkt_data.prepare.atis import AtisCounter, has_fast_path, may_take_fast_path
from tmkt_data.prepare.blocks import Block, convert_all, empty_block
from tmkt_data.prepare.read_ahead import KnownFile, ReadAhead
from tmkt_data.spec import PrepareSpec

LARGEST_BYTE = 255
_LARGEST_HALF = float(np.finfo(np.float16).max)


def convert_recordings(block: Block, catalogue: Catalogue, spec: PrepareSpec, *, skip_bad: bool) -> BlockArrays:
    """Decode, bin and resize the recordings of a block.

    Args:
        block: The block.
        catalogue: Where the sensor size is taken from.
        spec: Choices of the cache.
        skip_bad: Leave unreadable recordings out instead of raising.

    Returns:
        See `convert_all`. `overflow_length` says how many cells of a recording exceed a byte, `overflow_cell` and
        `overflow_count` which and by how much, for one recording after the other.

    Raises:
        UnreadableSourcesError: With every recording of the block that could not be read.
    """
    arrays = empty_block("events", spec, len(block.sources))
    cells: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    counts: list[NDArray[np.uint32]] = [np.zeros(0, np.uint32)]
    reader = RecordingReader(catalogue, spec)
    counter = AtisCounter(catalogue.sensor_size, spec) if has_fast_path(catalogue, spec) else None
    ahead = ReadAhead([KnownFile(s.file, s.num_bytes) if may_take_fast_path(s) else None for s in block.sources])

    def convert(source: Source, at: int) -> dict[str, int]:
        stored = arrays["frames"][at]
        fast = None if counter is None else _store_fast(counter, ahead.bytes_of(at), stored)
        counted = store_recording(source, catalogue, spec, reader, stored) if fast is None else fast
        num_over = 0
        if stored.dtype == np.uint8 and counted.largest > LARGEST_BYTE:
            over = np.flatnonzero(counted.frames > LARGEST_BYTE)
            num_over = len(over)
            cells.append(over)
            counts.append(counted.frames[over].astype(np.uint32))
        elif stored.dtype == np.float16 and counted.largest > _LARGEST_HALF:
            raise EventError(
                f"{source.path.name}: a cell counts {counted.largest:.0f} events, float16 holds {_LARGEST_HALF:.0f}; "
                "use --resize sum"
            )
        return _facts(counted, spec) | {"overflow_length": num_over, "frames_xxh3": checksum(stored)}

    converted = convert_all(block, arrays, convert, skip_bad=skip_bad)
    return converted | {"overflow_cell": np.concatenate(cells), "overflow_count": np.concatenate(counts)}


class CountedRecording(NamedTuple):
    """A recording as frames; `frames` are flat, exact counts where a byte would not hold them."""

    facts: RecordingFacts
    num_outside_bins: int
    frames: NDArray[Any]
    largest: float
    largest_bin: int
    num_bytes: int
    checksum: int


def _store_fast(counter: AtisCounter, data: NDArray[np.uint8] | None, stored: NDArray[Any]) -> CountedRecording | None:
    if data is None:
        return None
    found = counter.store(data, stored)
    return None if found is None else CountedRecording(*found, data.size, checksum(data))


def store_recording(
    source: Source, catalogue: Catalogue, spec: PrepareSpec, reader: RecordingReader, stored: NDArray[Any]
) -> CountedRecording:
    """Decode, bin and resize a recording into frames as a cache stores them.

    Raises:
        EventError: It cannot be read or does not fit the canvas.
    """
    recording = reader.open(source)
    facts = recording.facts
    frame_spec = FrameSpec(spec.time_bins, spec.size, spec.size, spec.bin_rule, spec.resize, spec.representation)
    box = canvas_box(facts.extent, spec.canvas, canvas_of(catalogue, spec)[0])
    builder = FrameBuilder(frame_spec, box, facts.t_first, facts.t_last)
    for events in recording.pieces():
        builder.add(events)
    frames, num_outside_bins = builder.result()
    largest = _pack(frames.reshape(-1), stored.reshape(-1))
    known = recording.num_bytes, recording.checksum
    return CountedRecording(facts, num_outside_bins, frames.reshape(-1), largest, builder.largest_bin, *known)


def _pack(frames: NDArray[Any], stored: NDArray[Any]) -> float:
    """Write frames as they are stored; return the largest value of counts."""
    from tmkt_data.kernels.pack import pack_counts, pack_halves

    if stored.dtype == np.uint8:
        return pack_counts(frames, stored)
    if stored.dtype == np.float16:
        return pack_halves(frames, stored.view(np.uint16))
    stored[...] = frames
    return 0


def _facts(counted: CountedRecording, spec: PrepareSpec) -> dict[str, int]:
    facts = counted.facts
    filtered = num_filtered(facts.num_dropped) if spec.filters else {}
    num_outside, num_strays = (facts.num_dropped.get(reason, 0) for reason in (OUTSIDE, OUTSIDE_TIME))
    return {
        "t_first_us": facts.t_first,
        "t_last_us": facts.t_last,
        "num_read": facts.num_read,
        "num_kept": facts.num_kept,
        "num_outside_sensor": num_outside,
        "num_no_event": sum(facts.num_dropped.values()) - num_outside - num_strays - sum(filtered.values()),
        "num_outside_bins": counted.num_outside_bins + num_strays,
        "num_inversions": facts.num_inversions,
        "source_bytes": counted.num_bytes,
        "source_xxh3": counted.checksum,
        "largest_bin": counted.largest_bin,
        "polarities": facts.polarities,
        "num_other_streams": num_of_other_streams(facts.num_dropped),
        **{f"num_{name}": count for name, count in filtered.items()},
    }
