"""What a worker of a cluster does for one shard: check that it may, make it, and say what came of it."""

from __future__ import annotations

import hashlib
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import tmkt_data
from tmkt_data.cache.build_folder import drop_left, is_being_built
from tmkt_data.errors import CacheError, TmktError
from tmkt_data.files import read_bytes
from tmkt_data.prepare.blocks import UnreadableSourcesError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.finish import own_version
from tmkt_data.prepare.plan import PreparePlan
from tmkt_data.prepare.plan_file import PlanFile, read_plan
from tmkt_data.prepare.shards import shard_problem
from tmkt_data.spec import PrepareStage
from tmkt_data.storage.objects import find_object
from tmkt_data.storage.store_urls import is_url
from tmkt_data.storage.transfer import read_object

_REPORT_S = 0.5
_MOST_GONE = 5

Report = Callable[[PrepareStage, int], None]
"""Takes a stage and how many samples of the shard are done in it."""


class ShardTask(NamedTuple):
    """A shard that a worker has to make.

    Attributes:
        plan: Path of the plan, the same on every machine, or its URL.
        digest: SHA-256 of its bytes.
        shard: The shard, counted from 0.
        build: What `build_of_tmkt` has to return.
        workers: Threads.
        skip_bad: Leave unreadable files out.
        fresh: Make it again where it is there, and drop what an interrupted run has done.
    """

    plan: str
    digest: str
    shard: int
    build: str
    workers: int = 1
    skip_bad: bool = False
    fresh: bool = False


class Outcome(NamedTuple):
    """What came of a task; values of Python alone.

    Attributes:
        host: Name of the machine.
        suspicions: As in `Progress`.
        problems: Sources that cannot be decoded, as in `UnreadableSourcesError`.
        refusal: Why the shard was not made, one line, or "".
        is_of_machine: Whether another machine may make it in spite of the refusal.
    """

    host: str
    suspicions: tuple[str, ...] = ()
    problems: Mapping[str, str] = {}
    refusal: str = ""
    is_of_machine: bool = False


@lru_cache(maxsize=1)
def build_of_tmkt() -> str:
    """Return version and digest of the installed sources: two that differ may write other bytes."""
    digest, root = hashlib.sha256(), Path(tmkt_data.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return f"{own_version()}, sources {digest.hexdigest()[:8]}"


def make_shard(task: ShardTask, report: Report) -> Outcome:
    """Make a shard, unless it is there. Another process of this machine that makes it is waited for.

    Args:
        task: The shard.
        report: Called about twice a second.
    """
    host = platform.node()
    found = build_of_tmkt()
    if found != task.build:
        return Outcome(host, refusal=f"runs tmkt {found}, expected {task.build} as here; install the same on all")
    try:
        given = _plan_of(task.plan, task.digest)
    except (TmktError, OSError) as unseen:
        return Outcome(host, refusal=f"{unseen}; workers need the folder of the cache under the same path")
    try:
        given.require_unchanged(task.shard)
    except (TmktError, OSError) as unseen:
        return Outcome(host, refusal=f"{unseen}; workers need the same sources under the same paths")
    try:
        return Outcome(host, suspicions=_make(given, task, report))
    except UnreadableSourcesError as unreadable:
        return Outcome(host, problems=unreadable.problems)
    except (TmktError, OSError, MemoryError) as refused:
        return Outcome(host, refusal=str(refused) or type(refused).__name__, is_of_machine=True)


@lru_cache(maxsize=1)
def _plan_of(path: str, digest: str) -> PlanFile:
    # As long as the same plan is worked on it is read once: that of a million samples takes seconds.
    data = _bytes_at(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise TmktError(f"{path}: holds another plan than this run has written")
    if not is_url(path):
        return read_plan(Path(path))
    with tempfile.TemporaryDirectory(prefix="tmkt-") as folder:
        copy = Path(folder, "plan")
        copy.write_bytes(data)
        return read_plan(copy)


def _bytes_at(path: str) -> bytes:
    if not is_url(path):
        return read_bytes(path, error=TmktError)
    found = find_object(path)
    if found is None:
        raise TmktError(f"{path}: no such object")
    return read_object(path, found.num_bytes, found.token)


def _make(given: PlanFile, task: ShardTask, report: Report) -> tuple[str, ...]:
    """Make a shard; another process of this machine that makes it, such as one that lost its connection, is waited for.

    Returns:
        The suspicions.
    """
    planned, num_gone = given.plan.shard(task.shard), 0
    while True:
        if not task.fresh and shard_problem(given.plan, task.shard, skip_bad=task.skip_bad) is None:
            drop_left(planned.build_folder, planned.build_key)
            return ()
        try:
            return _build(planned, task, report)
        except CacheError as refused:
            num_gone += isinstance(refused.__cause__, FileNotFoundError)
            if not is_being_built(refused) or num_gone > _MOST_GONE:
                raise
        time.sleep(_REPORT_S)


def _build(planned: PreparePlan, task: ShardTask, report: Report) -> tuple[str, ...]:
    suspicions: tuple[str, ...] = ()
    last = time.monotonic()
    for step in prepare_cache(planned, workers=task.workers, skip_bad=task.skip_bad, fresh=task.fresh):
        suspicions += step.suspicions
        if time.monotonic() - last >= _REPORT_S:
            last = time.monotonic()
            report(step.stage, step.done)
    return suspicions
