"""Train planned runs in child processes, several at once, on the GPUs that are there, and report their progress."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import IO, NamedTuple, Self

from tmkt_train.errors import RunInterruptedError
from tmkt_train.experiments.parent import tied
from tmkt_train.experiments.plan import PlannedRun
from tmkt_train.experiments.slots import Slots, next_device
from tmkt_train.experiments.submitted import STOPPED, RunOnNode, Submission, SubmittedProcess, submit
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
    device: str | None
    process: subprocess.Popen[bytes] | SubmittedProcess
    errors: IO[bytes]


class Jobs:
    """Runs in child processes, each started by the command that trains or resumes a single run.

    A context manager: when it exits, the children that still run are asked to save a checkpoint and stop. They do so by
    themselves if this process dies.

    Args:
        slots: How many runs train at once, and on which GPUs.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._children: list[_Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _stop(self._children)

    @property
    def running(self) -> list[PlannedRun]:
        """The runs that train, in the order of their start."""
        return [child.run for child in self._children]

    @property
    def is_full(self) -> bool:
        """Whether no slot is free."""
        return len(self._children) >= self._slots.num_jobs

    def start(self, run: PlannedRun) -> None:
        """Start or resume a run, on the GPU with the fewest runs unless its recipe trains on the CPU."""
        device = None
        if run.recipe.train.device != "cpu":
            device = next_device(self._slots.devices, [child.device for child in self._children])
        if self._slots.submission is None:
            self._children.append(_start(run, device))
        else:
            self._children.append(_submit(run, self._slots.submission))

    def wait(self) -> Iterator[RunEnded]:
        """Wait for a moment, and return the runs that have ended."""
        for child in [child for child in self._children if child.process.poll() is not None]:
            self._children.remove(child)
            yield RunEnded(child.run, _problem(child))
        time.sleep(_POLL_S)


def train_in_processes(
    runs: Sequence[PlannedRun], should_stop: Callable[[], bool], slots: Slots
) -> Generator[RunsProgress, None, None]:
    """Train unfinished runs in child processes, as many at once as there are slots.

    Once `should_stop`, which is polled, returns True, the children are asked to save a checkpoint and stop.

    Yields:
        Starts and ends of runs, in the order in which they happen.

    Raises:
        RunInterruptedError: `should_stop` returned True before the last run ended.
    """
    waiting = list(reversed(runs))
    with Jobs(slots) as jobs:
        while waiting or jobs.running:
            if should_stop():
                raise RunInterruptedError((jobs.running or waiting[::-1])[0].folder)
            while waiting and not jobs.is_full:
                run = waiting.pop()
                yield RunStarted(run, is_resumed=run.status == "interrupted")
                jobs.start(run)
            yield from jobs.wait()


def _start(run: PlannedRun, device: str | None) -> _Child:
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
    # In a session of its own, a child does not receive Ctrl-C of the terminal; this process asks it once to stop.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tmkt_train", *_arguments(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
        # The child sees one GPU only, and calls it 0.
        env=tied(os.environ if device is None else {**os.environ, "CUDA_VISIBLE_DEVICES": device}),
    )
    return _Child(run, device, process, errors)


def _submit(run: PlannedRun, submission: Submission) -> _Child:
    errors = io.BytesIO()
    # Jobs start in the folder of the command that submits them.
    task = RunOnNode(run.folder, tuple(_starting(run)), tuple(_resuming(run)))
    return _Child(run, None, submit(task, run.folder.parent / "jobs", submission, errors), errors)


def _arguments(run: PlannedRun) -> list[str]:
    return _resuming(run) if run.status == "interrupted" else _starting(run)


def _options(run: PlannedRun) -> list[str]:
    return ["--cache", str(run.cache.path), "--report" if run.has_report else "--no-report"]


def _resuming(run: PlannedRun) -> list[str]:
    return ["resume", *_options(run), "--", str(run.folder)]


def _starting(run: PlannedRun) -> list[str]:
    settings = [word for setting in run.settings for word in ("--set", setting)]
    settings += [word for name in run.loggers for word in ("--logger", name)]
    return ["recipe", *settings, *_options(run), "--out", str(run.folder), "--", str(run.source)]


def _problem(child: _Child) -> str | None:
    _untie(child)
    with child.errors as file:
        file.seek(0)
        lines = file.read().decode(errors="replace").strip().splitlines()
    code = child.process.returncode or 0
    if code == 0 and child.run.status == "finished":
        return None
    reported = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if reported:
        return reported[0]
    if code in STOPPED:
        return f"{child.run.folder}: stopped from outside before its end; run the same command again to resume it"
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
            _untie(child)
            child.errors.close()


def _untie(child: _Child) -> None:
    if child.process.stdin is not None:
        child.process.stdin.close()
