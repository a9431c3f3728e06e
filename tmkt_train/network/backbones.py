"""Spiking networks, by name."""

from __future__ import annotations

from typing import Literal

from tmkt_train.choices import Backbone, BatchNormMode, EvalStatistics, Surrogate
from tmkt_train.network.network import FrameShape, SpikingNetwork
from tmkt_train.network.neurons import LayerChoices
from tmkt_train.network.resnet18 import resnet18
from tmkt_train.network.scnn import scnn
from tmkt_train.network.vgg_snn import vgg_snn


def build_model(
    backbone: Backbone,
    *,
    num_classes: int,
    num_channels: int,
    size: tuple[int, int],
    batch_norm: BatchNormMode,
    num_steps: int,
    separate_heads: bool,
    surrogate: Surrogate | Literal["auto"] = "auto",
    eval_statistics: EvalStatistics = "shared",
) -> SpikingNetwork:
    """Build a network with fresh weights from torch's global generator.

    Args:
        backbone: "vgg-snn", "resnet18" or "scnn".
        num_classes: Number of classes K.
        num_channels: Number of channels C of the frames.
        size: Height and width of the frames in pixels; at least 16 x 16, or 8 x 8 for "resnet18".
        batch_norm: How batch normalization takes its statistics; the references have "per-step", and "none" in
            scnn.
        num_steps: Number of steps T of the frames; the weights do not depend on it.
        separate_heads: Whether image and event stream have a head each; the references have two (for time-step
            mixup (inferred)), and one in scnn.
        surrogate: Gradient of the spike; "auto" is that of the reference, the triangle, and the rectangle in scnn.
        eval_statistics: Whether both streams share the running statistics of batch normalization, as the reference, or
            evaluation takes those of the event stream alone.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        SpecError: The frames are too small for the network.
    """
    shape = FrameShape(num_steps, num_channels, size)
    if surrogate == "auto":
        surrogate = "rectangle" if backbone == "scnn" else "triangle"
    choices = LayerChoices(batch_norm, eval_statistics, surrogate)
    match backbone:
        case "vgg-snn":
            build = vgg_snn
        case "resnet18":
            build = resnet18
        case "scnn":
            build = scnn
    return build(shape, num_classes=num_classes, choices=choices, separate_heads=separate_heads)
