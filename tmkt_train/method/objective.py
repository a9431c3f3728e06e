"""What a method computes from one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from tmkt_train.method.losses import mean_logits_loss, tet_loss

if TYPE_CHECKING:
    from tmkt_train.recipe.schema import LossTable


class Objective(NamedTuple):
    """The loss of one batch, its terms, and metrics.

    Attributes:
        loss: What is minimized, a scalar.
        terms: The terms of the loss before their weights, scalars.
        metrics: Further metrics, scalars; means over the batch.
        logits: Outputs that the training accuracy is computed from, shape (T, B, K): those of the event stream, or of
            the image stream while a method trains on images alone.
        num_skipped: Terms that were skipped because the batch was too small.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    metrics: dict[str, Tensor | float]
    logits: Tensor
    num_skipped: int = 0


def classification_losses(logits: Tensor, labels: Tensor, loss: LossTable) -> Tensor:
    """Return the classification loss of a recipe at each step.

    Args:
        logits: Shape (T, B, K).
        labels: Classes, shape (B,).
        loss: The table that names the loss and its margin.

    Returns:
        One loss per step, shape (T,), for `tet`; shape (1,) for `mean-logits`.
    """
    match loss.classification:
        case "tet":
            return tet_loss(logits, labels, margin_weight=loss.margin_weight, margin=loss.margin)
        case "mean-logits":
            return mean_logits_loss(logits, labels).unsqueeze(0)
