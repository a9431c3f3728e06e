"""From finished blocks to the cache: tables, header, the leading block, and the name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.building import BuildingFolder
from tmkt_data.cache.frames_file import FramesFile
from tmkt_data.cache.layout import (
    EVENT_TABLES,
    FILTER_TABLES,
    FORMAT,
    FORMAT_VERSION,
    IMAGE_TABLES,
    SPIKE_TABLES,
    Table,
    table_text,
    text_table,
)
from tmkt_data.cache.writer import seal, write_tables
from tmkt_data.datasets.catalogue import Source
from tmkt_data.errors import CacheError
from tmkt_data.plan import PreparePlan
from tmkt_data.prepare_blocks import source_signatures
from tmkt_data.prepare_tasks import Task, arrays_of, tasks_of
from tmkt_data.source_reader import canvas_of
from tmkt_data.splits import PROTOCOLS, split_images, split_recordings


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
    events = _columns(building, [task for task in tasks if task.stage == "recordings"])
    images = _columns(building, [task for task in tasks if task.stage == "images"])
    recordings, bad_recordings = _kept("events", plan.catalogue.recordings, events, plan.catalogue.kind)
    pictures, bad_pictures = _kept("images", plan.catalogue.images, images, "files")
    num_rows = [len(part) for part in (*events["label"], *images["label"])]
    filtered = FILTER_TABLES if plan.spec.filters else {}
    tables: dict[str, Table] = {"class_names": text_table(plan.catalogue.class_names)}
    tables |= _tables("events", events, (*EVENT_TABLES, *filtered, "overflow_cell", "overflow_count"))
    tables |= _tables("images", images, (*IMAGE_TABLES, *(SPIKE_TABLES if plan.spec.bake != "none" else ())))
    lengths = np.concatenate(events["overflow_length"])
    tables["events/overflow_start"] = np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")
    tables |= _identity_tables(plan, recordings, pictures)
    if bad_recordings or bad_pictures:
        whole, frames = frames, building.shortened(arrays_of(plan, len(recordings), len(pictures)))
        _copy_kept(tasks, num_rows, whole, frames)
    path = building.complete(frames)
    digest = write_tables(path, _header(plan, [*bad_recordings, *bad_pictures]), tables)
    seal(path, plan.path, digest, frames.digests)


def _copy_kept(tasks: Sequence[Task], num_rows: Sequence[int], whole: FramesFile, short: FramesFile) -> None:
    for name in short.arrays:
        at = 0
        for task, kept in zip(tasks, num_rows, strict=True):
            if name.startswith(task.side):
                short.write(name, at, whole.read(name, task.first, kept))
                at += kept


def _kept(
    side: str, sources: Sequence[Source], columns: dict[str, list[NDArray[Any]]], kind: str
) -> tuple[list[Source], list[dict[str, Any]]]:
    """Tell the sources that are in the cache from those that were left out, and refuse any that has changed."""
    signatures = np.concatenate(columns["signature"])
    changed = np.flatnonzero(signatures != source_signatures(sources, kind))
    if len(changed):
        raise CacheError(f"{sources[changed[0]].path}: was changed while the cache was prepared; run it again")
    if sum(map(len, columns["label"])) == len(sources):
        return list(sources), []
    reasons = [why for part in columns["why"] for why in table_text(part)]
    pairs = list(zip(sources, reasons, strict=True))
    left_out = [{"side": side, "id": source.id, "bytes": source.num_bytes, "why": why} for source, why in pairs if why]
    return [source for source, why in pairs if not why], left_out


def _columns(building: BuildingFolder, tasks: Sequence[Task]) -> dict[str, list[NDArray[Any]]]:
    """Return what the blocks of a side hold beside their frames, column by column."""
    columns: dict[str, list[NDArray[Any]]] = {}
    for task in tasks:
        block = building.load(task.name)
        if block is None:
            raise CacheError(f"{building.path}: block {task.name} is gone; run it again")
        for column, values in block.items():
            columns.setdefault(column, []).append(values)
    return columns


def _tables(side: str, columns: dict[str, list[NDArray[Any]]], names: Sequence[str]) -> dict[str, Table]:
    # Each column is dropped as soon as it is whole, so that the tables of a large set are not held twice.
    return {f"{side}/{name}": np.concatenate(columns.pop(name)) for name in names}


def _identity_tables(plan: PreparePlan, recordings: Sequence[Source], images: Sequence[Source]) -> dict[str, Table]:
    catalogue, spec = plan.catalogue, plan.spec
    event_ids = [source.id for source in recordings]
    image_ids = [source.id for source in images]
    row_of = {sample: row for row, sample in enumerate(image_ids)}
    labels = np.array([source.label for source in recordings], "<i4")
    tables: dict[str, Table] = {
        "events/id": text_table(event_ids),
        "images/id": text_table(image_ids),
        "events/label": labels,
        "images/label": np.array([source.label for source in images], "<i4"),
        "events/twin": np.array([row_of.get(sample, -1) for sample in event_ids], "<i8"),
    }
    for protocol in PROTOCOLS:
        codes = split_recordings(
            event_ids,
            labels.astype(np.int64),
            [source.part for source in recordings],
            protocol=protocol,
            layout=catalogue.split_layout,
            seed=spec.split_seed,
            val_share=spec.val_share,
            test_share=spec.test_share,
        )
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
