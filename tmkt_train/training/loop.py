"""The loop: one epoch of training, one pass of evaluation. Plain arguments, no recipe in sight."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from tmkt_train.data.batches import Batch
from tmkt_train.errors import RunError
from tmkt_train.method.methods import Method
from tmkt_train.method.objective import classification_losses
from tmkt_train.network.network import SpikingNetwork
from tmkt_train.recipe.schema import LossTable
from tmkt_train.training.metrics import LOSS, EpochMeans

TOP = 5


class Evaluation(NamedTuple):
    """What a model makes of a split.

    Attributes:
        accuracy: Share of right predictions, in [0, 1].
        loss: Mean classification loss.
        predictions: Predicted classes, shape (N,), int64.
        labels: True classes, shape (N,), int64.
        top5: Share of samples whose class is among the five best, in [0, 1]; 1 with five classes or fewer.
    """

    accuracy: float
    loss: float
    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]
    top5: float


def train_one_epoch(
    model: SpikingNetwork,
    method: Method,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    means: EpochMeans,
    *,
    epoch: int,
    epochs: int,
    num_steps: int,
    first: int = 0,
    check_every: int = 1,
) -> Generator[int, None, None]:
    """Train on the batches of one epoch; stop between any two steps by closing the generator.

    Args:
        model: Network, changed in place.
        method: Objectives, changed in place.
        optimizer: Optimizer over the parameters of both, with the learning rate of this epoch.
        batches: Batches of the epoch, from number `first` on.
        means: Where the figures of the steps are gathered.
        epoch: This epoch, from 0.
        epochs: Epochs of the training.
        num_steps: Batches of a whole epoch.
        first: Number of the first batch.
        check_every: Steps between two looks at the loss; a look waits for the GPU.

    Yields:
        The number of steps done in this epoch.

    Raises:
        NonFiniteError: A loss is no finite number.
    """
    model.train()
    method.train()
    for step, batch in enumerate(batches, start=first):
        progress = (epoch * num_steps + step) / (epochs * num_steps)
        optimizer.zero_grad(set_to_none=True)
        objective = method(model, batch, progress)
        means.watch(step, objective.loss)
        if (step + 1) % check_every == 0:
            means.check(epoch)
        objective.loss.backward()
        optimizer.step()
        right = (predict(objective.logits) == batch.labels).double().mean()
        terms = {f"loss_terms.{name}": value for name, value in objective.terms.items()}
        metrics = {LOSS: objective.loss, "train_accuracy": right, **terms, **objective.metrics}
        means.add(metrics, weight=len(batch))
        means.num_skipped += objective.num_skipped
        yield step + 1
    means.check(epoch)


@torch.no_grad()
def evaluate(model: SpikingNetwork, batches: Iterable[Batch], loss: LossTable) -> Evaluation:
    """Classify the events of every batch with the event head; the image stream does not run.

    Args:
        model: Network; put into evaluation mode.
        batches: Batches of the split.
        loss: Says which classification loss.

    Raises:
        RunError: There is no batch.
    """
    model.eval()
    predictions: list[Tensor] = []
    labels: list[Tensor] = []
    among_top: list[Tensor] = []
    losses: list[Tensor] = []
    sizes: list[int] = []
    for batch in batches:
        logits = model(batch.events, head="event").logits
        losses.append(classification_losses(logits, batch.labels, loss).mean().double())
        sizes.append(len(batch))
        predictions.append(predict(logits))
        labels.append(batch.labels)
        best = logits.mean(dim=0).topk(min(TOP, logits.shape[-1]), dim=1).indices
        among_top.append((best == batch.labels[:, None]).any(dim=1))
    if not sizes:
        raise RunError("evaluation: found no samples, expected one or more; choose another split or cache")
    total = sum(value * size for value, size in zip(torch.stack(losses).tolist(), sizes, strict=True))
    count = sum(sizes)
    predicted = torch.cat(predictions).cpu().numpy()
    true = torch.cat(labels).cpu().numpy()
    top5 = torch.cat(among_top).double().mean().item()
    return Evaluation(float(np.mean(predicted == true)), total / count, predicted, true, top5)


def predict(logits: Tensor) -> Tensor:
    """Return the class of the largest mean logit over the steps: (T, B, K) to (B,), int64."""
    return logits.detach().mean(dim=0).argmax(dim=1)
