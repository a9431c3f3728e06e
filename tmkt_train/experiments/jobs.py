"""Train planned runs in child processes, several at once, and report their progress."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from typing import IO, NamedTuple

from tmkt_train.errors import RunInterruptedError
from tmkt_train.experiments.plan import PlannedRun
from tmkt_train.training.progress import Progress

_POLL_S = 0.05


class RunStarted(NamedTuple):
    """A run is started, or resumed."""

    run: PlannedRun
    is_resumed: bool


class RunAdvanced(NamedTuple):
    """A run made progress; runs in child processes do not report it."""

    run: PlannedRun
    progress: Progress


class RunEnded(NamedTuple):
    """A run ended; `problem` says in one line why it failed, and is None if it finished."""

    run: PlannedRun
    problem: str | None


RunsProgress = RunStarted | RunAdvanced | RunEnded


class _Child(NamedTuple):
    run: PlannedRun
    process: subprocess.Popen[bytes]
    errors: IO[bytes]


def train_in_processes(
    runs: Sequence[PlannedRun], should_stop: Callable[[], bool], num_jobs: int
) -> Generator[RunsProgress, None, None]:
    """Train runs in child processes, each by the command that trains or resumes a single run.

    Args:
        runs: Unfinished runs.
        should_stop: Polled; once it returns True, the children are asked to save a checkpoint and stop.
        num_jobs: Number of concurrent processes.

    Yields:
        Starts and ends of runs, in the order in which they happen.

    Raises:
        RunInterruptedError: `should_stop` returned True before the last run ended.
    """
    waiting = list(reversed(runs))
    children: list[_Child] = []
    try:
        while waiting or children:
            if should_stop():
                raise RunInterruptedError((children[0].run if children else waiting[-1]).folder)
            while waiting and len(children) < num_jobs:
                run = waiting.pop()
                yield RunStarted(run, is_resumed=run.status == "interrupted")
                children.append(_start(run))
            for child in [child for child in children if child.process.poll() is not None]:
                children.remove(child)
                yield RunEnded(child.run, _problem(child))
            time.sleep(_POLL_S)
    finally:
        _stop(children)


def _start(run: PlannedRun) -> _Child:
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
    # In a session of its own, a child does not receive Ctrl-C of the terminal; this process asks it once to stop.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tmkt_train", *_arguments(run)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
    )
    return _Child(run, process, errors)


def _arguments(run: PlannedRun) -> list[str]:
    cache = ["--cache", str(run.cache.path)]
    if run.status == "interrupted":
        return ["resume", *cache, "--", str(run.folder)]
    settings = [word for setting in run.settings for word in ("--set", setting)]
    return ["recipe", *settings, *cache, "--out", str(run.folder), "--", str(run.source)]


def _problem(child: _Child) -> str | None:
    with child.errors as file:
        file.seek(0)
        lines = file.read().decode(errors="replace").strip().splitlines()
    code = child.process.returncode
    if code == 0 and child.run.status == "finished":
        return None
    reported = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if reported:
        return reported[0]
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{child.run.folder}: its process {ended}" + (f": {lines[-1]}" if lines else "")


def _stop(children: Sequence[_Child]) -> None:
    # Children save a checkpoint before they exit; a KeyboardInterrupt meanwhile kills them.
    for child in children:
        if child.process.poll() is None:
            child.process.terminate()
    try:
        for child in children:
            child.process.wait()
    finally:
        for child in children:
            child.process.kill()
            child.process.wait()
            child.errors.close()
