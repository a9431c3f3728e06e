"""What the work of a `prepare` is cut into: blocks of sources, and the arrays that their rows go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from tmkt_data.cache.build_folder import Block
from tmkt_data.cache.frames_file import FrameArray
from tmkt_data.datasets.source_table import Source, SourceTable
from tmkt_data.prepare.blocks import frames_dtype
from tmkt_data.prepare.images import convert_images
from tmkt_data.prepare.plan import PreparePlan
from tmkt_data.prepare.recordings import convert_recordings

BLOCK_BYTES = 1 << 23
"""Bytes of the frames of a block, about; what is lost when a run is stopped, for each worker."""
Stage = Literal["recordings", "images", "writing"]


class Task(NamedTuple):
    """One block: some sources of one side, and where their rows lie.

    Attributes:
        name: Name of the block.
        stage: What its progress counts for.
        side: `"events"` or `"images"`, as in the cache.
        first: Row of its first source, as long as none is left out.
        sources: Its sources.
        kind: What they are, see `Catalogue.kind`.
        convert: Makes the block; takes `skip_bad`.
    """

    name: str
    stage: Stage
    side: str
    first: int
    sources: Sequence[Source]
    kind: str
    convert: Callable[..., Block]


def arrays_of(plan: PreparePlan, num_recordings: int, num_images: int) -> list[FrameArray]:
    """Return the arrays of a cache for so many rows of each side, in the order in which they are written."""
    spec = plan.spec
    sequence = (spec.time_bins, spec.num_channels, spec.size, spec.size)
    arrays = [
        FrameArray("events/frames", (num_recordings, *sequence), frames_dtype(spec)),
        FrameArray("images/frames", (num_images, spec.size, spec.size), np.dtype("u1")),
    ]
    if spec.bake != "none":
        arrays.append(FrameArray("images/spikes", (num_images, *sequence), np.dtype("u1")))
    return arrays


def tasks_of(plan: PreparePlan) -> list[Task]:
    """Return all blocks, those of the recordings first; the same for the same plan, however it is interrupted."""
    tasks: list[Task] = []
    sides: tuple[tuple[Stage, str, SourceTable, Callable[..., Block]], ...] = (
        ("recordings", "events", plan.catalogue.recordings, convert_recordings),
        ("images", "images", plan.catalogue.images, partial(convert_images, archives={})),
    )
    for stage, side, sources, convert in sides:
        row_bytes = sum(array.row_bytes for array in arrays_of(plan, 1, 1) if array.name.startswith(side))
        # Images are small and slow to decode: there have to be blocks for every worker.
        per_block = min(256, max(16, BLOCK_BYTES // row_bytes))
        # A side without samples is one empty block.
        for at in range(0, max(1, len(sources)), per_block):
            part = sources[at : at + per_block]
            run = partial(convert, part, plan.catalogue, plan.spec)
            kind = plan.catalogue.kind if stage == "recordings" else "files"
            tasks.append(Task(f"{stage}-{at // per_block:06d}", stage, side, at, part, kind, run))
    return tasks
