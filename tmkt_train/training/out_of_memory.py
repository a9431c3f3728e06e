"""Running out of memory, on a GPU or on the machine, in one line that says what helps."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from tmkt_train.errors import RunError
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.memory import fitting_batch
from tmkt_train.training.setup import TrainingSetup

_SIGNS = ("out of memory", "allocate memory", "alloc_failed")
"""What CUDA and Triton say; the allocator of a CPU; cuDNN and cuBLAS. Most of them have no error class of their own."""
_BUSY = "busy or unavailable"
_WORTH_NAMING = 1 << 30


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is no memory left, on a GPU or on the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def explain_device_error(error: RuntimeError | MemoryError | OSError) -> str | None:
    """Say in one line what it means that a device refuses to compute: no memory, or another process has it for itself.

    None for an error of another kind.
    """
    if _BUSY in str(error):
        return (
            "the GPU is busy: another process may have it for itself; wait for it, or choose another GPU with "
            "CUDA_VISIBLE_DEVICES"
        )
    if not is_out_of_memory(error):
        return None
    if not torch.cuda.is_available():
        return "out of memory; end other programs, or use smaller batches"
    found = describe_shortage(torch.device("cuda"))
    return f"{found}; end other processes on the GPU, choose another with CUDA_VISIBLE_DEVICES, or use smaller batches"


@contextmanager
def explained(sentence: Callable[[], str]) -> Iterator[None]:
    """Report running out of memory in one line; what the steps that failed hold is free again when it is asked for.

    Raises:
        RunError: There was no memory left.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        raise RunError(sentence()) from None


def explain_out_of_memory(recipe: Recipe, setup: TrainingSetup) -> str:
    """Say in one line what did not fit, and what would."""
    train, on_gpu = recipe.train, setup.device.type == "cuda"
    found = f"{describe_shortage(setup.device)} with train.batch_size = {train.batch_size}"
    other = ", or with train.precision=bfloat16" if on_gpu else ""
    fits = _fitting_batch(recipe, setup)
    if 0 < fits < train.batch_size:
        return f"{found}; about {fits} fit: start a new run with that{other}"
    return f"{found} and train.eval_batch_size = {train.eval_batch_size}; start a new run with lower ones{other}"


def _fitting_batch(recipe: Recipe, setup: TrainingSetup) -> int:
    try:
        return fitting_batch(recipe, setup)
    except (RuntimeError, MemoryError, OSError):
        # On a CPU, counting computes.
        return 0


def describe_shortage(device: torch.device) -> str:
    """Say in words that a device has no memory left, and how much of it other processes hold if that is much."""
    if device.type != "cuda":
        return "out of memory"
    try:
        free, total = torch.cuda.mem_get_info(device)
        others = total - free - torch.cuda.memory_reserved(device)
    except RuntimeError:
        # Not even the driver has memory left.
        others = 0
    held = f" (other processes hold about {others / 1e9:.1f} GB)" if others > _WORTH_NAMING else ""
    return f"CUDA out of memory{held}"
