"""The methods with two streams: a mixed stream beside an event stream, in one network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmkt_train.data.batches import Batch
from tmkt_train.errors import RunError
from tmkt_train.method.auxiliary import AuxiliaryHeads, RegularizationCoefficients
from tmkt_train.method.losses import (
    MIN_ALIGNMENT_ROWS,
    alignment_loss,
    cka,
    modality_guidance_loss,
    ratio_perception_loss,
    shuffled_cka,
    weighted_event_loss,
)
from tmkt_train.method.mixer import Mixer
from tmkt_train.method.mixing import Mixed, mix
from tmkt_train.method.objective import LossWeights, Objective
from tmkt_train.network.network import NetworkOutput, SpikingNetwork


class TwoStreams(nn.Module):
    """A mixed stream with the image head beside an event stream with the event head.

    Owns what exists only in training: the auxiliary heads and the coefficients of alignment and event loss.
    """

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
        tap = self.weights.alignment > 0 and len(batch) >= MIN_ALIGNMENT_ROWS[self.weights.cka]
        # Order matters: batch norm takes in the mixed stream before the event stream.
        image = model(mixed.frames, head="image", tap=tap)
        event = model(batch.events, head="event", tap=tap)
        sigma = self.coefficients()
        loss, terms = self._classify(image, event, batch.labels, sigma)
        gauges = _ratio_gauges(mixed, self.mixer.ratio(progress))
        if tap:
            loss = loss + self._align(image, event, sigma, terms, gauges)
        if self.heads is not None:
            loss = loss + self._perceive(self.heads, image.features, event.features, mixed, terms, gauges)
        skipped = int(self.weights.alignment > 0 and not tap)
        return Objective(loss, terms, gauges, event.logits, skipped)

    def figures(self) -> dict[str, list[float]]:
        """Return what is learned beside the weights: the coefficient of each step, if any."""
        sigma = self.coefficients()
        return {} if sigma is None or not sigma.requires_grad else {"coefficients": sigma.tolist()}

    def _classify(
        self, image: NetworkOutput, event: NetworkOutput, labels: Tensor, sigma: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        image_loss = self.weights.classify(image.logits, labels).mean()
        step_losses = self.weights.classify(event.logits, labels)
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
        if image.alignment is None or event.alignment is None:
            raise RunError("alignment: found no tap, expected one on each stream; run them with tap=True")
        estimator = self.weights.cka
        alignment = cka(image.alignment, event.alignment, estimator)
        terms["alignment"] = alignment_loss(alignment, estimator=estimator)
        gauges["cka"] = alignment.detach().abs().mean()
        gauges["cka_shuffled"] = shuffled_cka(image.alignment, event.alignment, estimator).abs().mean()
        return self.weights.alignment * alignment_loss(alignment, sigma, estimator)

    def _perceive(
        self,
        heads: AuxiliaryHeads,
        features: Tensor,
        event_features: Tensor,
        mixed: Mixed,
        terms: dict[str, Tensor],
        gauges: dict[str, Tensor | float],
    ) -> Tensor:
        loss = features.new_zeros(())
        if self.weights.modality:
            logits, mask = heads.modality(features), mixed.mask
            gauges["modality_accuracy"] = ((logits.detach() > 0) == mask).float().mean()
            if self.weights.modality_streams == "both":
                logits = torch.cat([logits, heads.modality(event_features)], dim=1)
                mask = torch.cat([mask, torch.ones_like(mask)], dim=1)
            terms["modality"] = modality_guidance_loss(logits, mask)
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
