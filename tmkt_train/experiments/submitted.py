"""Runs as jobs of a cluster, through submitit: Slurm, or its local executor, which starts processes here."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from tmkt_train.choices import Cluster
from tmkt_train.errors import RunError
from tmkt_train.experiments.parent import tied
from tmkt_train.training.folder import RunFolder

STOPPED = (130, -signal.SIGTERM)
"""How a run ends that was asked to stop: with a checkpoint, or before it could make one."""
_OF_JOBS = ("SLURM_", "SLURMD_", "SRUN_")
"""What Slurm sets in a job; users set SBATCH_ACCOUNT and the like, and `_OF_USERS`."""
_OF_USERS = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
_LOOK_S = 1.0
_ASK_S = 30.0
_ANSWER_S = 20.0
_RESULT_LOOKS = 10
_CANCEL_S = 60.0
_GRACE_S = 600.0
"""Longest time that Slurm is expected to give to a job between SIGTERM and its end."""


@dataclass(frozen=True)
class Submission:
    """Where jobs go, and what they ask for: parameters of submitit such as `timeout_min=600`."""

    cluster: Cluster
    parameters: tuple[str, ...] = ()


class Ended(NamedTuple):
    """How a command ended on its node: its exit code, and what it wrote to its standard error."""

    code: int
    errors: bytes


class SubmittedProcess:
    """A run that was submitted, with what `jobs.Jobs` asks of a process.

    Attributes:
        returncode: Its exit code; None until it has ended.
        stdin: None.
    """

    stdin = None

    def __init__(self, job: Any, errors: IO[bytes]) -> None:
        from submitit import SlurmJob

        self._job, self._errors, self._of_slurm = job, errors, SlurmJob
        self._next_look = self._gives_up = 0.0
        self._since = time.monotonic()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the job waits or runs; looks at the shared disk once a second."""
        if self.returncode is None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_S
            if self._has_ended():
                self._end()
        return self.returncode

    def wait(self) -> None:
        """Wait until the cluster has ended the job, at most a minute after `terminate`."""
        while self.returncode is None and time.monotonic() < self._gives_up:
            if self._has_ended():
                return
            self._since = time.monotonic()
            time.sleep(_LOOK_S)

    def terminate(self) -> None:
        """Ask the cluster to end the job; its run saves a checkpoint."""
        self._gives_up = time.monotonic() + _CANCEL_S
        self._job.cancel(check=False)

    def kill(self) -> None:
        """Leave the end to the cluster."""

    def _has_ended(self) -> bool:
        # Not the `done` of jobs of Slurm: without accounting, or once a job is preempted for good, it is never true.
        if self._job.paths.result_pickle.exists() or not isinstance(self._job, self._of_slurm):
            return bool(self._job.done())
        return not _QUEUE.may_hold(self._job.job_id, self._since)

    def _end(self) -> None:
        if isinstance(self._job, self._of_slurm) and not self._has_result():
            ended = Ended(1, _explain_gone(self._job))
        else:
            error = self._job.exception()
            ended = self._job.result() if error is None else Ended(1, _explain(self._job, error))
        self._errors.write(ended.errors)
        self.returncode = ended.code

    def _has_result(self) -> bool:
        # On a shared disk, it may be seen a while after the job has left the queue.
        for _ in range(_RESULT_LOOKS):
            if self._job.paths.result_pickle.exists():
                return True
            time.sleep(_LOOK_S)
        return False


class Queue:
    """The jobs of this user that Slurm has, asked for all runs at once: twice a minute, each second while they stop."""

    def __init__(self) -> None:
        self._asked = -math.inf
        self._jobs: frozenset[str] | None = None

    def may_hold(self, job_id: str, since: float) -> bool:
        """Return whether Slurm has a job that waits, runs, or is queued again; True if it does not answer.

        Args:
            job_id: The job.
            since: Earlier answers do not count; a time of `time.monotonic`.
        """
        now = time.monotonic()
        if self._asked <= since or now >= self._asked + _ASK_S:
            self._asked, self._jobs = now, queued_jobs()
        return self._jobs is None or job_id in self._jobs


