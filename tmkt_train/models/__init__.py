"""Spiking networks, by name."""

from __future__ import annotations

from typing import Literal

from tmkt_train.models.auxiliary import AuxiliaryHeads, CoefficientMode, RegularizationCoefficients
from tmkt_train.models.network import FrameShape, Head, NetworkOutput, SpikingNetwork
from tmkt_train.models.scnn import scnn
from tmkt_train.models.vgg_snn import vgg_snn
from tmkt_train.neurons import BatchNormMode

__all__ = [
    "AuxiliaryHeads",
    "Backbone",
    "BatchNormMode",
    "CoefficientMode",
    "FrameShape",
    "Head",
    "NetworkOutput",
    "RegularizationCoefficients",
    "SpikingNetwork",
    "build_model",
]

Backbone = Literal["vgg-snn", "scnn"]


def build_model(
    backbone: Backbone,
    *,
    num_classes: int,
    num_channels: int,
    size: tuple[int, int],
    batch_norm: BatchNormMode,
    num_steps: int,
    separate_heads: bool,
) -> SpikingNetwork:
    """Build a network with fresh weights from torch's global generator.

    Args:
        backbone: "vgg-snn" or "scnn".
        num_classes: Number of classes K.
        num_channels: Number of channels C of the frames.
        size: Height and width of the frames in pixels; both networks need at least 16 x 16.
        batch_norm: How batch normalization takes its statistics; the references have "per-step" (vgg-snn) and
            "none" (scnn).
        num_steps: Number of steps T of the frames; the weights do not depend on it.
        separate_heads: Whether image and event stream have a head each; the references have two (vgg-snn; for
            time-step mixup (inferred)) and one (scnn).

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        SpecError: The frames are too small for the network.
    """
    shape = FrameShape(num_steps, num_channels, size)
    match backbone:
        case "vgg-snn":
            build = vgg_snn
        case "scnn":
            build = scnn
    return build(shape, num_classes=num_classes, batch_norm_mode=batch_norm, separate_heads=separate_heads)
