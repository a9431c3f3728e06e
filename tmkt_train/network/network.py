"""A spiking classifier: a body from the frames to the feature, and one or two heads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tmkt_data.errors import SpecError
from tmkt_train.choices import Head, Stream
from tmkt_train.network.batch_norm import set_streams
from tmkt_train.network.execution import run_stage
from tmkt_train.network.neurons import keep_membrane, membrane, reset, spiking_layers
from tmkt_train.network.stages import RunStage, Signal


@dataclass(frozen=True, slots=True)
class FrameShape:
    """The frames that a network takes: number of time steps T and of channels C, and size (H, W) in pixels."""

    num_time_steps: int
    num_channels: int
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Heads:
    """The linear classifiers of a network, of K classes each.

    With `separate`, image and event stream have a head each. The references have two (for time-step mixup (inferred)),
    and one in scnn.
    """

    num_classes: int
    separate: bool


@dataclass(frozen=True, slots=True)
class NetworkOutput:
    """What one pass through the network gives.

    Attributes:
        logits: Raw outputs of the head at each time step, shape (T, B, K).
        features: Input of the head at each time step, shape (T, B, D_f).
        alignment: What the streams are aligned by, shape (T, B, D): the membrane potential after reset of the last
            spiking layer, or the feature where no neurons follow it; None unless tapped.
    """

    logits: Tensor
    features: Tensor
    alignment: Tensor | None


class Body(nn.Module):
    """The layers of a network from the frames to the feature.

    Attributes:
        minimum_size: Smallest height and width of the frames in pixels.
        feature_size: Width D_f of the feature.
        alignment_size: Width D of what the streams are aligned by.
    """

    minimum_size: int
    feature_size: int
    alignment_size: int

    @property
    def tapped(self) -> nn.Module | None:
        """The layer of neurons whose membrane potential aligns the streams; None: the feature aligns them."""
        return None

    def forward(self, frames: Signal, run: RunStage) -> Tensor:
        """Run the neurons on from the state that they are in.

        Args:
            frames: Shape (T, B, C, H, W).
            run: Computes a stage, see `execution.run_stage`.

        Returns:
            The feature, shape (T, B, D_f).
        """
        raise NotImplementedError

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Draw the initial weights of one module of a network with this body; by default those of PyTorch stay."""


class Network(nn.Module):
    """What methods, training and evaluation know of a network that classifies sequences of frames.

    Attributes:
        body: Its layers.
        event_head: Classifier of the event stream; None if that is not known apart from the body.
        image_head: Classifier of the image stream; None if both streams share one.
        feature_size: Width D_f of the feature before the head.
        alignment_size: Width D of what the streams are aligned by.
        spiking_layer_names: Names of the layers of neurons in the body, from input to output.
        frame_shape: Frames that the network takes.
        compute_dtype: Dtype of what passes between the layers, such as bfloat16 on a GPU; None for that of the frames.
            Parameters, statistics and heads stay in theirs.
    """

    body: nn.Module
    event_head: nn.Linear | None
    image_head: nn.Linear | None
    feature_size: int
    alignment_size: int
    spiking_layer_names: list[str]
    frame_shape: FrameShape
    compute_dtype: torch.dtype | None

    def forward_pair(
        self,
        mixed: Tensor,
        events: Tensor,
        *,
        tap: bool = False,
        merged: bool | None = None,  # noqa: ARG002 - here in two passes
    ) -> tuple[NetworkOutput, NetworkOutput]:
        """Run the mixed stream, then the event stream; see `SpikingNetwork.forward_pair`."""
        return self(mixed, head="image", tap=tap), self(events, head="event", tap=tap)


