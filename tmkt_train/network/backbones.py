"""Spiking networks, by name."""

from __future__ import annotations

from dataclasses import replace

from tmkt_data.errors import SpecError
from tmkt_train.choices import Backbone
from tmkt_train.network.imported import import_network
from tmkt_train.network.network import FrameShape, Heads, Network, SpikingNetwork
from tmkt_train.network.resnet18 import ResNet18
from tmkt_train.network.scnn import Scnn
from tmkt_train.network.stages import LayerChoices
from tmkt_train.network.vgg_snn import VggSnn


def build_model(backbone: Backbone | str, shape: FrameShape, heads: Heads, choices: LayerChoices) -> Network:
    """Build a network with fresh weights from torch's global generator.

    Args:
        backbone: "vgg-snn", "resnet18" or "scnn"; or the import path of a network, see `imported.ImportedNetwork`,
            which has heads, norm and neurons of its own.
        shape: Frames that the network takes; at least 16 x 16 pixels, or 8 x 8 for "resnet18". The weights do not
            depend on the number of time steps.
        heads: Number of classes, and whether each stream has its own classifier.
        choices: Batch normalization and surrogate.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        SpecError: The frames are so small that poolings would shrink them to nothing.
        RunError: The import path names no such network.

    Example:
        >>> model = build_model("scnn", FrameShape(4, 2, (28, 28)), Heads(10, separate=False), LayerChoices("none"))
        >>> model.spiking_layer_names
        ['lif1', 'lif2', 'lif3']
    """
    body: type[VggSnn | ResNet18 | Scnn]
    match backbone:
        case "vgg-snn":
            body = VggSnn
        case "resnet18":
            body = ResNet18
        case "scnn":
            body = Scnn
        case path:
            return import_network(path, shape, heads.num_classes)
    if min(shape.size) < body.minimum_size:
        message = (
            f"{backbone}: input {shape.size[0]} x {shape.size[1]}, expected at least {body.minimum_size} x "
            f"{body.minimum_size}; prepare the cache with a larger size"
        )
        raise SpecError(message)
    if choices.surrogate == "auto":
        choices = replace(choices, surrogate="rectangle" if backbone == "scnn" else "triangle")
    return SpikingNetwork(body(shape, choices), shape, heads)
