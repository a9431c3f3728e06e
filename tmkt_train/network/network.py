"""A spiking classifier: a stack of layers, a tap on its last neurons, a feature, and one or two heads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from tmkt_data.errors import SpecError
from tmkt_train.choices import Head
from tmkt_train.network.neurons import keep_membrane, linear, membrane, reset, set_stream, spiking_layers
from tmkt_train.network.stages import run_layers


@dataclass(frozen=True, slots=True)
class NetworkOutput:
    """What one pass through the network gives.

    Attributes:
        logits: Raw outputs of the head at each step, shape (T, B, K).
        features: Input of the head at each step, shape (T, B, D_f).
        alignment: What the streams are aligned by, shape (T, B, D): the membrane potential after reset of the last
            spiking layer, or the feature where nothing spikes behind it; None unless tapped.
    """

    logits: Tensor
    features: Tensor
    alignment: Tensor | None


@dataclass(frozen=True, slots=True)
class FrameShape:
    """The frames that a network takes: number of steps T, channels C and size (H, W)."""

    num_steps: int
    num_channels: int
    size: tuple[int, int]


class SpikingNetwork(nn.Module):
    """A spiking network that classifies sequences of frames; it resets its neurons itself.

    Attributes:
        feature_size: Width D_f of the feature before the head.
        alignment_size: Width D of what the streams are aligned by.
        spiking_layer_names: Names of the layers of neurons, from input to output.
        frame_shape: Frames that the network takes.
    """

    def __init__(
        self,
        body: nn.Sequential,
        readout: nn.Sequential,
        *,
        frame_shape: FrameShape,
        tapped: str | None,
        alignment_size: int,
        feature_size: int,
        num_classes: int,
        separate_heads: bool,
    ) -> None:
        """Put the parts together.

        Args:
            body: Layers from the frames up to the last neurons, or to the real values of the last block.
            readout: Layers from there to the feature, (T, B, D_f); may be empty.
            frame_shape: Frames that the network takes.
            tapped: Name of the layer of neurons in the body whose membrane potential aligns the streams; None: they
                are aligned by the feature.
            alignment_size: Neurons of that layer, or width of the feature, D.
            feature_size: Width of the feature, D_f.
            num_classes: Number of classes, K.
            separate_heads: Whether image and event stream have a head each; else both share one.
        """
        super().__init__()
        self.body = body
        self.readout = readout
        self.event_head = linear(feature_size, num_classes)
        self.image_head = linear(feature_size, num_classes) if separate_heads else None
        self.frame_shape = frame_shape
        self.alignment_size = alignment_size
        self.tapped = tapped
        self.feature_size = feature_size
        self.spiking_layer_names = list(spiking_layers(body))

    def forward(self, frames: Tensor, head: Head = "event", tap: bool = False) -> NetworkOutput:
        """Run one stream from rest.

        Args:
            frames: Shape (T, B, C, H, W), float32.
            head: Which head classifies; of no effect when both streams share one.
            tap: Whether to return what the streams are aligned by; a membrane potential costs one tensor (T, B, D).

        Returns:
            Logits, features and what the streams are aligned by. Gradients flow through all three.

        Raises:
            SpecError: The frames are not of the shape that the network was built for.
        """
        self._check(frames)
        reset(self)
        set_stream(self, head)
        neurons = None if self.tapped is None else spiking_layers(self.body)[self.tapped]
        if neurons is not None:
            keep_membrane(neurons, tap)
        features: Tensor = self.readout(run_layers(self.body, frames))
        alignment = None
        if tap:
            alignment = features if neurons is None else membrane(neurons).flatten(2)
        # Neurons that kept their state would hold the graph of this pass until the next one.
        reset(self)
        chosen = self.image_head if head == "image" and self.image_head is not None else self.event_head
        return NetworkOutput(logits=chosen(features), features=features, alignment=alignment)

    def _check(self, frames: Tensor) -> None:
        shape = self.frame_shape
        expected = (shape.num_channels, *shape.size)
        if frames.ndim != 5 or frames.shape[0] != shape.num_steps or tuple(frames.shape[2:]) != expected:
            message = (
                f"network: frames {tuple(frames.shape)}, expected [T={shape.num_steps}, B, C={expected[0]}, "
                f"H={expected[1]}, W={expected[2]}]; build the model for this cache, steps before the batch"
            )
            raise SpecError(message)


def check_least_size(place: str, size: tuple[int, int], least: int) -> None:
    """Refuse an input that the poolings of a network would shrink to nothing.

    Raises:
        SpecError: The height or the width is below `least`.
    """
    if min(size) < least:
        message = (
            f"{place}: input {size[0]} x {size[1]}, expected at least {least} x {least}; "
            "prepare the cache with a larger size"
        )
        raise SpecError(message)
