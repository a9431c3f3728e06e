"""The metrics of an epoch: means over its batches, and the row that they become."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tmkt_train.errors import NonFiniteError
from tmkt_train.training.metrics_file import Row

LOSS = "train_loss"


class EpochMeans:
    """Weighted means over the batches of an epoch, kept on the device so that no batch waits for the GPU.

    Attributes:
        num_skipped: Terms that were skipped because a batch was too small.

    Example:
        >>> means = EpochMeans(torch.device("cpu"))
        >>> means.add({"train_loss": torch.tensor(1.0)}, weight=3)
        >>> means.add({"train_loss": torch.tensor(5.0)}, weight=1)
        >>> means.means()
        {'train_loss': 2.0}
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor | float] = {}
        self._weights: dict[str, float] = {}
        self._names: tuple[str, ...] = ()
        self._vector: Tensor | None = None
        self._unchecked: list[tuple[int, Tensor]] = []
        self.num_skipped = 0

    def add(self, values: Mapping[str, Tensor | float], *, weight: float) -> None:
        """Add the means of one batch of `weight` samples; scalars.

        Tensors are added as one vector: a GPU gets three small kernels a batch, and is not waited for.
        """
        tensors = {name: value.detach() for name, value in values.items() if isinstance(value, Tensor)}
        if tensors:
            vector = torch.stack([value.double() for value in tensors.values()]) * weight
            self._vector = self._vector_of(tuple(tensors)) + vector
        for name, value in values.items():
            if not isinstance(value, Tensor):
                self._sums[name] = self._sums.get(name, 0.0) + value * weight
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def _vector_of(self, names: tuple[str, ...]) -> Tensor:
        """Return the sums of some names as a vector, in which they go on."""
        if self._vector is None or self._names != names:
            self._unpack()
            self._names = names
            sums = [self._sums.pop(name, 0.0) for name in names]
            if not any(isinstance(total, Tensor) for total in sums):
                return torch.tensor(sums, dtype=torch.float64).to(self._device, non_blocking=True)
            return torch.stack([torch.as_tensor(total, dtype=torch.float64, device=self._device) for total in sums])
        return self._vector

    def _unpack(self) -> None:
        if self._vector is not None:
            self._sums |= dict(zip(self._names, self._vector, strict=True))
        self._vector = None

    def watch(self, batch: int, loss: Tensor) -> None:
        """Keep a copy of the loss of a batch, counted from 0, for `check`."""
        self._unchecked.append((batch, loss.detach().clone()))

    def check(self, epoch: int) -> None:
        """Check the losses since the last check; this waits for the GPU.

        Raises:
            NonFiniteError: One of them is NaN or infinite; names the step of the epoch.
        """
        if not self._unchecked:
            return
        finite = torch.isfinite(torch.stack([loss for _, loss in self._unchecked])).tolist()
        batches = [batch for (batch, _), good in zip(self._unchecked, finite, strict=True) if not good]
        self._unchecked.clear()
        if batches:
            raise NonFiniteError(
                f"epoch {epoch + 1}, step {batches[0] + 1}: the loss is NaN or infinite; "
                "lower optim.learning_rate or loss weights"
            )

    def means(self) -> dict[str, float]:
        """Return the mean of every metric."""
        return {name: total / self._weights[name] for name, total in self._totals().items()}

    def _totals(self) -> dict[str, float]:
        names = () if self._vector is None else self._names
        totals = dict(zip(names, [] if self._vector is None else self._vector.tolist(), strict=True))
        totals |= {name: float(total) for name, total in self._sums.items()}
        return {name: totals[name] for name in self._weights}

    def state_dict(self) -> dict[str, Any]:
        """Return the exact sums so far, as plain numbers."""
        sums = {name: [total, self._weights[name]] for name, total in self._totals().items()}
        return {"sums": sums, "num_skipped": self.num_skipped}

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        sums: dict[str, list[float]] = values["sums"]
        self._vector, self._names = None, ()
        self._sums = {name: total for name, (total, _) in sums.items()}
        self._weights = {name: weight for name, (_, weight) in sums.items()}
        self.num_skipped = int(values["num_skipped"])


def epoch_row(means: Mapping[str, float], *, epoch: int, learning_rate: float, selection: Mapping[str, float]) -> Row:
    """Build the metrics row of an epoch, from 0; metrics that a method does not have are missing.

    Means named `loss_terms.x` are collected in one table. `selection` has metrics such as `val_accuracy`.

    Returns:
        The row: mix ratio and its standard deviation over samples, losses, accuracies in [0, 1]; `modality_accuracy`
        over frames; `ratio_error`, the mean absolute error; `cka` and, for rows paired at random, `cka_shuffled`.
    """
    plain = dict(means)
    row: Row = {"epoch": epoch, "lr": learning_rate}
    for name in ("mix_ratio", "realised_ratio"):
        if name in plain:
            row[name] = plain.pop(name)
    if "realised_ratio_squared" in plain:
        variance = plain.pop("realised_ratio_squared") - row["realised_ratio"] * row["realised_ratio"]
        row["realised_ratio_sd"] = math.sqrt(max(0.0, variance))
    row[LOSS] = plain.pop(LOSS)
    prefix = "loss_terms."
    row["loss_terms"] = {name.removeprefix(prefix): plain.pop(name) for name in list(plain) if name.startswith(prefix)}
    return {**row, "train_accuracy": plain.pop("train_accuracy"), **selection, **plain}
