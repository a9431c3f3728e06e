"""Build a cache whose shards are made on a cluster: hand the plan out, add up the progress, write the index here."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tmkt_data.cache.build_folder import this_machine
from tmkt_data.errors import CacheError, ClusterError
from tmkt_data.files import read_bytes, write_bytes
from tmkt_data.locks import lock
from tmkt_data.prepare.blocks import UnreadableSourcesError
from tmkt_data.prepare.build import Progress, finish_shards
from tmkt_data.prepare.cluster import connected
from tmkt_data.prepare.cluster_run import make_shards
from tmkt_data.prepare.drawn_splits import refuse_early
from tmkt_data.prepare.plan import PreparePlan
from tmkt_data.prepare.plan_file import write_plan
from tmkt_data.prepare.shard_task import ShardTask, build_of_tmkt
from tmkt_data.prepare.shards import ShardedPlan
from tmkt_data.spec import PrepareStage
from tmkt_data.storage.transfer import put_object, remove_object

SEEN_S = 90.0
"""How long network file systems may hide files that another machine has written, in seconds."""


class ClusterBuild(NamedTuple):
    """How shards are made on a cluster.

    Attributes:
        address: As `cluster.scheduler_address` returns it.
        say: Takes a line on what the run waits for.
        workers: Threads of each task.
        skip_bad: Leave unreadable files out.
        fresh: Make shards again that are there.
        plan: File of the plan, where there is one: it knows the sources as they were.
    """

    address: str
    say: Callable[[str], None]
    workers: int = 1
    skip_bad: bool = False
    fresh: bool = False
    plan: Path | None = None


def prepare_on_cluster(plan: ShardedPlan, missing: Sequence[int], build: ClusterBuild) -> Generator[Progress]:
    """Have a cluster make some shards of a plan, then write the index of all; the bytes are those of `prepare_shards`.

    Workers read the plan from a file in the folder of the shards, so they need that folder and the sources under the
    same paths. The file is removed at the end.

    Args:
        plan: What to write; its path is absolute.
        missing: The shards to make, counted from 0, see `missing_shards`; the others are there.
        build: How.

    Raises:
        UnreadableSourcesError: Sources of a shard cannot be decoded; shards that are finished are kept.
        ClusterError: See `connected` and `make_shards`.
        CacheError: The plan or the index cannot be written, or another process of this machine makes the same shards.
        CatalogueError: As `prepare_shards`.
    """
    whole = plan.whole
    if missing and not build.skip_bad:
        refuse_early(whole.catalogue, whole.spec)
    progress = _Sum(plan, missing)
    if missing:
        with _plan_for_workers(plan, build.plan) as (path, digest), connected(build.address) as client:
            tasks = [
                ShardTask(path, digest, shard, build_of_tmkt(), build.workers, build.skip_bad, build.fresh)
                for shard in missing
            ]
            for step in make_shards(client, tasks, whole.catalogue.name, build.say):
                if step.outcome is None:
                    yield progress.add(step.shard, step.stage, step.done)
                    continue
                if step.outcome.problems:
                    raise UnreadableSourcesError(dict(step.outcome.problems))
                yield from progress.end(step.shard, step.outcome.suspicions)
    _await(plan, missing)
    finish_shards(plan)
    yield progress.whole()


@contextmanager
def _plan_for_workers(plan: ShardedPlan, file: Path | None) -> Iterator[tuple[str, str]]:
    """Write the plan beside the shards for the block; yields its path or URL, and the SHA-256 of its bytes."""
    whole = plan.whole
    folder = (whole.path.parent / plan.names()[0]).parent
    path = folder / f".{this_machine()}.plan"
    busy = CacheError(f"{whole.path}: another tmkt-data prepare --dask is making its shards; wait for it to end")
    try:
        with lock(path.with_name(f"{path.name}.lock"), busy):
            try:
                if file is None:
                    cache = whole.path if whole.target is None else whole.target.url_of(whole.path)
                    write_plan(path, whole.catalogue, whole.spec, cache, len(plan))
                else:
                    write_bytes(path, read_bytes(file, error=CacheError), error=CacheError)
                yield _seen_by_all(path, whole), hashlib.sha256(path.read_bytes()).hexdigest()
            finally:
                path.unlink(missing_ok=True)
                if whole.target is not None:
                    remove_object(whole.target.url_of(path))
    finally:
        # Only if nothing was made.
        with suppress(OSError):
            folder.rmdir()


def _seen_by_all(path: Path, whole: PreparePlan) -> str:
    if whole.target is None:
        return str(path)
    put_object(path, whole.target.url_of(path))
    return whole.target.url_of(path)


def _await(plan: ShardedPlan, made: Sequence[int]) -> None:
    """Wait until shards that workers have made are seen on this machine, too."""
    if plan.whole.target is not None:
        for shard in made:
            plan.whole.target.bring(plan.names()[shard], plan.key(shard))
        return
    paths = [plan.whole.path.parent / name for name in plan.names()]
    until = time.monotonic() + SEEN_S
    while unseen := [shard for shard in made if not paths[shard].exists()]:
        if time.monotonic() > until:
            raise ClusterError(
                f"{paths[unseen[0]]}: a worker has made it, but it is not seen on this machine; "
                "mount the same folder on all, and run it again"
            )
        time.sleep(1)
        # Reading the folder makes the system look again.
        with suppress(OSError):
            os.listdir(paths[0].parent)  # noqa: PTH208


class _Sum:
    """The progress of all shards together."""

    def __init__(self, plan: ShardedPlan, missing: Sequence[int]) -> None:
        catalogue = plan.whole.catalogue
        self._sizes: dict[int, dict[PrepareStage, int]] = {}
        for shard in missing:
            rows = plan.rows(shard)
            events, images = (rows[side].stop - rows[side].start for side in ("events", "images"))
            self._sizes[shard] = {"recordings": events, "images": images, "writing": events + images}
        events, images = len(catalogue.recordings), len(catalogue.images)
        self._totals: dict[PrepareStage, int] = {"recordings": events, "images": images, "writing": events + images}
        self._resumed = {
            stage: total - sum(sizes[stage] for sizes in self._sizes.values()) for stage, total in self._totals.items()
        }
        self._done = dict(self._resumed)
        self._shards: dict[tuple[int, PrepareStage], int] = {}

    def add(self, shard: int, stage: PrepareStage, done: int, suspicions: tuple[str, ...] = ()) -> Progress:
        """Return the progress when a shard stands somewhere; one that is made again never goes back."""
        before = self._shards.get((shard, stage), 0)
        self._shards[shard, stage] = max(before, done)
        self._done[stage] += max(0, done - before)
        return Progress(stage, self._done[stage], self._totals[stage], self._resumed[stage], suspicions)

    def end(self, shard: int, suspicions: tuple[str, ...]) -> Iterator[Progress]:
        """Yield the progress of all stages when a shard is made."""
        for stage, size in self._sizes[shard].items():
            yield self.add(shard, stage, size, suspicions if stage == "writing" else ())

    def whole(self) -> Progress:
        """Return the progress when everything is done."""
        total = self._totals["writing"]
        return Progress("writing", total, total, self._resumed["writing"])
