"""From finished blocks to the cache: tables, header, the leading block, and the name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.build_folder import BuildingFolder
from tmkt_data.cache.format import (
    FORMAT,
    FORMAT_VERSION,
    Table,
    table_text,
    text_table,
)
from tmkt_data.cache.frames_file import FramesFile
from tmkt_data.cache.rows_file import RowsFile
from tmkt_data.cache.writer import seal, write_tables
from tmkt_data.datasets.recording_reader import canvas_of
from tmkt_data.datasets.source_table import SourceTable
from tmkt_data.datasets.splits import PROTOCOLS, SplitRule, split_images, split_recordings
from tmkt_data.errors import CacheError
from tmkt_data.prepare.blocks import event_facts, image_facts, source_signatures
from tmkt_data.prepare.plan import PreparePlan
from tmkt_data.prepare.tasks import Task, arrays_of, tasks_of
from tmkt_data.sample_ids import rows_of

_OVERFLOW = frozenset({"overflow_cell", "overflow_count"})


class _Side(NamedTuple):
    """What the blocks of one side hold beside their frames.

    Attributes:
        sources: All of its sources.
        rows: The facts of those that are in the cache.
        is_kept: Which of the sources those are.
        left_out: What the cache says of the others.
        overflow: `overflow_cell` and `overflow_count` of all blocks; without pieces on the image side.
    """

    sources: SourceTable
    rows: RowsFile
    is_kept: NDArray[np.bool_]
    left_out: list[dict[str, Any]]
    overflow: dict[str, list[NDArray[Any]]]

    @property
    def kept(self) -> SourceTable:
        """The sources that are in the cache."""
        return self.sources.take(self.is_kept) if self.left_out else self.sources


def finish_cache(plan: PreparePlan, building: BuildingFolder, frames: FramesFile) -> None:
    """Put the tables beside the frames, shorten the arrays where sources were left out, and give the cache its name.

    Args:
        plan: What was to be written.
        building: All of its blocks.
        frames: Their frames; closed here.

    Raises:
        CacheError: A source has changed meanwhile, a block is gone, or the cache cannot be written.
    """
    tasks = tasks_of(plan)
    events = _gather(building, "events", [task for task in tasks if task.side == "events"], plan.catalogue.recordings)
    images = _gather(building, "images", [task for task in tasks if task.side == "images"], plan.catalogue.images)
    left_out = [*events.left_out, *images.left_out]
    if left_out:
        whole, frames = frames, building.shortened(arrays_of(plan, len(events.rows), len(images.rows)))
        for name in frames.arrays:
            _copy_kept(name, events.is_kept if name.startswith("events") else images.is_kept, whole, frames)
    path = building.complete(frames)
    digest = write_tables(path, _header(plan, left_out), _tables(plan, events, images))
    seal(path, plan.path, digest, frames.digests)


def _copy_kept(name: str, is_kept: NDArray[np.bool_], whole: FramesFile, short: FramesFile) -> None:
    at = 0
    for first, count in whole.pieces(name):
        rows = whole.read(name, first, count)[is_kept[first : first + count]]
        short.write(name, at, rows)
        at += len(rows)


def _gather(building: BuildingFolder, side: str, tasks: Sequence[Task], sources: SourceTable) -> _Side:
    """Put the rows of all blocks into one file, and refuse any source that has changed."""
    gathered = _Side(sources, RowsFile(building.path / f"{side}.rows"), np.zeros(len(sources), bool), [], {})
    for task in tasks:
        block = building.load(task.name)
        if block is None:
            raise CacheError(f"{building.path}: block {task.name} is gone; run it again")
        rows, is_kept = block["rows"], block["rows"]["is_kept"].astype(bool)
        changed = np.flatnonzero(rows["signature"] != source_signatures(task.sources, task.kind))
        if len(changed):
            raise CacheError(
                f"{task.sources[int(changed[0])].path}: was changed while the cache was prepared; run it again"
            )
        gathered.rows.append(rows[is_kept])
        gathered.is_kept[task.first : task.first + len(rows)] = is_kept
        for at, why in zip(np.flatnonzero(~is_kept).tolist(), table_text(block["why"]), strict=True):
            source = task.sources[at]
            gathered.left_out.append({"side": side, "id": source.id, "bytes": source.num_bytes, "why": why})
        for name in _OVERFLOW & set(block):
            gathered.overflow.setdefault(name, []).append(block[name])
    return gathered


def _tables(plan: PreparePlan, events: _Side, images: _Side) -> Iterator[tuple[str, Table]]:
    """Yield all tables, sorted by name; each is made when it is asked for."""
    identities = _identity_tables(plan, events.kept, images.kept)
    tables: dict[str, Callable[[], Table]] = {"class_names": lambda: text_table(plan.catalogue.class_names)}
    tables |= {name: partial(identities.pop, name) for name in identities}
    tables |= {f"events/{name}": partial(events.rows.column, name) for name in event_facts(plan.spec)}
    tables |= {f"images/{name}": partial(images.rows.column, name) for name in image_facts(plan.spec)}
    tables |= {f"events/{name}": partial(np.concatenate, pieces) for name, pieces in events.overflow.items()}
    tables["events/overflow_start"] = lambda: np.concatenate(
        [np.zeros(1, "<i8"), np.cumsum(events.rows.column("overflow_length"), dtype="<i8")]
    )
    for name in sorted(tables):
        yield name, tables[name]()


def _identity_tables(plan: PreparePlan, recordings: SourceTable, images: SourceTable) -> dict[str, Table]:
    catalogue, spec = plan.catalogue, plan.spec
    event_ids, image_ids = recordings.ids, images.ids
    tables: dict[str, Table] = {
        "events/id": event_ids,
        "images/id": image_ids,
        "events/label": recordings.labels.astype("<i4"),
        "images/label": images.labels.astype("<i4"),
        "events/twin": rows_of(event_ids, image_ids).astype("<i8"),
    }
    for protocol in PROTOCOLS:
        rule = SplitRule(protocol, catalogue.split_layout, spec.split_seed, spec.val_share, spec.test_share)
        codes = split_recordings(event_ids, recordings.labels, recordings.parts, rule)
        tables[f"events/split/{protocol}"] = codes
        tables[f"images/split/{protocol}"] = split_images(image_ids, event_ids, codes)
    return tables


def _header(plan: PreparePlan, skipped: list[dict[str, Any]]) -> dict[str, str]:
    catalogue, window = plan.catalogue, plan.catalogue.window
    canvas, placement = canvas_of(catalogue, plan.spec)
    facts = {
        "sensor_size": list(canvas),
        "placement": list(placement),
        "motion": catalogue.motion,
        "split_layout": catalogue.split_layout,
        "expected": catalogue.expected,
        "reading": {name: value for name, value in catalogue.reading._asdict().items() if name != "sensor_size"},
        "window": None if window is None else [window.x_first, window.y_first, *window.size],
        "is_centered": catalogue.is_centered,
    }
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "dataset": catalogue.name,
        "spec": plan.spec.to_json(),
        "facts": json.dumps(facts, sort_keys=True),
        "notes": json.dumps([*catalogue.notes, *catalogue.unmatched_notes()]),
        "skipped": json.dumps(skipped),
        "tool_version": version("tmkt"),
        "plan": plan.key,
    }
