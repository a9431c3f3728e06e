"""What a method makes of one batch, and the weights it goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from tmkt_train.choices import CkaEstimator, Classification, CoefficientMode, ModalityStreams
from tmkt_train.method.losses import mean_logits_loss, tet_loss


class Objective(NamedTuple):
    """What one batch is worth.

    Attributes:
        loss: What is minimized, a scalar.
        terms: The unweighted terms that are in the loss, scalars.
        gauges: Further figures, scalars; means over the batch.
        logits: Outputs that the training accuracy is read from, shape (T, B, K): the event stream's, or the image
            stream's while a method trains on images alone.
        num_skipped: Terms that this batch was too small for.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    gauges: dict[str, Tensor | float]
    logits: Tensor
    num_skipped: int = 0


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The objectives and their weights; a term of weight 0 is not computed. Meanings as in a recipe's `[loss]`."""

    classification: Classification = "tet"
    margin_weight: float = 1e-3
    margin: float = 0.5
    alignment: float = 0.5
    cka: CkaEstimator = "biased"
    modality: float = 0.1
    modality_streams: ModalityStreams = "mixed"
    ratio: float = 0.1
    coefficients: CoefficientMode = "learned"
    coefficient: float = 0.5

    def classify(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the classification losses: one per step, shape (T,), or shape (1,) for `mean-logits`.

        Args:
            logits: Shape (T, B, K).
            labels: Classes, shape (B,).
        """
        match self.classification:
            case "tet":
                return tet_loss(logits, labels, margin_weight=self.margin_weight, margin=self.margin)
            case "mean-logits":
                return mean_logits_loss(logits, labels).unsqueeze(0)
