"""How far a run has come: everything that a checkpoint holds beside the weights."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from tmkt_train.training.metrics import EpochMeans


class Best(NamedTuple):
    """The selected epoch: highest accuracy on the selection part, then lowest loss, then earliest.

    Example:
        >>> Best(3, 0.9, 1.0).is_beaten_by(0.9, 0.5), Best(3, 0.9, 1.0).is_beaten_by(0.9, 1.0)
        (True, False)
    """

    epoch: int
    accuracy: float
    loss: float

    def is_beaten_by(self, accuracy: float, loss: float) -> bool:
        """Return whether a later epoch is better."""
        return (accuracy, -loss) > (self.accuracy, -self.loss)


@dataclass(slots=True)
class Position:
    """Where in the training a run stands.

    Attributes:
        means: Figures of the steps done in the epoch in work.
        epoch: Epoch in work, from 0.
        step: Steps of it that are done.
        best: The best epoch so far.
        num_skipped: Terms left out in finished epochs because a batch had one row.
        epoch_s: Seconds spent on the epoch in work.
        wall_s: Seconds spent on the run, over all its sessions.
        peak_bytes: Largest memory use, over all its sessions.
    """

    means: EpochMeans
    epoch: int = 0
    step: int = 0
    best: Best | None = None
    num_skipped: int = 0
    epoch_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0
    _since: float = field(default_factory=time.perf_counter)

    @property
    def is_best_just_done(self) -> bool:
        """Whether the run stands right behind its best epoch, so that its weights are those of that epoch."""
        return self.best is not None and self.step == 0 and self.best.epoch == self.epoch - 1

    def tick(self, device: torch.device) -> None:
        """Take in the time since the last tick, and the memory."""
        now = time.perf_counter()
        self.epoch_s += now - self._since
        self.wall_s += now - self._since
        self._since = now
        self.peak_bytes = max(self.peak_bytes, peak_memory_bytes(device))

    def finish_epoch(self, device: torch.device, accuracy: float, loss: float, *, may_be_best: bool = True) -> bool:
        """Go to the start of the next epoch; return whether this one is the best so far, where it may be."""
        is_best = may_be_best and (self.best is None or self.best.is_beaten_by(accuracy, loss))
        if is_best:
            self.best = Best(self.epoch, accuracy, loss)
        self.num_skipped += self.means.num_skipped
        self.epoch, self.step, self.epoch_s, self.means = self.epoch + 1, 0, 0.0, EpochMeans(device)
        return is_best

    def state(self) -> dict[str, Any]:
        """Return everything as numbers, for a checkpoint."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "best": None if self.best is None else list(self.best),
            "means": self.means.state(),
            "num_skipped": self.num_skipped,
            "epoch_s": self.epoch_s,
            "wall_s": self.wall_s,
            "peak_bytes": self.peak_bytes,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: torch.device) -> Position:
        """Return what `state` gave."""
        means = EpochMeans(device)
        means.load(state["means"])
        best = None
        if state["best"] is not None:
            epoch, accuracy, loss = state["best"]
            best = Best(int(epoch), float(accuracy), float(loss))
        numbers = {key: int(state[key]) for key in ("epoch", "step", "num_skipped", "peak_bytes")}
        return cls(means, best=best, epoch_s=float(state["epoch_s"]), wall_s=float(state["wall_s"]), **numbers)


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory in use so far: of the GPU that trains, else of this process; 0 if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if os.name != "posix":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, KiB on Linux.
    return peak if sys.platform == "darwin" else peak * 1024
