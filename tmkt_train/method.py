"""A method: how a batch becomes a loss. Streams and their mixing, the objectives and their weights.

To add a method: a class with `needs_images` and `forward(model, batch, progress)`, and its line in
`build_method`. A method that differs only in which steps are replaced (whole-sample sliding, or both) is a
branch of `Mixer.points`; one that leaves out objectives is `TwoStreams` with their weights at 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tmkt_train.batches import Batch
from tmkt_train.errors import RunError
from tmkt_train.losses import (
    alignment_loss,
    cka,
    modality_guidance_loss,
    ratio_perception_loss,
    shuffled_cka,
    tet_loss,
    weighted_event_loss,
)
from tmkt_train.mixing import Mixed, MixLaw, mix, replacement_points, replacement_probability
from tmkt_train.models import (
    AuxiliaryHeads,
    CoefficientMode,
    NetworkOutput,
    RegularizationCoefficients,
    SpikingNetwork,
)
from tmkt_train.recipe import MethodName
from tmkt_train.schedule import MixSchedule, mix_ratio_at


class Objective(NamedTuple):
    """What one batch is worth.

    Attributes:
        loss: What is minimized, a scalar.
        terms: The unweighted terms that are in the loss, scalars.
        gauges: Further figures, scalars; means over the batch.
        logits: Outputs of the event stream, shape (T, B, K).
        num_skipped: Terms that this batch was too small for.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    gauges: dict[str, Tensor | float]
    logits: Tensor
    num_skipped: int = 0


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the terms; a term of weight 0 is not computed."""

    margin_weight: float = 1e-3
    margin: float = 0.5
    alignment: float = 0.5
    modality: float = 0.1
    ratio: float = 0.1
    coefficients: CoefficientMode = "learned"
    coefficient: float = 0.5


@dataclass(frozen=True, slots=True)
class Mixer:
    """The draw of replacement points: a pure function of seed, epoch, sample, occurrence and progress."""

    seed: int
    num_steps: int
    start: float = 0.5
    end: float = 1.0
    schedule: MixSchedule = "constant"
    law: MixLaw = "sequential"

    def ratio(self, progress: float) -> float:
        """Return the expected share of event steps at a point of the training in [0, 1]."""
        return mix_ratio_at(progress, self.schedule, self.start, self.end)

    def points(
        self, uids: NDArray[np.uint64], occurrences: NDArray[np.int64], epoch: int, progress: float
    ) -> NDArray[np.int64]:
        """Draw the first event step of each sample, shape (B,), int64 in 1 to T + 1."""
        probability = _probability(self.ratio(progress), self.num_steps, self.law)
        return replacement_points(self.seed, epoch, uids, occurrences, probability, self.num_steps, self.law)


@functools.lru_cache(maxsize=64)
def _probability(ratio: float, num_steps: int, law: MixLaw) -> float:
    return replacement_probability(ratio, num_steps, law)


class EventOnly(nn.Module):
    """The event stream and its classification, nothing else."""

    needs_images = False

    def __init__(self, weights: LossWeights) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, model: SpikingNetwork, batch: Batch, progress: float) -> Objective:  # noqa: ARG002
        """Run the event stream of one batch."""
        output = model(batch.events, head="event")
        loss = tet_loss(
            output.logits, batch.labels, margin_weight=self.weights.margin_weight, margin=self.weights.margin
        ).mean()
        return Objective(loss, {"event_classification": loss}, {}, output.logits)


class TwoStreams(nn.Module):
    """A mixed stream with the image head beside an event stream with the event head.

    Owns what exists only in training: the auxiliary heads and the coefficients of alignment and event loss.
    """

    needs_images = True

    def __init__(self, weights: LossWeights, mixer: Mixer, *, num_steps: int, feature_size: int) -> None:
        super().__init__()
        self.weights = weights
        self.mixer = mixer
        self.heads = AuxiliaryHeads(feature_size) if weights.modality or weights.ratio else None
        self.coefficients = RegularizationCoefficients(num_steps, weights.coefficients, weights.coefficient)

    def forward(self, model: SpikingNetwork, batch: Batch, progress: float) -> Objective:
        """Mix, run both streams, and weigh the terms.

        Raises:
            RunError: The batch has no images.
        """
        if batch.image is None:
            raise RunError("batch: found no images, expected pairs; read it with a pairing other than 'none'")
        points = self.mixer.points(batch.uids, batch.occurrences, batch.epoch, progress)
        mixed = mix(batch.image, batch.events, torch.from_numpy(points))
        tap = self.weights.alignment > 0 and len(batch) > 1
        # Order matters: batch norm takes in the mixed stream before the event stream.
        image = model(mixed.frames, head="image", tap=tap)
        event = model(batch.events, head="event", tap=tap)
        sigma = self.coefficients()
        loss, terms = self._classify(image, event, batch.labels, sigma)
        gauges = _ratio_gauges(mixed, self.mixer.ratio(progress))
        if tap:
            loss = loss + self._align(image, event, sigma, terms, gauges)
        if self.heads is not None:
            loss = loss + self._perceive(self.heads, image.features, mixed, terms, gauges)
        skipped = int(self.weights.alignment > 0 and not tap)
        return Objective(loss, terms, gauges, event.logits, skipped)

    def figures(self) -> dict[str, list[float]]:
        """Return what is learned beside the weights: the coefficient of each step, if any."""
        sigma = self.coefficients()
        return {} if sigma is None or not sigma.requires_grad else {"coefficients": sigma.tolist()}

    def _classify(
        self, image: NetworkOutput, event: NetworkOutput, labels: Tensor, sigma: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        margins = {"margin_weight": self.weights.margin_weight, "margin": self.weights.margin}
        image_loss = tet_loss(image.logits, labels, **margins).mean()
        step_losses = tet_loss(event.logits, labels, **margins)
        terms = {"image_classification": image_loss, "event_classification": step_losses.mean()}
        return image_loss + weighted_event_loss(step_losses, sigma), terms

    def _align(
        self,
        image: NetworkOutput,
        event: NetworkOutput,
        sigma: Tensor | None,
        terms: dict[str, Tensor],
        gauges: dict[str, Tensor | float],
    ) -> Tensor:
        if image.membrane is None or event.membrane is None:
            raise RunError("alignment: found no membrane potentials, expected those of both streams; tap them")
        alignment = cka(image.membrane, event.membrane)
        terms["alignment"] = alignment_loss(alignment)
        gauges["cka"] = alignment.detach().abs().mean()
        gauges["cka_shuffled"] = shuffled_cka(image.membrane, event.membrane).abs().mean()
        return self.weights.alignment * alignment_loss(alignment, sigma)

    def _perceive(
        self,
        heads: AuxiliaryHeads,
        features: Tensor,
        mixed: Mixed,
        terms: dict[str, Tensor],
        gauges: dict[str, Tensor | float],
    ) -> Tensor:
        loss = features.new_zeros(())
        if self.weights.modality:
            logits = heads.modality(features)
            terms["modality"] = modality_guidance_loss(logits, mixed.mask)
            gauges["modality_accuracy"] = ((logits.detach() > 0) == mixed.mask).float().mean()
            loss = loss + self.weights.modality * terms["modality"]
        if self.weights.ratio:
            guessed = heads.ratio(features)
            terms["ratio"] = ratio_perception_loss(guessed, mixed.ratio)
            gauges["ratio_error"] = (guessed.detach() - mixed.ratio).abs().mean()
            loss = loss + self.weights.ratio * terms["ratio"]
        return loss


def _ratio_gauges(mixed: Mixed, expected: float) -> dict[str, Tensor | float]:
    return {
        "mix_ratio": expected,
        "realised_ratio": mixed.ratio.mean(),
        "realised_ratio_squared": mixed.ratio.square().mean(),
    }


def build_method(
    name: MethodName, *, weights: LossWeights, mixer: Mixer, num_steps: int, feature_size: int
) -> EventOnly | TwoStreams:
    """Build a method with fresh parameters from torch's global generator.

    Args:
        name: Name in the recipe.
        weights: Weights of the terms.
        mixer: Draw of the replacement points.
        num_steps: Steps of the network, T.
        feature_size: Width of the feature before the class head.
    """
    match name:
        case "event-only":
            return EventOnly(weights)
        case "tmkt":
            return TwoStreams(weights, mixer, num_steps=num_steps, feature_size=feature_size)
