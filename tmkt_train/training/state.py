"""The training state: everything that a checkpoint holds besides weights, optimizer and generator."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from tmkt_train.training.environment import peak_memory_bytes, peak_reserved_bytes
from tmkt_train.training.metrics import EpochMeans


class Best(NamedTuple):
    """The selected epoch: highest accuracy on the selection split, then lowest loss, then earliest.

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
class TrainingState:
    """How far a run has come.

    Attributes:
        means: Means of the metrics over the finished batches of the current epoch.
        epoch: Current epoch, from 0.
        batch: Batches of it that are done, which is the number of the next one.
        best: The best epoch so far.
        num_skipped: Terms skipped in finished epochs because a batch had one row.
        epoch_s: Seconds spent on the current epoch.
        wall_s: Seconds spent on the run, over all its sessions.
        peak_bytes: Peak memory use, over all its sessions.
        reserved_bytes: Peak memory taken from the GPU, over all its sessions; 0 on a CPU.
        rows: Metrics of the finished epochs, one dict each, as in metrics.jsonl.
    """

    means: EpochMeans
    epoch: int = 0
    batch: int = 0
    best: Best | None = None
    num_skipped: int = 0
    epoch_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0
    reserved_bytes: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    _since: float = field(default_factory=time.perf_counter)

    @property
    def is_best_just_done(self) -> bool:
        """Whether the best epoch is the one that was just finished, so that the current weights are the best."""
        return self.best is not None and self.batch == 0 and self.best.epoch == self.epoch - 1

    def tick(self, device: torch.device) -> None:
        """Add the time since the last tick, and update the peak memory."""
        now = time.perf_counter()
        self.epoch_s += now - self._since
        self.wall_s += now - self._since
        self._since = now
        self.peak_bytes = max(self.peak_bytes, peak_memory_bytes(device))
        self.reserved_bytes = max(self.reserved_bytes, peak_reserved_bytes(device))

    def finish_epoch(self, device: torch.device, accuracy: float, loss: float, *, may_be_best: bool = True) -> bool:
        """Move on to the next epoch; return whether the finished one is the best so far, if it may be."""
        is_best = may_be_best and (self.best is None or self.best.is_beaten_by(accuracy, loss))
        if is_best:
            self.best = Best(self.epoch, accuracy, loss)
        self.num_skipped += self.means.num_skipped
        self.epoch, self.batch, self.epoch_s, self.means = self.epoch + 1, 0, 0.0, EpochMeans(device)
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, for a checkpoint."""
        return {
            "epoch": self.epoch,
            "step": self.batch,
            "best": None if self.best is None else list(self.best),
            "means": self.means.state_dict(),
            "num_skipped": self.num_skipped,
            "epoch_s": self.epoch_s,
            "wall_s": self.wall_s,
            "peak_bytes": self.peak_bytes,
            **({"reserved_bytes": self.reserved_bytes} if self.reserved_bytes else {}),
            "metrics": [json.dumps(row) for row in self.rows],
        }

    @classmethod
    def from_state_dict(cls, values: Mapping[str, Any], device: torch.device) -> TrainingState:
        """Return the training state that `state_dict` was called on."""
        means = EpochMeans(device)
        means.load_state_dict(values["means"])
        best = None
        if values["best"] is not None:
            epoch, accuracy, loss = values["best"]
            best = Best(int(epoch), float(accuracy), float(loss))
        return cls(
            means,
            epoch=int(values["epoch"]),
            batch=int(values["step"]),
            best=best,
            num_skipped=int(values["num_skipped"]),
            epoch_s=float(values["epoch_s"]),
            wall_s=float(values["wall_s"]),
            peak_bytes=int(values["peak_bytes"]),
            reserved_bytes=int(values.get("reserved_bytes", 0)),
            # Checkpoints of earlier versions have none.
            rows=[dict(json.loads(line)) for line in values.get("metrics", ())],
        )
