"""Catalogue and spec to cache: planned, resumable, the same bytes however often it was interrupted."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.building import Block, BuildingFolder
from tmkt_data.cache.frames_file import FrameArray, FramesFile
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
from tmkt_data.checksums import checksum
from tmkt_data.datasets.catalogue import Source
from tmkt_data.errors import CacheError
from tmkt_data.plan import PreparePlan
from tmkt_data.prepare_blocks import UnreadableSourcesError, convert_recordings, frames_dtype, source_signatures
from tmkt_data.prepare_images import convert_images
from tmkt_data.source_reader import canvas_of
from tmkt_data.splits import PROTOCOLS, split_images, split_recordings

BLOCK_BYTES = 1 << 23
"""Bytes of the frames of a block, about; what is lost when a run is stopped, for each worker."""
_FRAMES = frozenset({"frames", "spikes"})
Stage = Literal["recordings", "images", "writing"]


class Progress(NamedTuple):
    """How far a `prepare` is: `done` of `total` samples of a stage, `resumed` of them found finished."""

    stage: Stage
    done: int
    total: int
    resumed: int


def prepare_cache(
    plan: PreparePlan, *, workers: int = 1, skip_bad: bool = False, fresh: bool = False
) -> Iterator[Progress]:
    """Write the cache of a plan, yielding progress. Interrupted at any point and run again, it goes on.

    Args:
        plan: What to write.
        workers: Threads that decode; they share the interpreter, the kernels run without its lock.
        skip_bad: Leave unreadable files out; the cache names them.
        fresh: Drop what an interrupted run has finished.

    Raises:
        UnreadableSourcesError: Sources that cannot be decoded, all of them; what could be converted is kept.
        CacheError: The disk is full or cannot be written, another process builds the same cache, or a source was
            changed meanwhile.
    """
    building = BuildingFolder(plan.path, plan.key)
    building.open(fresh=fresh)
    try:
        _check_space(plan, building)
        frames = building.frames(_arrays(plan, len(plan.catalogue.recordings), len(plan.catalogue.images)))
        try:
            yield from _build_blocks(plan, building, frames, workers, skip_bad)
            total = len(plan.catalogue.recordings) + len(plan.catalogue.images)
            yield Progress("writing", 0, total, 0)
            _finish(plan, building, frames)
        finally:
            frames.close()
        yield Progress("writing", total, total, 0)
    except BaseException:
        building.close()
        raise
    building.remove()


def _check_space(plan: PreparePlan, building: BuildingFolder) -> None:
    folder = plan.path.parent
    free = shutil.disk_usage(folder).free
    needed = plan.num_bytes - building.num_bytes
    if free < needed:
        if not building.num_bytes:
            building.remove()
        raise CacheError(
            f"{folder}: {free / 1e6:.0f} MB free, needed {needed / 1e6:.0f} MB; free some space or give another --out"
        )


def _arrays(plan: PreparePlan, num_recordings: int, num_images: int) -> list[FrameArray]:
    spec = plan.spec
    sequence = (spec.time_bins, spec.num_channels, spec.size, spec.size)
    arrays = [
        FrameArray("events/frames", (num_recordings, *sequence), frames_dtype(spec)),
        FrameArray("images/frames", (num_images, spec.size, spec.size), np.dtype("u1")),
    ]
    if spec.bake != "none":
        arrays.append(FrameArray("images/spikes", (num_images, *sequence), np.dtype("u1")))
    return arrays


class _Task(NamedTuple):
    name: str
    stage: Stage
    side: str
    first: int
    sources: Sequence[Source]
    kind: str
    convert: Callable[..., Block]


def _tasks(plan: PreparePlan) -> list[_Task]:
    tasks: list[_Task] = []
    sides: tuple[tuple[Stage, str, tuple[Source, ...], Callable[..., Block]], ...] = (
        ("recordings", "events", plan.catalogue.recordings, convert_recordings),
        ("images", "images", plan.catalogue.images, partial(convert_images, archives={})),
    )
    for stage, side, sources, convert in sides:
        row_bytes = sum(array.row_bytes for array in _arrays(plan, 1, 1) if array.name.startswith(side))
        # Images are small and slow to decode: there have to be blocks for every worker.
        per_block = min(256, max(16, BLOCK_BYTES // row_bytes))
        # A side without samples is one empty block.
        for at in range(0, max(1, len(sources)), per_block):
            part = sources[at : at + per_block]
            run = partial(convert, part, plan.catalogue, plan.spec)
            kind = plan.catalogue.kind if stage == "recordings" else "files"
            tasks.append(_Task(f"{stage}-{at // per_block:06d}", stage, side, at, part, kind, run))
    return tasks


def _build_blocks(
    plan: PreparePlan, building: BuildingFolder, frames: FramesFile, workers: int, skip_bad: bool
) -> Iterator[Progress]:
    done = {"recordings": 0, "images": 0}
    resumed = {"recordings": 0, "images": 0}
    totals = {"recordings": len(plan.catalogue.recordings), "images": len(plan.catalogue.images)}
    problems: dict[str, str] = {}
    running: deque[tuple[_Task, Future[None]]] = deque()
    finished = set(building.names())
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="prepare")

    def wait() -> Progress:
        task, future = running.popleft()
        try:
            future.result()
        except UnreadableSourcesError as unreadable:
            problems.update(unreadable.problems)
        done[task.stage] += len(task.sources)
        return Progress(task.stage, done[task.stage], totals[task.stage], resumed[task.stage])

    try:
        for task in _tasks(plan):
            if task.name in finished and _is_usable(building.load(task.name), task, frames, skip_bad):
                done[task.stage] += len(task.sources)
                resumed[task.stage] += len(task.sources)
                continue
            running.append((task, pool.submit(_run, building, frames, task, skip_bad)))
            if len(running) > 2 * workers:
                yield wait()
        while running:
            yield wait()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if problems:
        raise UnreadableSourcesError(problems)


def _run(building: BuildingFolder, frames: FramesFile, task: _Task, skip_bad: bool) -> None:
    block = task.convert(skip_bad=skip_bad)
    for name in _FRAMES & set(block):
        frames.write(f"{task.side}/{name}", task.first, block.pop(name))
    # Last: a block that is there says that its frames are.
    building.store(task.name, block)


def _is_usable(block: Block | None, task: _Task, frames: FramesFile, skip_bad: bool) -> bool:
    """Whether a block is whole, made of these files as they are now, and lacks none that it should have."""
    if block is None or "signature" not in block:
        return False
    if not np.array_equal(block["signature"], source_signatures(task.sources, task.kind)):
        return False
    names = [name for name in _FRAMES if f"{name}_xxh3" in block]
    if not all(_are_whole(frames, f"{task.side}/{name}", task.first, block[f"{name}_xxh3"]) for name in names):
        return False
    return skip_bad or len(block["label"]) == len(task.sources)


def _are_whole(frames: FramesFile, name: str, first: int, checksums: NDArray[np.uint64]) -> bool:
    rows = frames.read(name, first, len(checksums))
    return all(checksum(row) == int(expected) for row, expected in zip(rows, checksums, strict=True))


def _finish(plan: PreparePlan, building: BuildingFolder, frames: FramesFile) -> None:
    tasks = _tasks(plan)
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
        whole, frames = frames, building.shortened(_arrays(plan, len(recordings), len(pictures)))
        _copy_kept(tasks, num_rows, whole, frames)
    path = building.complete(frames)
    digest = write_tables(path, _header(plan, [*bad_recordings, *bad_pictures]), tables)
    seal(path, plan.path, digest)


def _copy_kept(tasks: Sequence[_Task], num_rows: Sequence[int], whole: FramesFile, short: FramesFile) -> None:
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


def _columns(building: BuildingFolder, tasks: Sequence[_Task]) -> dict[str, list[NDArray[Any]]]:
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
