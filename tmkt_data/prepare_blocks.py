"""Convert a block of sources into the arrays that the cache stores: what both sides share, and the recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.atis_frames import AtisCounter, counts_as_it_stands, may_be_counted
from tmkt_data.cache.building import Block
from tmkt_data.cache.layout import EVENT_TABLES, FILTER_TABLES, text_table
from tmkt_data.checksums import checksum
from tmkt_data.datasets.catalogue import Catalogue, Source
from tmkt_data.errors import CatalogueError, EventError, ImageError, TmktError
from tmkt_data.event_filters import OUTSIDE, num_filtered
from tmkt_data.random_keys import sample_uid
from tmkt_data.source_reader import RecordingFacts, RecordingReader, canvas_of, files_beside
from tmkt_data.spec import PrepareSpec
from tmkt_data.voxelize import EventFrames, FrameBuilder, canvas_box

LARGEST_BYTE = 255
_LARGEST_HALF = float(np.finfo(np.float16).max)


class UnreadableSourcesError(TmktError):
    """Sources that could not be decoded.

    Attributes:
        problems: One line each, by stage and sample id, such as `"images/airplanes/image_0001"`.
    """

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems


def frames_dtype(spec: PrepareSpec) -> np.dtype[Any]:
    """Return how event frames are stored.

    Counts under `sum` are bytes, with larger counts in a table beside them. Weighted counts are float16, a relative
    error of at most 2**-11. Voxel grids are float32.
    """
    if spec.representation == "voxel":
        return np.dtype("<f4")
    return np.dtype("u1") if spec.resize == "sum" else np.dtype("<f2")


def convert_recordings(
    sources: Sequence[Source], catalogue: Catalogue, spec: PrepareSpec, *, skip_bad: bool = False
) -> Block:
    """Decode, bin and resize some recordings.

    Args:
        sources: Recordings of the block.
        catalogue: Where the sensor size is taken from.
        spec: Choices of the cache.
        skip_bad: Leave unreadable recordings out instead of raising.

    Returns:
        One row for each recording that was kept: `frames`, the columns of `EVENT_TABLES` but label and twin, and the
        cells whose count exceeds a byte. One row for each source: `signature`, and `why` it was left out, or `""`.

    Raises:
        UnreadableSourcesError: With every recording of the block that could not be read.
    """
    shape = (spec.time_bins, spec.num_channels, spec.size, spec.size)
    columns = EVENT_TABLES | (FILTER_TABLES if spec.filters else {})
    block = empty_block(sources, columns, {"frames": (shape, frames_dtype(spec))})
    block["overflow_length"] = np.zeros(len(sources), np.int64)
    cells: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    counts: list[NDArray[np.uint32]] = [np.zeros(0, np.uint32)]

    from tmkt_data.kernels.pack import pack_counts, pack_halves

    reader = RecordingReader(catalogue, spec)
    counter = AtisCounter(catalogue.sensor_size, spec) if counts_as_it_stands(catalogue, spec) else None

    def convert(source: Source, row: int) -> None:
        short = _count_short(source, counter) if counter is not None and may_be_counted(source) else None
        counted = _count(source, catalogue, spec, reader) if short is None else short
        frames = _fill_row(block, row, counted, spec)
        stored, flat = block["frames"][row], frames.reshape(-1)
        if stored.dtype == np.uint8:
            if pack_counts(flat, stored.reshape(-1)) > LARGEST_BYTE:
                over = np.flatnonzero(flat > LARGEST_BYTE)
                cells.append(over)
                counts.append(flat[over].astype(np.uint32))
                block["overflow_length"][row] = len(over)
        elif stored.dtype == np.float16:
            _require_halves(pack_halves(flat, stored.reshape(-1).view(np.uint16)), source)
        else:
            stored[...] = frames
        block["frames_xxh3"][row] = checksum(stored)

    block = convert_all("recordings", sources, block, convert, catalogue.kind, skip_bad=skip_bad)
    return block | {"overflow_cell": np.concatenate(cells), "overflow_count": np.concatenate(counts)}


def source_signatures(sources: Sequence[Source], kind: str = "files") -> NDArray[np.uint64]:
    """Return what tells a source from an edited or another one without reading it: path, time of change and size.

    Raises:
        CatalogueError: A source is gone.
    """
    here = Path.cwd()
    stats: dict[str, tuple[int, ...]] = {}
    signatures = np.zeros(len(sources), np.uint64)
    for at, source in enumerate(sources):
        stat = stats.get(source.file)
        if stat is None:
            stat = _changed(source.file)
            for path in files_beside(source, kind):
                stat += _changed(path)
            if source.item >= 0:
                stats[source.file] = stat
        signatures[at] = sample_uid(f"{here}|{source.file}|{stat}|{source.item}")
    return signatures


def _changed(path: str | Path) -> tuple[int, ...]:
    try:
        # Not by way of Path: this is done for every file of a dataset, twice.
        stat = os.stat(path)  # noqa: PTH116
    except OSError as gone:
        raise CatalogueError(f"{path}: {gone.strerror or gone}; it was there a moment ago") from gone
    return stat.st_mtime_ns, stat.st_size


def empty_block(
    sources: Sequence[Source],
    columns: Mapping[str, str],
    arrays: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
) -> Block:
    """Return a block of zeros: `columns` with one value a source, `arrays` with one of the given shape each."""
    block: Block = {name: np.zeros(len(sources), dtype) for name, dtype in columns.items()}
    return block | {name: np.zeros((len(sources), *shape), dtype) for name, (shape, dtype) in arrays.items()}


def convert_all(
    stage: str,
    sources: Sequence[Source],
    block: Block,
    convert: Callable[[Source, int], None],
    kind: str,
    *,
    skip_bad: bool,
) -> Block:
    """Fill the rows of a block one source after the other; what cannot be read leaves none.

    Args:
        stage: What problems are listed under.
        sources: Sources of the block.
        block: Zeros, see `empty_block`; owned by the result.
        convert: Writes one source into one row.
        kind: See `Catalogue.kind`.
        skip_bad: Leave unreadable sources out instead of raising.

    Raises:
        UnreadableSourcesError: With every source of the block that could not be read.
    """
    signatures = source_signatures(sources, kind)
    row = 0
    reasons = [""] * len(sources)
    for at, source in enumerate(sources):
        try:
            convert(source, row)
        except (EventError, ImageError) as problem:
            reasons[at] = f"{source.id}: {problem}"
            for column in block.values():
                column[row] = 0
        else:
            row += 1
    if row < len(sources) and not skip_bad:
        raise UnreadableSourcesError(
            {f"{stage}/{source.id}": why for source, why in zip(sources, reasons, strict=True) if why}
        )
    kept = {name: column[:row] for name, column in block.items()}
    return kept | {"signature": signatures, "why": text_table(reasons)}


class _Counted(NamedTuple):
    facts: RecordingFacts
    result: EventFrames
    num_bytes: int
    checksum: int


def _count_short(source: Source, counter: AtisCounter) -> _Counted | None:
    data = counter.read(source)
    found = None if data is None else counter.count(data)
    return None if data is None or found is None else _Counted(*found, data.size, checksum(data))


def _count(source: Source, catalogue: Catalogue, spec: PrepareSpec, reader: RecordingReader) -> _Counted:
    recording = reader.open(source)
    facts = recording.facts
    builder = FrameBuilder(
        canvas_box(facts.extent, spec.canvas, canvas_of(catalogue, spec)[0]),
        facts.t_first,
        facts.t_last,
        num_bins=spec.time_bins,
        height=spec.size,
        width=spec.size,
        bin_rule=spec.bin_rule,
        resize=spec.resize,
        representation=spec.representation,
    )
    for events in recording.pieces():
        builder.add(events)
    return _Counted(facts, builder.result(), recording.num_bytes, recording.checksum)


def _fill_row(block: Block, at: int, counted: _Counted, spec: PrepareSpec) -> NDArray[Any]:
    facts, result, num_bytes, digest = counted
    filtered = num_filtered(facts.num_dropped) if spec.filters else {}
    num_outside = facts.num_dropped.get(OUTSIDE, 0)
    row = {
        "t_first_us": facts.t_first,
        "t_last_us": facts.t_last,
        "num_read": facts.num_read,
        "num_kept": facts.num_kept,
        "num_outside_sensor": num_outside,
        "num_no_event": sum(facts.num_dropped.values()) - num_outside - sum(filtered.values()),
        "num_outside_bins": result.num_outside_bins,
        "num_inversions": facts.num_inversions,
        "source_bytes": num_bytes,
        "source_xxh3": digest,
        **{f"num_{name}": count for name, count in filtered.items()},
    }
    for name, value in row.items():
        block[name][at] = value
    return result.frames


def _require_halves(largest: float, source: Source) -> None:
    if largest > _LARGEST_HALF:
        raise EventError(
            f"{source.path.name}: a cell counts {largest:.0f} events, float16 holds {_LARGEST_HALF:.0f}; "
            "use --resize sum"
        )
