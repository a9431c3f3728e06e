"""Connect to a Dask cluster, whatever scheduler a site has, or start one here; and what its workers are called with."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from tmkt_data.errors import ClusterError
from tmkt_data.prepare.shard_task import ShardTask, make_shard

CONNECT_S = 10.0
"""How long a scheduler has to answer, in seconds."""
_LOCAL = re.compile(r"local(?::(\d{1,4}))?", re.ASCII)
FAILURES = (OSError, ValueError, TypeError, RuntimeError, MemoryError, ImportError, AttributeError, KeyError)
"""What Dask raises for what is no scheduler; a refused connection is an `OSError`."""


class Call:
    """Unpickled, it is the result of `run_task`: neither the scheduler nor Dask itself has to import tmkt."""

    def __init__(self, task: ShardTask, topic: str) -> None:
        self._task, self._topic = task, topic

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return run_task, (tuple(self._task), self._topic)


def run_task(task: Sequence[Any], topic: str) -> tuple[Any, ...]:
    """Make a shard on the worker that this runs on, and send its progress to a topic of the scheduler.

    Returns:
        The fields of an `Outcome`, and the address of the worker.
    """
    from distributed import get_worker

    worker, given = get_worker(), ShardTask(*task)

    def report(stage: str, done: int) -> None:
        worker.log_event(topic, (given.shard, stage, done))

    return (*make_shard(given, report), worker.address)


def require_dask() -> None:
    """Check that Dask is installed.

    Raises:
        ClusterError: It is not.
    """
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError as missing:
        raise ClusterError(
            f"--dask: found no {missing.name}, which hands tasks to workers; install it with: pip install 'tmkt[dask]'"
        ) from None


def scheduler_address(given: str) -> str:
    """Return the address of a scheduler that answers, or `given` for a cluster on this machine.

    Args:
        given: `local`, `local:N`, an address such as `tcp://node7:8786`, or a scheduler file.

    Raises:
        ClusterError: Dask is missing, or nothing or no scheduler answers within `CONNECT_S`.
    """
    require_dask()
    local = _LOCAL.fullmatch(given)
    if local:
        if local[1] is not None and not 1 <= int(local[1]) <= 1024:
            raise ClusterError(f"--dask: found {given!r}, expected local:1 to local:1024, the number of processes")
        return given
    address = _address_in(Path(given)) if _is_file(given) else given
    try:
        with _quiet():
            kind = asyncio.run(asyncio.wait_for(_kind_at(address), CONNECT_S))
        found = "" if kind == "Scheduler" else f"the address of a {kind.lower()}"
    except (TimeoutError, OSError):
        found = f"no answer within {CONNECT_S:.0f} s"
    except FAILURES as failure:
        found = " ".join(str(failure).split())[:120] or type(failure).__name__
    if found:
        raise ClusterError(
            f"--dask {given}: {found}{'' if address == given else f' at {address}'}, expected a Dask scheduler; "
            "start one with dask scheduler, or give local"
        )
    return address


def _is_file(given: str) -> bool:
    return "://" not in given and (given.endswith(".json") or "/" in given or Path(given).is_file())


def _address_in(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as broken:
        why = broken.strerror if isinstance(broken, OSError) else "no address in it"
        raise ClusterError(f"--dask {path}: {why}, expected the scheduler file of a running Dask scheduler") from None


async def _kind_at(address: str) -> str:
    from distributed import Security, rpc

    async with rpc(address, connection_args=Security().get_connection_args("client"), timeout=CONNECT_S) as remote:
        return str((await remote.identity())["type"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask logs and warns of from the terminal: what matters is said in one line."""
    logger = logging.getLogger("distributed")
    before = [(handler, handler.level) for handler in logger.handlers]
    for handler, _ in before:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler, level in before:
            handler.setLevel(level)


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Hold Ctrl-C back until processes have been started, and keep it from them: a terminal sends it to them, too."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started later, it would let the signal through again.
    resource_tracker.ensure_running()
    asked: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    # Threads and processes have the mask of the thread that starts them, also when a lost worker is started again.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if asked:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a scheduler, or start one with its workers on this machine, for the block.

    Args:
        address: As `scheduler_address` returns it.

    Yields:
        A `distributed.Client`.

    Raises:
        ClusterError: The scheduler went away meanwhile, or no cluster can be started here.
    """
    from distributed import Client, LocalCluster

    with _quiet():
        local, cluster = _LOCAL.fullmatch(address), None
        try:
            if local:
                num = int(local[1]) if local[1] else None
                with _interrupted_later():
                    # Memory without a limit, as outside of Dask: pages of files that are written count for its own.
                    cluster = LocalCluster(
                        n_workers=num, threads_per_worker=1, memory_limit=0, silence_logs=logging.CRITICAL
                    )
            client = Client(cluster or address, timeout=CONNECT_S, set_as_default=False)
        except (KeyboardInterrupt, *FAILURES) as failure:
            if cluster is not None:
                cluster.close(timeout=10)
            if isinstance(failure, KeyboardInterrupt):
                raise
            raise ClusterError(f"--dask {address}: {' '.join(str(failure).split())[:200]}; try again") from failure
        try:
            yield client
        finally:
            with suppress(*FAILURES):
                client.close(timeout=5)
            if cluster is not None:
                cluster.close(timeout=10)
