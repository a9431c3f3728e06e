"""Training of planned runs in processes of their own, several at once."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from typing import IO, NamedTuple

from tmkt_train.errors import RunInterruptedError
from tmkt_train.experiments.planned_run import PlannedRun
from tmkt_train.experiments.runs_progress import RunBegins, RunEnds, RunsProgress

_LOOK_EVERY_S = 0.05


class _Child(NamedTuple):
    run: PlannedRun
    process: subprocess.Popen[bytes]
    errors: IO[bytes]


def train_in_processes(
    runs: Sequence[PlannedRun], should_stop: Callable[[], bool], num_jobs: int
) -> Generator[RunsProgress, None, None]:
    """Train runs, `num_jobs` at once, each by the command that trains or resumes a single one.

    Args:
        runs: Unfinished runs.
        should_stop: Asked again and again; when it says yes, the children are asked to stop, and save.
        num_jobs: Processes at once.

    Yields:
        Which runs begin and end, in the order in which they do.

    Raises:
        RunInterruptedError: `should_stop` said yes before the last run had ended.
    """
    waiting = list(reversed(runs))
    children: list[_Child] = []
    try:
        while waiting or children:
            if should_stop():
                first = (children[0].run if children else waiting[-1]).folder
                raise RunInterruptedError(first)
            while waiting and len(children) < num_jobs:
                run = waiting.pop()
                yield RunBegins(run, goes_on=run.state == "interrupted")
                children.append(_start(run))
            for child in [child for child in children if child.process.poll() is not None]:
                children.remove(child)
                yield RunEnds(child.run, _problem(child))
            time.sleep(_LOOK_EVERY_S)
    finally:
        _stop(children)


def _start(run: PlannedRun) -> _Child:
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
    # A session of its own: Ctrl-C on the terminal reaches this process alone, which asks the children once.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tmkt_train", *_words(run)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
    )
    return _Child(run, process, errors)


def _words(run: PlannedRun) -> list[str]:
    cache = ["--cache", str(run.cache.path)]
    if run.state == "interrupted":
        return ["resume", *cache, "--", str(run.folder)]
    settings = [word for setting in run.settings for word in ("--set", setting)]
    return ["recipe", *settings, *cache, "--out", str(run.folder), "--", str(run.source)]


def _problem(child: _Child) -> str | None:
    """Say why a child failed, None where it did not."""
    with child.errors as file:
        file.seek(0)
        lines = file.read().decode(errors="replace").strip().splitlines()
    code = child.process.returncode
    if code == 0 and child.run.state == "finished":
        return None
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if said:
        return said[0]
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{child.run.folder}: its process {ended}" + (f": {lines[-1]}" if lines else "")


def _stop(children: Sequence[_Child]) -> None:
    """Ask children to stop and wait while they save; a KeyboardInterrupt meanwhile ends them at once."""
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
