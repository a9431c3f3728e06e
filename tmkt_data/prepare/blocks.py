"""What the blocks of both sides share: a row of facts and frames a source, and which sources they are made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.build_folder import Block
from tmkt_data.cache.format import EVENT_TABLES, FILTER_TABLES, IMAGE_TABLES, SPIKE_TABLES, text_table
from tmkt_data.datasets.recording_reader import files_beside
from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import CatalogueError, EventError, ImageError, TmktError
from tmkt_data.files import checksum
from tmkt_data.spec import PrepareSpec


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


def event_facts(spec: PrepareSpec) -> dict[str, str]:
    """Return the tables of the event side that blocks have columns of, and their types; the others come of ids."""
    return _without_identity(EVENT_TABLES | (FILTER_TABLES if spec.filters else {}))


def image_facts(spec: PrepareSpec) -> dict[str, str]:
    """Return the tables of the image side that blocks have columns of, and their types."""
    return _without_identity(IMAGE_TABLES | (SPIKE_TABLES if spec.bake != "none" else {}))


def _without_identity(tables: dict[str, str]) -> dict[str, str]:
    return {name: kind for name, kind in tables.items() if name not in ("label", "twin")}


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
        signatures[at] = checksum(os.fsencode(f"{here}|{source.file}|{stat}|{source.item}"))
    return signatures


def _changed(path: str | Path) -> tuple[int, ...]:
    try:
        # Not by way of Path: this is done for every file of a dataset, twice.
        stat = os.stat(path)  # noqa: PTH116
    except OSError as gone:
        raise CatalogueError(f"{path}: {gone.strerror or gone}; it was there a moment ago") from gone
    return stat.st_mtime_ns, stat.st_size


def empty_block(
    num_sources: int,
    columns: Mapping[str, str],
    arrays: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
) -> Block:
    """Return a block of zeros.

    Args:
        num_sources: Sources of the block.
        columns: Types of the facts, by name.
        arrays: Shape and type that each source has of the arrays of the cache, by name.

    Returns:
        `rows`, one structured row a source: its `signature`, whether it `is_kept`, and the columns; and the arrays.
        `convert_all` adds `why`, the reasons of the sources that are left out, in their order.
    """
    fields = [("signature", "<u8"), ("is_kept", "u1"), *columns.items()]
    block: Block = {"rows": np.zeros(num_sources, np.dtype(fields))}
    return block | {name: np.zeros((num_sources, *shape), kind) for name, (shape, kind) in arrays.items()}


def convert_all(
    stage: str,
    sources: Sequence[Source],
    block: Block,
    convert: Callable[[Source, int], Mapping[str, int]],
    kind: str,
    *,
    skip_bad: bool,
) -> Block:
    """Fill the rows of a block one source after the other; those of what cannot be read stay zero.

    Args:
        stage: What problems are listed under.
        sources: Sources of the block.
        block: Zeros, see `empty_block`; owned by the result.
        convert: Writes the arrays of one source into one row, and returns its facts, all columns.
        kind: See `Catalogue.kind`.
        skip_bad: Leave unreadable sources out instead of raising.

    Raises:
        UnreadableSourcesError: With every source of the block that could not be read.
    """
    rows, reasons = block["rows"], dict[str, str]()
    names = (rows.dtype.names or ())[2:]
    signatures = source_signatures(sources, kind)
    for at, source in enumerate(sources):
        try:
            facts = convert(source, at)
        except (EventError, ImageError) as problem:
            reasons[source.id] = f"{source.id}: {problem}"
            for array in block.values():
                array[at] = 0
        else:
            rows[at] = (0, 1, *(facts[name] for name in names))
    if reasons and not skip_bad:
        raise UnreadableSourcesError({f"{stage}/{sample}": why for sample, why in reasons.items()})
    rows["signature"] = signatures
    return block | {"why": text_table(list(reasons.values()))}