def queued_jobs() -> frozenset[str] | None:
    """Return the jobs of this user that wait, run, or are queued again; None if Slurm does not answer."""
    command = ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if answer.returncode else frozenset(answer.stdout.split())


_QUEUE = Queue()


@dataclass
class RunOnNode:
    """What a job does on its node: train a run, or resume it where the job was queued again; see `checkpoint`.

    Attributes:
        folder: Folder of the run.
        start: Arguments of `tmkt-train` that start the run.
        resume: Those that resume it.
        child: The process that trains.
    """

    folder: Path
    start: tuple[str, ...]
    resume: tuple[str, ...]
    child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> Ended:
        """Run the command that the folder calls for; it stops by itself if the job is ended."""
        folder = RunFolder(self.folder)
        if folder.is_complete:
            return Ended(0, b"")
        words = self.resume if folder.recipe.is_file() else self.start
        with tempfile.TemporaryFile() as errors:
            with subprocess.Popen(
                [sys.executable, "-P", "-m", "tmkt_train", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                env=tied(os.environ),
            ) as self.child:
                code = self.child.wait()
            if code in STOPPED and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
                # Slurm ends the job, or starts it again later: a result would say that nothing is left to wait for.
                time.sleep(_GRACE_S)
            errors.seek(0)
            return Ended(code, errors.read())

    def checkpoint(self) -> Any:
        """Stop the run, and return what the job does when it is queued again; submitit asks before the time limit."""
        from submitit.helpers import DelayedSubmission

        if self.child is not None:
            self.child.send_signal(signal.SIGTERM)
            # Popen.wait, which the signal may have interrupted, holds a lock.
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(replace(self, child=None))


def submit(task: RunOnNode, folder: Path, submission: Submission, errors: IO[bytes]) -> SubmittedProcess:
    """Submit a run.

    Args:
        task: The run.
        folder: Where the files of its job go; on a file system that all nodes share.
        submission: Where it goes.
        errors: Gets what the run writes to its standard error.

    Raises:
        RunError: There is no such scheduler here, or it does not take the job.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise RunError(
            "--submit: found no submitit, which submits jobs; install it with: pip install 'tmkt[submit]'"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder, cluster=submission.cluster)
        executor.update_parameters(**_parameters(submission))
        with _outside_jobs():
            return SubmittedProcess(executor.submit(task), errors)
    except (RuntimeError, NameError, TypeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"--submit {submission.cluster}: the job was not taken ({reason})") from None


@contextmanager
def _outside_jobs() -> Iterator[None]:
    """Hide the variables of the job of Slurm that this process runs in: a job that it submits would inherit them."""
    names = [name for name in os.environ if name.startswith(_OF_JOBS) and name not in _OF_USERS]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _parameters(submission: Submission) -> dict[str, Any]:
    values: dict[str, Any] = {"timeout_min": 24 * 60, "name": "tmkt"}
    if submission.cluster == "slurm":
        # The job queues itself again before its time limit, whatever the cluster's default is.
        values["slurm_additional_parameters"] = {"requeue": True}
    for text in submission.parameters:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise RunError(f"--submit-option: found {text!r}, expected NAME=VALUE such as timeout_min=600")
        values[name] = int(value) if value.isascii() and value.isdecimal() else value
    return values


def _explain(job: Any, error: BaseException) -> bytes:
    # The message has rules, the log and its path around the one line that matters.
    lines = [line.strip() for line in str(error).split("You can check full logs")[0].splitlines()]
    lines = [line for line in lines if line.strip("-")]
    found = job.state if job.state == "INTERRUPTED" else lines[-1] if lines else type(error).__name__
    return f"error: job {job.job_id}: {found}; see {job.paths.stderr}\n".encode()


def _explain_gone(job: Any) -> bytes:
    lines = (job.stderr() or "").strip().splitlines()
    # Slurm says there why it ended the job, and srun after it that its tasks were killed.
    lines = [line for line in lines if "*** JOB" in line] or lines
    found = f"ended without a result: {lines[-1].strip()}" if lines else "ended without a result"
    return f"error: job {job.job_id}: {found}; see {job.paths.stderr}\n".encode()
