"""Means over an epoch, and the file of metrics: one JSON object per finished epoch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tmkt_data.files import write_bytes
from tmkt_train.errors import NonFiniteError, RunError

LOSS = "train_loss"


class EpochMeans:
    """Weighted means over the steps of an epoch, kept on the device so that no step waits for the GPU.

    Attributes:
        num_skipped: Terms that were left out because a batch was too small for them.

    Example:
        >>> means = EpochMeans(torch.device("cpu"))
        >>> means.add({"train_loss": torch.tensor(1.0)}, weight=3)
        >>> means.add({"train_loss": torch.tensor(5.0)}, weight=1)
        >>> means.means()
        {'train_loss': 2.0}
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}
        self._unchecked: list[tuple[int, Tensor]] = []
        self.num_skipped = 0

    def add(self, values: Mapping[str, Tensor | float], *, weight: float) -> None:
        """Take in the means of one step over `weight` samples; scalars."""
        for name, value in values.items():
            mean = torch.as_tensor(value, device=self._device).detach().double() * weight
            self._sums[name] = self._sums[name] + mean if name in self._sums else mean
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def watch(self, step: int, loss: Tensor) -> None:
        """Remember the loss of a step for `check`."""
        self._unchecked.append((step, loss.detach()))

    def check(self, epoch: int) -> None:
        """Look at the losses since the last check.

        Raises:
            NonFiniteError: One of them is no finite number; says at which step of the epoch.
        """
        if not self._unchecked:
            return
        finite = torch.isfinite(torch.stack([loss for _, loss in self._unchecked])).tolist()
        steps = [step for (step, _), good in zip(self._unchecked, finite, strict=True) if not good]
        self._unchecked.clear()
        if steps:
            raise NonFiniteError(
                f"epoch {epoch + 1}, step {steps[0] + 1}: the loss is no finite number; "
                "lower optim.learning_rate or loss weights"
            )

    def means(self) -> dict[str, float]:
        """Return the mean of everything that was added."""
        return {name: float(total) / self._weights[name] for name, total in self._sums.items()}

    def state(self) -> dict[str, Any]:
        """Return everything gathered so far, exactly."""
        sums = {name: [float(total), self._weights[name]] for name, total in self._sums.items()}
        return {"sums": sums, "num_skipped": self.num_skipped}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        sums: dict[str, list[float]] = state["sums"]
        self._sums = {
            name: torch.tensor(pair[0], dtype=torch.float64, device=self._device) for name, pair in sums.items()
        }
        self._weights = {name: pair[1] for name, pair in sums.items()}
        self.num_skipped = int(state["num_skipped"])


def spread(mean: float, mean_of_squares: float) -> float:
    """Return the standard deviation from the first two moments.

    Example:
        >>> spread(2.0, 5.0)
        1.0
    """
    return math.sqrt(max(0.0, mean_of_squares - mean * mean))


class MetricsFile:
    """The file of metrics of a run, one line per finished epoch, whole and on disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one epoch.

        Raises:
            RunError: The line cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error})") from None

    def read(self) -> list[dict[str, Any]]:
        """Return the epochs; a line that was cut while being written, and all after it, are left out."""
        rows: list[dict[str, Any]] = []
        if not self.path.is_file():
            return rows
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            try:
                row = json.loads(line) if line.endswith("\n") else None
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict) or row.get("epoch") != len(rows):
                break
            rows.append(row)
        return rows

    def cut(self, num_epochs: int) -> list[dict[str, Any]]:
        """Keep the first `num_epochs` epochs and return them.

        Raises:
            RunError: There are fewer, or the file cannot be written.
        """
        rows = self.read()
        if len(rows) < num_epochs:
            raise RunError(
                f"{self.path}: found {len(rows)} whole epochs, expected {num_epochs} as in last.pt; "
                "the file was changed, start the run anew"
            )
        kept = rows[:num_epochs]
        lines = "".join(json.dumps(row) + "\n" for row in kept)
        write_bytes(self.path, lines.encode(), sync="name", error=RunError)
        return kept


def epoch_row(
    means: Mapping[str, float], *, epoch: int, learning_rate: float, selection: Mapping[str, float]
) -> dict[str, Any]:
    """Build the line of one epoch; figures that a method does not have are absent.

    Args:
        means: Means over the steps; names `loss_terms.x` are gathered into one table.
        epoch: Epoch, from 0.
        learning_rate: Its learning rate.
        selection: Figures of the part that selects, such as `val_accuracy`.

    Returns:
        The line: ratio and its standard deviation over samples, losses, accuracies in [0, 1];
        `modality_accuracy` over frames; `ratio_error` the mean absolute error; `cka` and, for rows that do
        not belong together, `cka_shuffled`.
    """
    plain = dict(means)
    row: dict[str, Any] = {"epoch": epoch, "lr": learning_rate}
    for name in ("mix_ratio", "realised_ratio"):
        if name in plain:
            row[name] = plain.pop(name)
    if "realised_ratio_squared" in plain:
        row["realised_ratio_sd"] = spread(row["realised_ratio"], plain.pop("realised_ratio_squared"))
    row[LOSS] = plain.pop(LOSS)
    prefix = "loss_terms."
    row["loss_terms"] = {name.removeprefix(prefix): plain.pop(name) for name in list(plain) if name.startswith(prefix)}
    return {**row, "train_accuracy": plain.pop("train_accuracy"), **selection, **plain}
