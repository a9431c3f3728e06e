"""Blocks: some sources of one side, and the arrays that they become."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.build_folder import BlockPlace
from tmkt_data.cache.format import (
    EVENT_TABLES,
    FILTER_TABLES,
    frame_arrays,
    image_tables,
    text_table,
)
from tmkt_data.cache.side_rows import BlockArrays
from tmkt_data.datasets.recording_reader import files_beside
from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import CatalogueError, EventError, ImageError, TmktError
from tmkt_data.files import checksum, is_refused
from tmkt_data.spec import PrepareSpec, PrepareStage, RecordingKind
from tmkt_data.storage.member_files import asked_ahead, file_status

STAGES: dict[str, PrepareStage] = {"events": "recordings", "images": "images"}
"""The stage of `prepare` that fills a side of the cache."""
BUILD_COLUMNS = ("overflow_length", "largest_bin", "polarities", "num_other_streams")
"""What is known of each recording while a cache is built, beside the tables of the finished one."""
CONVERSION = 1
"""Raised when the same sources become other frames: no cache may hold blocks of an interrupted run of before."""


class UnreadableSourcesError(TmktError):
    """Sources that could not be decoded.

    Attributes:
        problems: One line each, by stage and sample id, such as `"images/airplanes/image_0001"`.
    """

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems


class Block(NamedTuple):
    """Some sources of one side, which are converted and stored together.

    Attributes:
        place: Where their rows belong.
        sources: The sources.
        kind: What they are, see `Catalogue.kind`.
    """

    place: BlockPlace
    sources: Sequence[Source]
    kind: RecordingKind

    @property
    def stage(self) -> PrepareStage:
        """What its progress counts for."""
        return STAGES[self.place.side]

    def signatures(self) -> NDArray[np.uint64]:
        """Return the `source_signatures` of its sources as they are now."""
        return source_signatures(self.sources, self.kind)


def fact_tables(side: str, spec: PrepareSpec) -> dict[str, str]:
    """Return name and type of the tables of a side whose values are found by decoding; the others follow from ids."""
    filters = FILTER_TABLES if spec.filters else {}
    tables = EVENT_TABLES | filters if side == "events" else image_tables(spec)
    return {name: kind for name, kind in tables.items() if name not in ("label", "twin")}


def source_signatures(
    sources: Sequence[Source], kind: str = "files", *, here: Path | None = None
) -> NDArray[np.uint64]:
    """Return what tells sources from edited or other ones without reading them: path, time of change and size.

    Args:
        sources: The sources.
        kind: What they are, see `Catalogue.kind`.
        here: Folder that relative paths begin at; None for the current one.

    Returns:
        A hash of each, shape (num_sources,).

    Raises:
        CatalogueError: A source is gone.
    """
    here = here or Path.cwd()
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
        signatures[at] = checksum(os.fsencode(f"{here}|{source.file}|{stat}|{source.item}"))
    return signatures


def _changed(path: str | Path) -> tuple[int, ...]:
    try:
        status = file_status(path)
    except OSError as gone:
        raise CatalogueError(f"{path}: {gone.strerror or gone}; it was there a moment ago") from gone
    return status.modified_ns, status.num_bytes


def empty_block(side: str, spec: PrepareSpec, num_sources: int) -> BlockArrays:
    """Return a block of zeros.

    Args:
        side: Side of the block.
        spec: Choices of the cache.
        num_sources: Sources of the block.

    Returns:
        `rows`, with a column for each of `fact_tables`, and on the event side of `BUILD_COLUMNS`; and its arrays of
        frames by name.
    """
    columns = [("signature", "<u8"), ("is_kept", "u1"), *fact_tables(side, spec).items()]
    if side == "events":
        columns += [(name, "<i8") for name in BUILD_COLUMNS]
    block: BlockArrays = {"rows": np.zeros(num_sources, np.dtype(columns))}
    arrays = frame_arrays(spec, num_sources, num_sources)
    return block | {array.kind: np.zeros(array.shape, array.dtype) for array in arrays if array.side == side}


def convert_all(
    block: Block, arrays: BlockArrays, convert: Callable[[Source, int], Mapping[str, int]], *, skip_bad: bool
) -> BlockArrays:
    """Convert the sources of a block one after the other; the rows of those that cannot be read stay zero.

    Args:
        block: The block.
        arrays: Its `empty_block`; owned by the result.
        convert: Writes the frames of one source into one row, and returns its facts, all columns.
        skip_bad: Leave unreadable sources out instead of raising.

    Returns:
        The arrays, and `why`: the reasons of the sources that are left out, in their order.

    Raises:
        UnreadableSourcesError: With every source of the block that could not be read.
        CatalogueError: The system refused to open or read a source, whatever it holds.
        StoreError: An object store did, or a source was changed there since it was listed.
    """
    rows, reasons = arrays["rows"], dict[str, str]()
    names = (rows.dtype.names or ())[2:]
    signatures = block.signatures()
    with asked_ahead([source.file if source.item < 0 else "" for source in block.sources]) as ask:
        for at, source in enumerate(block.sources):
            ask(at)
            try:
                facts = convert(source, at)
            except (EventError, ImageError) as problem:
                if is_refused(problem):
                    raise CatalogueError(
                        f"{source.id}: {problem}; that is no fault of the file, so it is not left out: check the disk, "
                        "permissions and limits, and run it again (finished work is kept)"
                    ) from problem
                reasons[source.id] = f"{source.id}: {problem}"
                for array in arrays.values():
                    array[at] = 0
            else:
                rows[at] = (0, 1, *(facts[name] for name in names))
    if reasons and not skip_bad:
        raise UnreadableSourcesError({f"{block.stage}/{sample}": why for sample, why in reasons.items()})
    rows["signature"] = signatures
    return arrays | {"why": text_table(list(reasons.values()))}
