"""Runs as jobs of a cluster, through submitit: Slurm, or its local executor, which starts processes here."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from tmkt_train.choices import Cluster
from tmkt_train.errors import RunError
from tmkt_train.experiments.parent import tied


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
    """A command that was submitted, with what `jobs.Jobs` asks of a process.

    Attributes:
        returncode: Its exit code; None until it has ended.
        stdin: None.
    """

    stdin = None

    def __init__(self, job: Any, errors: IO[bytes]) -> None:
        self._job, self._errors = job, errors
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the job waits or runs."""
        if self.returncode is None and self._job.done():
            error = self._job.exception()
            ended = self._job.result() if error is None else Ended(1, _explain(self._job, error))
            self._errors.write(ended.errors)
            self.returncode = ended.code
        return self.returncode

    def wait(self) -> None:
        """Wait until the job has ended."""
        self._job.wait()

    def terminate(self) -> None:
        """Ask the cluster to end the job; its run saves a checkpoint."""
        self._job.cancel(check=False)

    def kill(self) -> None:
        """Leave the end to the cluster."""


def submit(words: Sequence[str], folder: Path, submission: Submission, errors: IO[bytes]) -> SubmittedProcess:
    """Submit a command of `tmkt-train`.

    Args:
        words: Its arguments.
        folder: Where the files of its job go; on a file system that all nodes share.
        submission: Where it goes.
        errors: Gets what the command writes to its standard error.

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
        return SubmittedProcess(executor.submit(run_here, list(words)), errors)
    except (RuntimeError, NameError, TypeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"--submit {submission.cluster}: the job was not taken ({reason})") from None


def run_here(words: Sequence[str]) -> Ended:
    """Run a command of `tmkt-train` on the node of its job; it stops by itself if the job is ended."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "tmkt_train", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            env=tied(os.environ),
        )
        code = child.wait()
        errors.seek(0)
        return Ended(code, errors.read())


def _parameters(submission: Submission) -> dict[str, int | str]:
    values: dict[str, int | str] = {"timeout_min": 24 * 60, "name": "tmkt"}
    for text in submission.parameters:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise RunError(f"--submit-option: found {text!r}, expected NAME=VALUE such as timeout_min=600")
        values[name] = int(value) if value.isascii() and value.isdecimal() else value
    return values


def _explain(job: Any, error: BaseException) -> bytes:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"error: job {job.job_id}: {lines[-1] if lines else type(error).__name__}\n".encode()
