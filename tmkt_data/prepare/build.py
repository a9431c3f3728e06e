"""Build the cache of a plan. A build can be stopped at any point and resumed, and ends with the same bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from tmkt_data.cache.build_folder import BuildFolder, CacheContent, drop_left, open_build_folder
from tmkt_data.cache.side_rows import SideRows
from tmkt_data.datasets.image_reader import Archives
from tmkt_data.prepare.blocks import Block, UnreadableSourcesError
from tmkt_data.prepare.drawn_splits import refuse_early
from tmkt_data.prepare.finish import describe_cache, suspicions_of
from tmkt_data.prepare.images import convert_images
from tmkt_data.prepare.plan import PreparePlan
from tmkt_data.prepare.recordings import convert_recordings
from tmkt_data.prepare.shards import ShardedPlan, write_shard_index
from tmkt_data.spec import PrepareStage


class Progress(NamedTuple):
    """Progress of a `prepare`.

    Attributes:
        stage: What is being done.
        done: Samples of this stage that are done.
        total: Samples of this stage.
        resumed: Samples that an earlier run had done.
        suspicions: What looks wrong with the recordings, one line a kind; at the end.
    """

    stage: PrepareStage
    done: int
    total: int
    resumed: int
    suspicions: tuple[str, ...] = ()


def prepare_cache(
    plan: PreparePlan, *, workers: int = 1, skip_bad: bool = False, fresh: bool = False
) -> Iterator[Progress]:
    """Write the cache of a plan, yielding progress. A run that was interrupted is resumed.

    Args:
        plan: What to write.
        workers: Threads that decode. They share the interpreter; the kernels run without its lock.
        skip_bad: Leave unreadable files out; the cache names them.
        fresh: Drop what an interrupted run has done.

    Raises:
        UnreadableSourcesError: Sources that cannot be decoded, all of them; what could be converted is kept.
        CatalogueError: Samples of equal content are in different splits, see `PrepareSpec.duplicates`.
        CacheError: The disk is full or cannot be written, another process builds the same cache, or a source was
            changed meanwhile.
        StoreError: An object store cannot be read or written.
    """
    if not skip_bad and plan.drawn_over is None:
        refuse_early(plan.catalogue, plan.spec)
    found: list[str] = []

    def describe(event_rows: SideRows, image_rows: SideRows) -> CacheContent:
        found.extend(suspicions_of(plan, event_rows))
        return describe_cache(plan, event_rows, image_rows)

    with open_build_folder(plan.path, plan.build_key, plan.arrays, fresh=fresh, folder=plan.build_folder) as folder:
        yield from _fill(plan, folder, max(1, workers), skip_bad)
        total = len(plan.catalogue.recordings) + len(plan.catalogue.images)
        yield Progress("writing", 0, total, 0)
        folder.finish([block.place for block in plan.blocks], describe)
        if plan.target is not None:
            plan.target.put(plan.path.relative_to(plan.target.folder).as_posix())
        yield Progress("writing", total, total, 0, tuple(found))


def prepare_shards(
    plan: ShardedPlan, missing: Sequence[int], *, workers: int = 1, skip_bad: bool = False, fresh: bool = False
) -> Iterator[Progress]:
    """Write some shards of a plan, one after the other, then the index of all; options as `prepare_cache`.

    Args:
        plan: What to write.
        missing: The shards to write, counted from 0, see `missing_shards`; the others are there.
        workers: Threads that decode.
        skip_bad: Leave unreadable files out.
        fresh: Drop what an interrupted run has done of a shard.

    Raises:
        UnreadableSourcesError: Sources of a shard that cannot be decoded; earlier shards are kept.
        CatalogueError: Samples of equal content are in different splits, see `PrepareSpec.duplicates`.
        CacheError: As `prepare_cache`.
    """
    whole = plan.whole
    if missing and not skip_bad:
        refuse_early(whole.catalogue, whole.spec)
    total: dict[PrepareStage, int] = {
        "recordings": len(whole.catalogue.recordings),
        "images": len(whole.catalogue.images),
        "writing": len(whole.catalogue.recordings) + len(whole.catalogue.images),
    }
    writes = [plan.shard(shard) for shard in missing]
    resumed: dict[PrepareStage, int] = {
        "recordings": total["recordings"] - sum(len(shard.catalogue.recordings) for shard in writes),
        "images": total["images"] - sum(len(shard.catalogue.images) for shard in writes),
    }
    resumed["writing"] = resumed["recordings"] + resumed["images"]
    done = dict(resumed)
    for shard in writes:
        last: dict[PrepareStage, Progress] = {}
        for step in prepare_cache(shard, workers=workers, skip_bad=skip_bad, fresh=fresh):
            last[step.stage], stage = step, step.stage
            yield step._replace(done=done[stage] + step.done, total=total[stage], resumed=resumed[stage] + step.resumed)
        for stage, step in last.items():
            done[stage] += step.done
    finish_shards(plan)
    yield Progress("writing", total["writing"], total["writing"], resumed["writing"])


def finish_shards(plan: ShardedPlan) -> None:
    """Write the index over all shards, which are there, and remove what killed builds of this machine left.

    Raises:
        CacheError: A shard cannot be read, or the index cannot be written.
        CatalogueError: Samples of equal content are in different splits, and that is to be refused.
    """
    write_shard_index(plan)
    if plan.whole.target is not None:
        plan.whole.target.put(plan.whole.target.name)
    for number in range(len(plan)):
        shard = plan.shard(number)
        drop_left(shard.build_folder, shard.build_key)


def _fill(plan: PreparePlan, folder: BuildFolder, workers: int, skip_bad: bool) -> Iterator[Progress]:
    totals = {"recordings": len(plan.catalogue.recordings), "images": len(plan.catalogue.images)}
    done, resumed = dict.fromkeys(totals, 0), dict.fromkeys(totals, 0)
    problems: dict[str, str] = {}
    running: deque[tuple[Block, Future[None]]] = deque()
    archives: Archives = {}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")

    def convert(block: Block) -> None:
        # A table makes each source anew whenever it is asked for.
        block = block._replace(sources=tuple(block.sources))
        if block.place.side == "events":
            arrays = convert_recordings(block, plan.catalogue, plan.spec, skip_bad=skip_bad)
        else:
            arrays = convert_images(block, plan.catalogue, plan.spec, archives=archives, skip_bad=skip_bad)
        folder.fill(block.place, arrays)

    def wait() -> Progress:
        block, future = running.popleft()
        try:
            future.result()
        except UnreadableSourcesError as unreadable:
            problems.update(unreadable.problems)
        done[block.stage] += len(block.sources)
        return Progress(block.stage, done[block.stage], totals[block.stage], resumed[block.stage])

    try:
        for block in plan.blocks:
            if not folder.is_missing(block.place, block.signatures, keep_all=not skip_bad):
                done[block.stage] += len(block.sources)
                resumed[block.stage] += len(block.sources)
                continue
            running.append((block, pool.submit(convert, block)))
            if len(running) > 2 * workers:
                yield wait()
        while running:
            yield wait()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if problems:
        raise UnreadableSourcesError(problems)
