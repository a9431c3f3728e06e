"""VGG-SNN: eight convolutions in four stages, each followed by batch normalization and neurons."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from tmkt_train.network.network import FrameShape, SpikingNetwork, check_least_size
from tmkt_train.network.neurons import LayerChoices, avg_pool, conv2d, flatten

_STAGES = ((64, 128), (256, 256), (512, 512), (512, 512))


def vgg_snn(
    frame_shape: FrameShape, *, num_classes: int, choices: LayerChoices, separate_heads: bool
) -> SpikingNetwork:
    """Build VGG-SNN: convolutions 3 x 3 without bias, each stage followed by a 2 x 2 average pooling.

    The tap lies on the eighth layer of neurons, before the last pooling; the feature is the pooled spikes.
    Weights start from PyTorch's defaults. Four poolings halve the size: at least 16 x 16, and where a size is
    not a multiple of 16 the poolings drop the odd last rows and columns.

    Args:
        frame_shape: Frames that the network takes.
        num_classes: Number of classes K.
        choices: Batch normalization and surrogate; the reference has "per-step" and the triangle.
        separate_heads: Whether image and event stream have a head each.

    Returns:
        The network; 9 688 165 parameters with one head, 2 channels, 48 x 48 and 101 classes.

    Raises:
        SpecError: The input is smaller than 16 x 16.

    Source:
        Deng et al., ICLR 2022; He et al., AAAI 2024.
    """
    check_least_size("vgg-snn", frame_shape.size, 2 ** len(_STAGES))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    num_inputs, number = frame_shape.num_channels, 0
    for stage, widths in enumerate(_STAGES):
        if stage:
            layers[f"pool{stage}"] = avg_pool()
        for width in widths:
            number += 1
            layers[f"conv{number}"] = conv2d(num_inputs, width, 3, padding=1)
            layers[f"norm{number}"] = choices.norm(width)
            layers[f"lif{number}"] = choices.neurons()
            num_inputs = width
    height, width = (length // 8 for length in frame_shape.size)
    return SpikingNetwork(
        nn.Sequential(layers),
        nn.Sequential(OrderedDict(pool=avg_pool(), flatten=flatten())),
        frame_shape=frame_shape,
        tapped=f"lif{number}",
        alignment_size=num_inputs * height * width,
        feature_size=num_inputs * (height // 2) * (width // 2),
        num_classes=num_classes,
        separate_heads=separate_heads,
    )
