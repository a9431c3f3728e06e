"""Catalogue and spec to cache: planned, resumable, the same bytes however often it was interrupted."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.build_folder import Block, BuildingFolder
from tmkt_data.cache.frames_file import FramesFile
from tmkt_data.errors import CacheError
from tmkt_data.files import checksum
from tmkt_data.prepare.blocks import UnreadableSourcesError, source_signatures
from tmkt_data.prepare.finish import finish_cache
from tmkt_data.prepare.plan import PreparePlan
from tmkt_data.prepare.tasks import Stage, Task, arrays_of, tasks_of

_FRAMES = frozenset({"frames", "spikes"})


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
        frames = building.frames(arrays_of(plan, len(plan.catalogue.recordings), len(plan.catalogue.images)))
        try:
            yield from _build_blocks(plan, building, frames, workers, skip_bad)
            total = len(plan.catalogue.recordings) + len(plan.catalogue.images)
            yield Progress("writing", 0, total, 0)
            finish_cache(plan, building, frames)
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


def _build_blocks(
    plan: PreparePlan, building: BuildingFolder, frames: FramesFile, workers: int, skip_bad: bool
) -> Iterator[Progress]:
    done = {"recordings": 0, "images": 0}
    resumed = {"recordings": 0, "images": 0}
    totals = {"recordings": len(plan.catalogue.recordings), "images": len(plan.catalogue.images)}
    problems: dict[str, str] = {}
    running: deque[tuple[Task, Future[None]]] = deque()
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
        for task in tasks_of(plan):
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


def _run(building: BuildingFolder, frames: FramesFile, task: Task, skip_bad: bool) -> None:
    block = task.convert(skip_bad=skip_bad)
    for name in _FRAMES & set(block):
        frames.write(f"{task.side}/{name}", task.first, block.pop(name))
    # Last: a block that is there says that its frames are.
    building.store(task.name, block)
    frames.flush()


def _is_usable(block: Block | None, task: Task, frames: FramesFile, skip_bad: bool) -> bool:
    """Whether a block is whole, made of these files as they are now, and lacks none that it should have."""
    if block is None or "rows" not in block:
        return False
    rows = block["rows"]
    if not np.array_equal(rows["signature"], source_signatures(task.sources, task.kind)):
        return False
    names = [name for name in _FRAMES if f"{name}_xxh3" in (rows.dtype.names or ())]
    if not all(_are_whole(frames, f"{task.side}/{name}", task.first, rows[f"{name}_xxh3"]) for name in names):
        return False
    return skip_bad or bool(rows["is_kept"].all())


def _are_whole(frames: FramesFile, name: str, first: int, checksums: NDArray[np.uint64]) -> bool:
    rows = frames.read(name, first, len(checksums))
    # Those of sources that were left out are 0, whatever their frames are.
    return all(checksum(row) == expected for row, expected in zip(rows, checksums.tolist(), strict=True) if expected)
