"""A run on a Dask cluster: shards handed out as tasks, tried again elsewhere, and what they report."""

from __future__ import annotations

import pickle
import pkgutil
import queue
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, NamedTuple

from tmkt_data.errors import ClusterError, counted
from tmkt_data.prepare import cluster
from tmkt_data.prepare.cluster import CONNECT_S, FAILURES, Call
from tmkt_data.prepare.shard_task import Outcome, ShardTask
from tmkt_data.spec import PrepareStage

_TRIES = 3
_MOST_UNGATHERED = 30
_NOTE_S = 30.0


class Step(NamedTuple):
    """Where a shard stands.

    Attributes:
        shard: The shard, counted from 0.
        stage: What is being done.
        done: How many of its samples are done in that stage.
        outcome: What came of it, at its end.
    """

    shard: int
    stage: PrepareStage
    done: int
    outcome: Outcome | None = None


def make_shards(client: Any, tasks: Sequence[ShardTask], name: str, say: Callable[[str], None]) -> Iterator[Step]:
    """Have workers make shards, one task each, yielding what they report.

    A worker that is lost loses its task to another one. One whose system refuses, such as one with a full disk, does,
    too, up to a number of times.

    Args:
        client: See `connected`.
        tasks: The shards.
        name: What they are of, for the dashboard.
        say: Takes a line on what the run waits for.

    Raises:
        UnreadableSourcesError: Sources of a shard cannot be decoded.
        ClusterError: A worker cannot make shards of this plan, or a shard, or the scheduler is gone.
    """
    run = _Run(client, {task.shard: task for task in tasks}, name, say)
    try:
        yield from run.steps()
    finally:
        run.stop()


class _Run:
    """The tasks of a run that are not done."""

    def __init__(self, client: Any, tasks: dict[int, ShardTask], name: str, say: Callable[[str], None]) -> None:
        self._client, self._tasks, self._name, self._say = client, tasks, name, say
        self._run = secrets.token_hex(4)
        self._topic = f"tmkt-{self._run}"
        self._heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._futures: dict[int, Any] = {}
        self._refused_by: dict[int, set[str]] = {}
        self._num_ungathered = 0
        self._last_seen = time.monotonic()

    def steps(self) -> Iterator[Step]:
        """Hand all tasks out, and yield their steps."""
        self._client.subscribe_topic(self._topic, lambda event: self._heard.put(event[1]))
        for shard in self._tasks:
            self._submit(shard)
        while self._futures:
            try:
                heard = self._heard.get(timeout=1)
            except queue.Empty:
                self._look()
                continue
            if isinstance(heard, int):
                outcome = self._outcome(heard)
                if outcome is not None:
                    yield Step(heard, "writing", 0, outcome)
            elif heard[0] in self._futures:
                yield Step(*heard)

    def stop(self) -> None:
        """Take back what no worker has begun; shards that are being made are made."""
        with suppress(*FAILURES):
            self._client.unsubscribe_topic(self._topic)
            self._client.cancel(list(self._futures.values()))

    def _submit(self, shard: int, workers: Sequence[str] | None = None) -> None:
        tried = len(self._refused_by.get(shard, ()))
        # The dashboard groups by the words before the first number.
        key = f"{self._name}-shard-{shard + 1:05d}-try-{tried + 1}-{self._run}"
        data = pickle.dumps(Call(self._tasks[shard], self._topic))
        future = self._client.submit(pickle.loads, data, key=key, workers=workers, pure=False)
        self._futures[shard] = future
        self._listen(shard)

    def _listen(self, shard: int) -> None:
        self._futures[shard].add_done_callback(lambda _: self._heard.put(shard))

    def _outcome(self, shard: int) -> Outcome | None:
        """Return what came of a task that has ended, or None where another try was begun."""
        future = self._futures[shard]
        status, is_connected = future.status, self._client.status == "running"
        if status in ("pending", "lost") and is_connected:
            # Its worker was lost with the result; the scheduler has it run again.
            self._listen(shard)
            return None
        if status == "error":
            raise self._explained(shard, future.exception(timeout=CONNECT_S))
        if status != "finished":
            raise self._gone()
        try:
            *fields, address = future.result(timeout=CONNECT_S)
        except (CancelledError, *FAILURES) as failure:
            self._num_ungathered += 1
            if self._client.status != "running" or self._num_ungathered > _MOST_UNGATHERED:
                raise self._gone() from failure
            self._listen(shard)
            return None
        outcome = Outcome(*fields)
        if outcome.refusal:
            self._try_elsewhere(shard, outcome, address)
            return None
        del self._futures[shard]
        return outcome

    def _try_elsewhere(self, shard: int, outcome: Outcome, address: str) -> None:
        by = self._refused_by.setdefault(shard, set())
        by.add(address)
        others = [worker for worker in self._workers() if worker not in by]
        if not outcome.is_of_machine or len(by) >= _TRIES or not others:
            raise ClusterError(f"worker on {outcome.host}: shard {shard + 1}: {outcome.refusal}")
        self._say(f"note: shard {shard + 1} is tried elsewhere, worker on {outcome.host}: {outcome.refusal}")
        self._submit(shard, others)

    def _workers(self) -> list[str]:
        return list(self._client.scheduler_info(n_workers=-1)["workers"])

    def _look(self) -> None:
        """Say what the run waits for, where nothing has been heard for a while."""
        if self._client.status not in ("running", "connecting"):
            raise self._gone()
        if self._workers():
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > _NOTE_S:
            self._last_seen = time.monotonic()
            if self._client.cluster is not None:
                raise ClusterError("all processes of --dask local were lost; finished shards are kept, run it again")
            self._say("note: the scheduler has no workers, waiting for one; start one with dask worker")

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"lost the Dask scheduler with {counted(len(self._futures), 'shard')} to make; finished shards are kept, "
            "run it again once there is one"
        )

    def _explained(self, shard: int, error: BaseException) -> ClusterError:
        if isinstance(error, ModuleNotFoundError | AttributeError | ImportError):
            without = self._without_tmkt()
            if without:
                return ClusterError(
                    f"worker {without[0]}: has no tmkt, or another one ({counted(len(without), 'worker')}); "
                    "install the same version on all"
                )
        text = " ".join(str(error).split())
        if type(error).__name__ == "KilledWorker":
            last = getattr(getattr(error, "last_worker", None), "address", "unknown")
            text = f"each worker that made it was lost, the last one at {last}; look at its log, it may lack memory"
        else:
            text = f"{type(error).__name__}: {text[:200]}"
        return ClusterError(f"shard {shard + 1}: {text}; finished shards are kept")

    def _without_tmkt(self) -> list[str]:
        found = self._client.run(pkgutil.resolve_name, f"{cluster.__name__}:__name__", on_error="return")
        return [str(address) for address, name in found.items() if name != cluster.__name__]
