"""The training methods: how a batch becomes a loss.

To add a method: a `Method`, its name in `choices.MethodName`, the recipe keys that it does not use in `recipe`, and
its line in `build_method`. A method that differs only in which steps are replaced is a field of `Mixer`; one that
leaves out objectives is `TwoStreams` with their weights at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from tmkt_train.choices import MethodName, Stream
from tmkt_train.data.batches import Batch
from tmkt_train.data.sampling import DrawKeys, rank_sizes
from tmkt_train.errors import RunError
from tmkt_train.method.auxiliary import AuxiliaryHeads, RegularizationCoefficients
from tmkt_train.method.losses import (
    MIN_ALIGNMENT_ROWS,
    alignment_loss,
    cka_and_floor,
    distillation_loss,
    modality_guidance_loss,
    ratio_perception_loss,
    weighted_event_loss,
)
from tmkt_train.method.mixer import Mixer
from tmkt_train.method.mixing import Mixed, mix
from tmkt_train.method.objective import Objective, classification_losses
from tmkt_train.network.collectives import gather_rows, num_ranks
from tmkt_train.network.network import Network, NetworkOutput

if TYPE_CHECKING:
    from tmkt_train.recipe.schema import LossTable

Metrics = dict[str, Tensor | float]


class BatchDraws(NamedTuple):
    """What a method draws for a batch on the CPU, before anything is computed.

    Attributes:
        phase: What the computation depends on beside its tensors; the same calls are made for the same phase.
        points: Replacement points t*, shape (B,), int64; None for a method without.
        metrics: Metrics that are known beforehand.
    """

    phase: str
    points: Tensor | None = None
    metrics: Mapping[str, float] = MappingProxyType({})


class Method(nn.Module):
    """Turns a batch into a loss, in two parts: what depends on keys and progress, and what runs on the device.

    A subclass has `draw` and `compute`. Nothing in `compute` may depend on values of tensors or wait for the device, so
    that a GPU can replay it.
    """

    def draw(self, keys: DrawKeys, progress: float) -> BatchDraws:
        """Draw on the CPU what a batch with some keys needs, at a training progress in [0, 1]."""
        raise NotImplementedError

    def compute(self, model: Network, batch: Batch, draws: BatchDraws) -> Objective:
        """Compute the loss of a batch."""
        raise NotImplementedError

    def forward(self, model: Network, batch: Batch, progress: float) -> Objective:
        """Draw and compute.

        Raises:
            RunError: The method needs images, and the batch has none.
        """
        draws = self.draw(batch.keys, progress)
        objective = self.compute(model, batch, draws)
        return objective._replace(metrics={**objective.metrics, **draws.metrics})

    def learned_metrics(self) -> dict[str, list[float]]:
        """Return what is learned apart from the weights of the network."""
        return {}

    @property
    def leaves_parameters_out(self) -> bool:
        """Whether some batches give some parameters, of the network or of the method, no gradient."""
        return False


class SingleStream(Method):
    """One stream at a time and its classification: some epochs on images, if any, then on `stream`.

    Both go through one head. The run starts the second stage with a fresh optimizer and learning rate.
    """

    def __init__(self, loss: LossTable, image_epochs: int = 0, stream: Stream = "event") -> None:
        super().__init__()
        self.loss = loss
        self.image_epochs = image_epochs
        self.stream = stream

    def draw(self, keys: DrawKeys, progress: float) -> BatchDraws:  # noqa: ARG002
        """Choose the stream that the epoch is for."""
        return BatchDraws("image" if keys.epoch < self.image_epochs else self.stream)

    def compute(self, model: Network, batch: Batch, draws: BatchDraws) -> Objective:
        """Run that stream."""
        if draws.phase == "image":
            return _learn_images(model, batch, self.loss)
        output = model(batch.events, head="event")
        loss = classification_losses(output.logits, batch.labels, self.loss).mean()
        return Objective(loss, {"event_classification": loss}, {}, output.logits)


class TwoStreams(Method):
    """A mixed stream with the image head beside an event stream with the event head.

    Owns what exists only in training: the auxiliary heads and the coefficients of alignment and event loss. Some
    epochs on images alone, if any, come first; the run starts the others with a fresh optimizer and learning rate.
    """

    def __init__(self, loss: LossTable, mixer: Mixer, feature_size: int, image_epochs: int = 0) -> None:
        super().__init__()
        self.image_epochs = image_epochs
        self.loss = loss
        self.mixer = mixer
        self.heads = AuxiliaryHeads(feature_size) if loss.modality or loss.ratio else None
        self.coefficients = RegularizationCoefficients(mixer.num_time_steps, loss.coefficients, loss.coefficient)

    def draw(self, keys: DrawKeys, progress: float) -> BatchDraws:
        """Draw the replacement points; none in the epochs on images."""
        if keys.epoch < self.image_epochs:
            return BatchDraws("image")
        points = torch.from_numpy(self.mixer.points(keys, progress))
        return BatchDraws("both", points, {"mix_ratio": self.mixer.ratio(progress)})

    def compute(self, model: Network, batch: Batch, draws: BatchDraws) -> Objective:
        """Mix, run both streams, and weigh the terms."""
        if draws.phase == "image":
            return _learn_images(model, batch, self.loss)
        if draws.points is None:
            raise RunError("batch: found no replacement points, expected those that the method draws")
        mixed = mix(_images_of(batch), batch.events, draws.points)
        sizes = rank_sizes(batch.global_size, num_ranks())
        num_rows = batch.global_size if self.loss.cka_batch == "global" else min(sizes)
        tap = self.loss.alignment > 0 and num_rows >= MIN_ALIGNMENT_ROWS[self.loss.cka]
        image, event = model.forward_pair(mixed.frames, batch.events, tap=tap)
        sigma = self.coefficients()
        loss, terms = self._classify(image, event, batch.labels, sigma)
        metrics: Metrics = {
            "realised_ratio": mixed.ratio.mean(),
            "realised_ratio_squared": mixed.ratio.square().mean(),
        }
        if tap:
            loss = loss + self._align((image, event), sizes, sigma, terms, metrics)
        if self.heads is not None:
            loss = loss + self._perceive(self.heads, (image.features, event.features), mixed, terms, metrics)
        skipped = int(self.loss.alignment > 0 and not tap)
        return Objective(loss, terms, metrics, event.logits, skipped)

    def learned_metrics(self) -> dict[str, list[float]]:
        """Return what is learned apart from the weights: the coefficient of each step, if any."""
        sigma = self.coefficients()
        return {} if sigma is None or not sigma.requires_grad else {"coefficients": sigma.tolist()}

    @property
    def leaves_parameters_out(self) -> bool:
        """Whether an auxiliary head is not used, or its own parameters not yet while it trains on images."""
        has_idle_head = self.heads is not None and not (self.loss.modality and self.loss.ratio)
        return has_idle_head or (self.image_epochs > 0 and any(True for _ in self.parameters()))

    def _classify(
        self, image: NetworkOutput, event: NetworkOutput, labels: Tensor, sigma: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        image_loss = classification_losses(image.logits, labels, self.loss).mean()
        step_losses = classification_losses(event.logits, labels, self.loss)
        terms = {"image_classification": image_loss, "event_classification": step_losses.mean()}
        loss = image_loss + weighted_event_loss(step_losses, sigma)
        if self.loss.distillation:
            terms["distillation"] = distillation_loss(event.logits, image.logits, self.loss.temperature)
            loss = loss + self.loss.distillation * terms["distillation"]
        return loss, terms

    def _align(
        self,
        outputs: tuple[NetworkOutput, NetworkOutput],
        sizes: list[int],
        sigma: Tensor | None,
        terms: dict[str, Tensor],
        metrics: Metrics,
    ) -> Tensor:
        image, event = (output.alignment for output in outputs)
        if image is None or event is None:
            raise RunError("alignment: found no tap, expected one on each stream; run them with tap=True")
        if self.loss.cka_batch == "global":
            image, event = gather_rows(image, sizes), gather_rows(event, sizes)
        estimator = self.loss.cka
        alignment, floor = cka_and_floor(image, event, estimator)
        terms["alignment"] = alignment_loss(alignment, estimator=estimator)
        metrics["cka"] = alignment.detach().abs().mean()
        metrics["cka_shuffled"] = floor.abs().mean()
        return self.loss.alignment * alignment_loss(alignment, sigma, estimator)

    def _perceive(
        self,
        heads: AuxiliaryHeads,
        features: tuple[Tensor, Tensor],
        mixed: Mixed,
        terms: dict[str, Tensor],
        metrics: Metrics,
    ) -> Tensor:
        image_features, event_features = features
        loss = image_features.new_zeros(())
        if self.loss.modality:
            logits, mask = heads.modality(image_features), mixed.mask
            metrics["modality_accuracy"] = ((logits.detach() > 0) == mask).float().mean()
            if self.loss.modality_streams == "both":
                logits = torch.cat([logits, heads.modality(event_features)], dim=1)
                mask = torch.cat([mask, torch.ones_like(mask)], dim=1)
            terms["modality"] = modality_guidance_loss(logits, mask)
            loss = loss + self.loss.modality * terms["modality"]
        if self.loss.ratio:
            predicted = heads.ratio(image_features)
            terms["ratio"] = ratio_perception_loss(predicted, mixed.ratio)
            metrics["ratio_error"] = (predicted.detach() - mixed.ratio).abs().mean()
            loss = loss + self.loss.ratio * terms["ratio"]
        return loss


def build_method(
    name: MethodName, loss: LossTable, *, mixer: Mixer, feature_size: int, image_epochs: int = 0
) -> Method:
    """Build a method with fresh parameters from torch's global generator.

    Args:
        name: Name in the recipe.
        loss: Weights of the terms; `kt` and `kt+tsm` leave modality and ratio out.
        mixer: Draw of the replacement points.
        feature_size: Width of the feature before the class head.
        image_epochs: Epochs on images alone before the others, for methods with images.
    """
    match name:
        case "event-only":
            return SingleStream(loss)
        case "images-only":
            return SingleStream(loss, stream="image")
        case "fine-tune":
            return SingleStream(loss, image_epochs)
        case "kt" | "kt+tsm":
            loss = loss.model_copy(update={"modality": 0.0, "ratio": 0.0})
        case "tmkt":
            pass
    return TwoStreams(loss, mixer, feature_size, image_epochs)


def _learn_images(model: Network, batch: Batch, loss_table: LossTable) -> Objective:
    """Classify the images with each head, so that no head is fresh in the second stage (choice)."""
    output = model(_images_of(batch), head="image")
    logits = (
        [output.logits]
        if model.image_head is None or model.event_head is None
        else [output.logits, model.event_head(output.features)]
    )
    losses = [classification_losses(each, batch.labels, loss_table).mean() for each in logits]
    loss = torch.stack(losses).mean() if len(losses) > 1 else losses[0]
    return Objective(loss, {"image_classification": loss}, {}, output.logits)


def _images_of(batch: Batch) -> Tensor:
    if batch.image is None:
        raise RunError("batch: found no images, expected pairs; read it with a pairing other than 'none'")
    return batch.image
