"""Methods that run one stream at a time: events alone, and images first with events after."""

from __future__ import annotations

from torch import nn

from tmkt_train.data.batches import Batch
from tmkt_train.errors import RunError
from tmkt_train.method.objective import LossWeights, Objective
from tmkt_train.network.network import SpikingNetwork


class EventOnly(nn.Module):
    """The event stream and its classification, nothing else."""

    def __init__(self, weights: LossWeights) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, model: SpikingNetwork, batch: Batch, progress: float) -> Objective:  # noqa: ARG002
        """Run the event stream of one batch."""
        output = model(batch.events, head="event")
        loss = self.weights.classify(output.logits, batch.labels).mean()
        return Objective(loss, {"event_classification": loss}, {}, output.logits)


class FineTune(nn.Module):
    """Some epochs on images alone, then events alone, through one network with one head.

    The run starts the second stage with a fresh optimizer and learning rate.
    """

    def __init__(self, weights: LossWeights, image_epochs: int) -> None:
        super().__init__()
        self.weights = weights
        self.image_epochs = image_epochs

    def forward(self, model: SpikingNetwork, batch: Batch, progress: float) -> Objective:  # noqa: ARG002
        """Run the stream of the stage that the epoch of the batch belongs to.

        Raises:
            RunError: The batch has no images.
        """
        if batch.image is None:
            raise RunError("batch: found no images, expected pairs; read it with a pairing other than 'none'")
        on_images = batch.epoch < self.image_epochs
        output = model(batch.image if on_images else batch.events, head="event")
        loss = self.weights.classify(output.logits, batch.labels).mean()
        name = "image_classification" if on_images else "event_classification"
        return Objective(loss, {name: loss}, {}, output.logits)
