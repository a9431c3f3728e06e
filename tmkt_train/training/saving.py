"""When the checkpoints of a run are written: after every epoch on a CPU, now and then beside the training on a GPU."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tmkt_train.network.collectives import own_rank
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.checkpoint import last_values, save_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.setup import TrainingSetup
from tmkt_train.training.state import TrainingState

_GPU_INTERVAL_S = 30.0


def checkpoint_interval_s(device: torch.device) -> float:
    """Return the seconds between two checkpoints; on a GPU, writing one takes a good part of an epoch."""
    return 0.0 if device.type == "cpu" else _GPU_INTERVAL_S


class _Best(NamedTuple):
    epoch: int
    weights: dict[str, Any]


class CheckpointSaver:
    """Writes last.pt and best.pt, and keeps the ones before; a context that waits for what is being written.

    With an interval of 0, both are written before `save_epoch` returns. Otherwise the state is copied to the host, a
    thread writes it while the training goes on, and epochs that end sooner than the interval after the last checkpoint
    are skipped. Weights of the best epoch that are not in best.pt yet stay on the device, and are part of last.pt, so
    that a run that dies between the two files loses nothing.
    """

    def __init__(self, folder: RunFolder, recipe: Recipe, setup: TrainingSetup, interval_s: float) -> None:
        self._folder, self._recipe, self._setup = folder, recipe, setup
        self._interval_s = interval_s
        self._last_s = -interval_s
        self._best: _Best | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def __enter__(self) -> CheckpointSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception:
            if error is None:
                raise
        finally:
            self._pool.shutdown()

    def save_epoch(self, state: TrainingState, *, is_last: bool) -> None:
        """Save after an epoch that was just finished; the state says whether it was the best one.

        `is_last` says that training ends here, so that a checkpoint is due in any case.

        Raises:
            NonFiniteError: A weight is NaN or infinite; nothing is written.
            RunError: A checkpoint cannot be written, this one or the one before.
        """
        if state.is_best_just_done and state.best is not None:
            weights = self._setup.model.state_dict()
            if self._interval_s:
                for name, value in weights.items():
                    weights[name] = value.clone()
            self._best = _Best(state.best.epoch, weights)
        if is_last or time.monotonic() - self._last_s >= self._interval_s:
            self._save(state)

    def save_now(self, state: TrainingState) -> None:
        """Save in the middle of an epoch, before the run stops; see `save_epoch` for errors."""
        self._save(state)
        self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            RunError: The checkpoint could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _save(self, state: TrainingState) -> None:
        # Every rank checks its weights, the first one writes them.
        values = last_values(self._recipe, self._setup, state)
        if own_rank() > 0:
            return
        best, self._best = self._best, None
        if best is not None and not state.is_best_just_done:
            values["best_model"] = best.weights
        self.wait()
        self._last_s = time.monotonic()
        if not self._interval_s:
            _write(self._folder, values, best)
            return
        values, best = to_host((values, best))
        copied = torch.cuda.current_stream().record_event() if self._setup.device.type == "cuda" else None
        self._writing = self._pool.submit(_write, self._folder, values, best, copied)


def _write(
    folder: RunFolder, values: Mapping[str, Any], best: _Best | None, copied: torch.cuda.Event | None = None
) -> None:
    if copied is not None:
        copied.synchronize()
    # In this order: best.pt can be restored from last.pt, and is never ahead of it.
    save_checkpoint(folder.last, values, previous=folder.last_previous)
    if best is not None:
        save_checkpoint(folder.best, {"epoch": best.epoch, "model": best.weights}, previous=folder.best_previous)


def to_host(values: Any) -> Any:
    """Copy every tensor in dicts, lists and tuples to the host; from a GPU without waiting for it.

    The copies are complete when the current stream of the GPU has come this far.
    """
    if isinstance(values, Tensor):
        if values.device.type != "cuda":
            return values.detach().clone()
        target = torch.empty_like(values, device="cpu", pin_memory=True)
        return target.copy_(values.detach(), non_blocking=True)
    if isinstance(values, Mapping):
        # A shallow copy keeps what a state dict holds beside its items.
        copied: Any = copy.copy(values)
        for name, value in values.items():
            copied[name] = to_host(value)
        return copied
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*(to_host(value) for value in values))
    if isinstance(values, list | tuple):
        return type(values)(to_host(value) for value in values)
    return values
