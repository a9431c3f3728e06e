"""Spiking networks, by name."""

from __future__ import annotations

from dataclasses import replace

from tmkt_train.choices import Backbone
from tmkt_train.network.network import FrameShape, Heads, SpikingNetwork
from tmkt_train.network.resnet18 import resnet18
from tmkt_train.network.scnn import scnn
from tmkt_train.network.stages import LayerChoices
from tmkt_train.network.vgg_snn import vgg_snn


def build_model(backbone: Backbone, shape: FrameShape, heads: Heads, choices: LayerChoices) -> SpikingNetwork:
    """Build a network with fresh weights from torch's global generator.

    Args:
        backbone: "vgg-snn", "resnet18" or "scnn".
        shape: Frames that the network takes; at least 16 x 16 pixels, or 8 x 8 for "resnet18". The weights do not
            depend on the number of time steps.
        heads: Number of classes, and whether each stream has its own classifier.
        choices: Batch normalization and surrogate.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        SpecError: The frames are too small for the network.

    Example:
        >>> model = build_model("scnn", FrameShape(4, 2, (28, 28)), Heads(10, separate=False), LayerChoices("none"))
        >>> model.spiking_layer_names
        ['lif1', 'lif2', 'lif3']
    """
    if choices.surrogate == "auto":
        choices = replace(choices, surrogate="rectangle" if backbone == "scnn" else "triangle")
    match backbone:
        case "vgg-snn":
            return vgg_snn(shape, heads, choices)
        case "resnet18":
            return resnet18(shape, heads, choices)
        case "scnn":
            return scnn(shape, heads, choices)
