"""How many runs of an experiment train at once, and on which GPUs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tmkt_train.choices import All
from tmkt_train.errors import RunError
from tmkt_train.experiments.submitted import Submission
from tmkt_train.recipe.recipe import Recipe


@dataclass(frozen=True)
class Slots:
    """Room for the runs that train at once.

    Attributes:
        num_jobs: Number of concurrent runs.
        devices: GPUs that the runs are spread over, as `CUDA_VISIBLE_DEVICES` calls them; empty for the one that each
            run chooses by itself.
        is_chosen: Whether the user named the GPUs; otherwise a run may train on the CPU.
        submission: The cluster whose jobs the runs are; None for child processes.
    """

    num_jobs: int = 1
    devices: tuple[str, ...] = ()
    is_chosen: bool = False
    submission: Submission | None = None

    @property
    def is_single(self) -> bool:
        """Whether the runs train one after the other in this process."""
        return self.num_jobs == 1 and not self.devices and self.submission is None

    def require_fit(self, recipe: Recipe) -> None:
        """Check that a recipe can train in these slots.

        Raises:
            RunError: It trains on the CPU while GPUs were named, or leaves open the number of threads while several
                runs share the processor.
        """
        if self.is_chosen and recipe.train.device == "cpu":
            raise RunError(
                f"{recipe.name}: train.device is 'cpu', expected 'auto' or 'cuda' with --devices; omit --devices, or "
                "add --set train.device=auto"
            )
        # Runs that share the processor get fewer threads from torch, and rounding depends on their number.
        if self.num_jobs > 1 and self.submission is None and recipe.train.num_threads == "auto":
            raise RunError(
                f"{recipe.name}: train.num_threads is 'auto' with {self.num_jobs} runs at once, expected a number, so "
                "that the results do not depend on it; add --set train.num_threads=1"
            )


def submitted_slots(num_jobs: int | None, numbers: Sequence[int] | All | None, submission: Submission) -> Slots:
    """Return slots for jobs of a cluster; `num_jobs` limits how many wait or run at once.

    Raises:
        RunError: GPUs of this machine were named, or no number of jobs.
    """
    if num_jobs is None:
        raise RunError("--jobs: found none with --submit, expected how many jobs may wait or run at once; add --jobs 8")
    if numbers is not None:
        raise RunError("--devices: found with --submit, expected neither or one; the cluster assigns GPUs to jobs")
    return Slots(num_jobs, submission=submission)


def choose_slots(num_jobs: int | None, numbers: Sequence[int] | All | None) -> Slots:
    """Return the slots that the options `--jobs` and `--devices` describe on this machine.

    Args:
        num_jobs: Number of concurrent runs; None for one a device.
        numbers: GPUs as torch numbers them in this process; None for all of them if runs are concurrent.

    Raises:
        RunError: torch does not find one of the GPUs.
    """
    if numbers is None and (num_jobs or 1) == 1:
        return Slots()
    found = _find_devices()
    devices = found if numbers is None else named_devices(numbers, found)
    return Slots(num_jobs or len(devices), devices, is_chosen=numbers is not None)


def _find_devices() -> tuple[str, ...]:
    import torch

    return visible_devices(torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible_devices(num_devices: int, visible: str | None) -> tuple[str, ...]:
    """Return the name by which `CUDA_VISIBLE_DEVICES` of a child process selects each GPU of this process.

    Args:
        num_devices: Number of GPUs that torch finds.
        visible: `CUDA_VISIBLE_DEVICES` of this process; None if it is unset.

    Example:
        >>> visible_devices(2, None)
        ('0', '1')
        >>> visible_devices(2, "3,GPU-8f6d")
        ('3', 'GPU-8f6d')
    """
    names = visible.split(",") if visible else map(str, range(num_devices))
    return tuple(name.strip() for name in names)[:num_devices]


def named_devices(numbers: Sequence[int] | All, found: Sequence[str]) -> tuple[str, ...]:
    """Select GPUs by their indices in those found, see `visible_devices`.

    Raises:
        RunError: There is no GPU, or none of a number.

    Example:
        >>> named_devices([1], ["3", "5"]), named_devices("all", ["3", "5"])
        (('5',), ('3', '5'))
    """
    asked = "all" if numbers == "all" else ",".join(map(str, numbers))
    if not found:
        raise RunError(f"--devices {asked}: torch finds no GPU here, expected at least one; omit --devices")
    if numbers == "all":
        return tuple(found)
    for number in numbers:
        if number >= len(found):
            expected = "0" if len(found) == 1 else f"numbers from 0 to {len(found) - 1}"
            raise RunError(
                f"--devices {asked}: found {number}, expected {expected} for the {len(found)} "
                f"GPU{'s' if len(found) > 1 else ''} here; omit it, or give --devices all"
            )
    return tuple(found[number] for number in numbers)


def next_device(devices: Sequence[str], in_use: Sequence[str | None]) -> str | None:
    """Return the GPU with the fewest runs, the first of them in case of a tie; None if there is no GPU.

    `in_use` has the GPU of each run that is training.

    Example:
        >>> next_device(("0", "1"), ["0"]), next_device(("0", "1"), ["0", "1"])
        ('1', '0')
    """
    return min(devices, key=in_use.count, default=None)