class SpikingNetwork(Network):
    """A spiking network with one or two heads on a body; it resets its neurons itself."""

    body: Body
    event_head: nn.Linear

    def __init__(self, body: Body, frame_shape: FrameShape, heads: Heads) -> None:
        """Put the heads on a body, and draw the initial weights."""
        super().__init__()
        self.body = body
        self.event_head = nn.Linear(body.feature_size, heads.num_classes)
        self.image_head = nn.Linear(body.feature_size, heads.num_classes) if heads.separate else None
        self.frame_shape = frame_shape
        self.compute_dtype: torch.dtype | None = None
        self.feature_size = body.feature_size
        self.alignment_size = body.alignment_size
        self.spiking_layer_names = list(spiking_layers(body))
        self.apply(body.initialize)

    def forward(self, frames: Tensor, head: Head = "event", tap: bool = False, plain: bool = False) -> NetworkOutput:
        """Run one stream from rest.

        Kernels compute several layers in one go where they can, and do not call the layers themselves. You can still
        observe a layer: stages with hooks on their layers run the plain layers, so hooks are always called. Ask for
        plain layers throughout with `plain` where you need double backward, or want to observe a pass by other means
        than hooks. Plain layers run anyway under autocast, and where there are no kernels for a device or dtype.

        Args:
            frames: Shape (T, B, C, H, W), float32.
            head: Which head classifies; ignored when both streams share one.
            tap: Whether to return what the streams are aligned by; a membrane potential costs one tensor (T, B, D).
            plain: Whether to call the layers one by one; the results are the same up to rounding.

        Returns:
            Logits, features and what the streams are aligned by. Gradients flow through all three.

        Raises:
            SpecError: The frames do not have the shape that the network was built for.
        """
        self._check(frames)
        features, alignment = self._run(frames, (head,), tap=tap, plain=plain)
        return self._classify(features, alignment, head)

    def forward_pair(
        self, mixed: Tensor, events: Tensor, *, tap: bool = False, merged: bool | None = None
    ) -> tuple[NetworkOutput, NetworkOutput]:
        """Run the mixed stream with the image head, and the event stream with the event head.

        Args:
            mixed: Shape (T, B, C, H, W), float32.
            events: Same shape.
            tap: See `forward`.
            merged: Whether both streams run in one pass. Results are those of two passes, up to rounding; running
                statistics are updated by the mixed stream first. None: on every device but a CPU.

        Returns:
            The outputs of both streams, see `forward`, which also says what it raises.
        """
        if merged is None:
            merged = events.device.type != "cpu"
        if not merged:
            return self(mixed, head="image", tap=tap), self(events, head="event", tap=tap)
        self._check(mixed)
        self._check(events)
        # Channels last before both are put together, as torch.cat keeps the order in memory of four dimensions only.
        frames = torch.cat([mixed.permute(0, 1, 3, 4, 2), events.permute(0, 1, 3, 4, 2)], dim=1)
        features, alignment = self._run(frames.permute(0, 1, 4, 2, 3), ("image", "event"), tap=tap)
        taps = (None, None) if alignment is None else alignment.chunk(2, dim=1)
        image, event = features.chunk(2, dim=1)
        return self._classify(image, taps[0], "image"), self._classify(event, taps[1], "event")

    def _run(
        self, frames: Tensor, streams: tuple[Stream, ...], *, tap: bool, plain: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return the features of some streams, one behind the other in dimension 1, and their tap."""
        reset(self)
        set_streams(self, streams)
        neurons = self.body.tapped
        if neurons is not None:
            keep_membrane(neurons, tap)
        frames = frames.to(self.compute_dtype or frames.dtype)
        # Channels last in memory: kernels need it, and oneDNN's first convolution is seven times faster with it.
        frames = frames.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        features: Tensor = self.body(Signal(frames), partial(run_stage, plain=plain))
        features = features.to(self.event_head.weight.dtype)
        alignment = None
        if tap:
            alignment = features if neurons is None else membrane(neurons).flatten(2)
        # State kept by the neurons would hold the graph of this pass until the next one.
        reset(self)
        return features, alignment

    def _classify(self, features: Tensor, alignment: Tensor | None, head: Head) -> NetworkOutput:
        chosen = self.image_head if head == "image" and self.image_head is not None else self.event_head
        return NetworkOutput(chosen(features), features, alignment)

    def _check(self, frames: Tensor) -> None:
        shape = self.frame_shape
        expected = (shape.num_channels, *shape.size)
        if frames.ndim != 5 or frames.shape[0] != shape.num_time_steps or tuple(frames.shape[2:]) != expected:
            message = (
                f"network: frames {tuple(frames.shape)}, expected [T={shape.num_time_steps}, B, C={expected[0]}, "
                f"H={expected[1]}, W={expected[2]}]; build the model for this cache, and put time before the batch"
            )
            raise SpecError(message)
