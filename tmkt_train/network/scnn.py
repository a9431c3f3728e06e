"""SCNN: two convolutions and a layer of 300 neurons, for small drawings."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from tmkt_train.network.network import FrameShape, SpikingNetwork, check_least_size
from tmkt_train.network.neurons import LayerChoices, avg_pool, conv2d, flatten, linear

_LEAST_SIZE = 16
_WIDTHS = (15, 40)
_NEURONS = 300


def scnn(frame_shape: FrameShape, *, num_classes: int, choices: LayerChoices, separate_heads: bool) -> SpikingNetwork:
    """Build SCNN: two convolutions 5 x 5, each with neurons and pooling, then 300 neurons.

    The convolutions have no bias and no padding. The tap lies on the 300 neurons; their spikes are the
    feature. Convolutions start from Kaiming's normal law with fan-in, linear weights from the uniform law on
    [-0.1, 0.1].

    Args:
        frame_shape: Frames that the network takes; the reference has 28 x 28.
        num_classes: Number of classes K.
        choices: Batch normalization and surrogate; the reference has "none" and the rectangle.
        separate_heads: Whether image and event stream have a head each; the reference shares one.

    Returns:
        The network; 696 573 parameters with one head, 2 channels, 28 x 28 and 1623 classes.

    Raises:
        SpecError: The input is smaller than 16 x 16.

    Source:
        He et al., AAAI 2024, for N-Omniglot.
    """
    check_least_size("scnn", frame_shape.size, _LEAST_SIZE)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    num_inputs = frame_shape.num_channels
    for number, width in enumerate(_WIDTHS, start=1):
        layers[f"conv{number}"] = conv2d(num_inputs, width, 5)
        layers[f"norm{number}"] = choices.norm(width)
        layers[f"lif{number}"] = choices.neurons()
        layers[f"pool{number}"] = avg_pool()
        num_inputs = width
    pixels = [((length - 4) // 2 - 4) // 2 for length in frame_shape.size]
    layers["flatten"] = flatten()
    layers["linear"] = linear(num_inputs * pixels[0] * pixels[1], _NEURONS)
    layers["lif3"] = choices.neurons()
    network = SpikingNetwork(
        nn.Sequential(layers),
        nn.Sequential(),
        frame_shape=frame_shape,
        tapped="lif3",
        alignment_size=_NEURONS,
        feature_size=_NEURONS,
        num_classes=num_classes,
        separate_heads=separate_heads,
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -0.1, 0.1)
    return network
