"""The loop: one epoch of training, one pass of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_train.data.batches import Batch
from tmkt_train.errors import RunError
from tmkt_train.method.objective import classification_losses
from tmkt_train.network.network import Network
from tmkt_train.recipe.schema import LossTable
from tmkt_train.training.iteration import Iteration, predict
from tmkt_train.training.metrics import LOSS
from tmkt_train.training.optimizer import require_loss_scale
from tmkt_train.training.ranks import in_turn
from tmkt_train.training.state import TrainingState

TOP = 5
CHECK_EVERY_ON_GPU = 20
"""Batches between two checks of the loss on a GPU, which wait for it."""


class Evaluation(NamedTuple):
    """How a network does on a split.

    Attributes:
        accuracy: Share of correct predictions, in [0, 1].
        loss: Mean classification loss.
        predictions: Predicted classes, shape (N,), int64.
        labels: True classes, shape (N,), int64.
        top5: Share of samples whose class is among the five most likely, in [0, 1]; 1 with five classes or fewer.
    """

    accuracy: float
    loss: float
    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]
    top5: float


class BatchResult(NamedTuple):
    """How a network does on a batch.

    Attributes:
        predictions: Predicted classes, shape (B,), int64.
        labels: True classes, shape (B,), int64.
        is_among_top: Whether the class is among the five most likely, shape (B,), bool.
        loss: Mean classification loss, float64 scalar.
    """

    predictions: Tensor
    labels: Tensor
    is_among_top: Tensor
    loss: Tensor


def train_one_epoch(
    iteration: Iteration,
    state: TrainingState,
    batches: Iterable[Batch],
    *,
    num_epochs: int,
    first_epoch: int = 0,
    check_every: int = 1,
) -> Generator[int, None, None]:
    """Train on the batches of one epoch; stop between any two batches by closing the generator.

    Args:
        iteration: Trains on a batch; the optimizer of its setup has the learning rate of this epoch.
        state: Training state at the first batch; updated after each batch.
        batches: Batches of the epoch, from number `state.batch` on.
        num_epochs: Epochs over which the mixing progresses.
        first_epoch: The first of them; the progress is 0 before.
        check_every: Batches between two checks of the loss; a check waits for the GPU.

    Yields:
        The number of batches done in this epoch.

    Raises:
        NonFiniteError: A loss is NaN or infinite, or every gradient overflows float16.
    """
    setup, means = iteration.setup, state.means
    num_batches = setup.batches_per_epoch
    setup.model.train()
    setup.method.train()
    for number, batch in enumerate(batches, start=state.batch):
        done = (state.epoch - first_epoch) * num_batches + number
        progress = max(done, 0) / (num_epochs * num_batches)

        def check(loss: Tensor, number: int = number) -> None:
            means.watch(number, loss)
            if (number + 1) % check_every == 0:
                means.check(state.epoch)

        step = iteration(batch, progress, check)
        means.add({LOSS: step.loss, **step.metrics}, weight=batch.global_size)
        means.num_skipped += step.num_skipped
        state.batch = number + 1
        if state.batch % check_every == 0:
            require_loss_scale(setup.scaler, f"epoch {state.epoch + 1}, step {state.batch}")
        yield state.batch
    means.check(state.epoch)


@torch.no_grad()
def evaluate(
    model: Network,
    batches: Iterable[Batch],
    loss: LossTable,
    done: list[BatchResult] | None = None,
    after_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Classify the events of every batch with the event head; the image stream does not run.

    Args:
        model: Network; it is put into evaluation mode.
        batches: Batches of the split, or those of this rank, see `ranks.in_turn`.
        loss: Names the classification loss.
        done: Results of the batches before these, which are evaluated already; the new ones are appended.
        after_batch: Called after each batch; may raise to stop.

    Raises:
        RunError: There is no batch.
    """
    model.eval()
    done = [] if done is None else done
    for result in in_turn(_classify(model, batch, loss) for batch in batches):
        done.append(result)
        after_batch()
    if not done:
        raise RunError("evaluation: found no samples, expected one or more; choose another split or cache")
    predictions, labels, among_top, losses = zip(*done, strict=True)
    sizes = [len(part) for part in labels]
    total = sum(value * size for value, size in zip(torch.stack(losses).tolist(), sizes, strict=True))
    predicted = torch.cat(predictions).cpu().numpy()
    true = torch.cat(labels).cpu().numpy()
    top5 = torch.cat(among_top).double().mean().item()
    return Evaluation(float(np.mean(predicted == true)), total / sum(sizes), predicted, true, top5)


def _classify(model: Network, batch: Batch, loss: LossTable) -> BatchResult:
    logits = model(batch.events, head="event").logits
    mean = classification_losses(logits, batch.labels, loss).mean().double()
    best = logits.mean(dim=0).topk(min(TOP, logits.shape[-1]), dim=1).indices
    return BatchResult(predict(logits), batch.labels, (best == batch.labels[:, None]).any(dim=1), mean)
