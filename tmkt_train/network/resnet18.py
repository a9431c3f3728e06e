"""Spiking ResNet-18 with pre-activation: each block normalizes and fires before it convolves."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from tmkt_train.network.network import FrameShape, SpikingNetwork, check_least_size
from tmkt_train.network.neurons import LayerChoices, conv2d, global_avg_pool
from tmkt_train.network.stages import fire_and_convolve, run_layers

_LEAST_SIZE = 8
_WIDTHS = (64, 128, 256, 512)
_BLOCKS = 2


class PreActivationBlock(nn.Module):
    """Two times batch norm, neurons and convolution 3 x 3, added to the input or to a convolution 1 x 1 of it."""

    def __init__(self, num_inputs: int, num_outputs: int, stride: int, choices: LayerChoices) -> None:
        """Build a block; the shortcut has weights where the shape changes."""
        super().__init__()
        self.norm1 = choices.norm(num_inputs)
        self.lif1 = choices.neurons()
        self.conv1 = conv2d(num_inputs, num_outputs, 3, padding=1, stride=stride)
        self.norm2 = choices.norm(num_outputs)
        self.lif2 = choices.neurons()
        self.conv2 = conv2d(num_outputs, num_outputs, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or num_inputs != num_outputs:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    norm=choices.norm(num_inputs),
                    lif=choices.neurons(),
                    conv=conv2d(num_inputs, num_outputs, 1, stride=stride),
                )
            )

    def forward(self, values: Tensor) -> Tensor:
        """Map (T, B, C, H, W) to (T, B, C', H', W'), real values."""
        residual = fire_and_convolve(self.norm1, self.lif1, self.conv1, values)
        residual = fire_and_convolve(self.norm2, self.lif2, self.conv2, residual)
        return residual + (run_layers(self.shortcut, values) if isinstance(self.shortcut, nn.Sequential) else values)


def resnet18(
    frame_shape: FrameShape, *, num_classes: int, choices: LayerChoices, separate_heads: bool
) -> SpikingNetwork:
    """Build ResNet-18: a convolution, four stages of two blocks with 64 to 512 channels, a global average pooling.

    No neurons stand behind the last block: the pooled vector is real-valued, and is both the feature and what the
    alignment compares. Convolutions start from Kaiming's normal law with fan-out; they have no bias.

    Args:
        frame_shape: Frames that the network takes; the reference has 48 x 48.
        num_classes: Number of classes K.
        choices: Batch normalization and surrogate; the reference has "per-step" and the triangle.
        separate_heads: Whether image and event stream have a head each.

    Returns:
        The network; 11 177 620 parameters with one head, 2 channels and 20 classes.

    Raises:
        SpecError: The input is smaller than 8 x 8.

    Source:
        He et al., AAAI 2024, for CEP-DVS; He et al., ECCV 2016.
    """
    check_least_size("resnet18", frame_shape.size, _LEAST_SIZE)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = conv2d(frame_shape.num_channels, _WIDTHS[0], 3, padding=1)
    num_inputs = _WIDTHS[0]
    for stage, width in enumerate(_WIDTHS, start=1):
        for block in range(1, _BLOCKS + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            layers[f"stage{stage}_{block}"] = PreActivationBlock(num_inputs, width, stride, choices)
            num_inputs = width
    layers["norm"] = choices.norm(num_inputs)
    network = SpikingNetwork(
        nn.Sequential(layers),
        nn.Sequential(global_avg_pool()),
        frame_shape=frame_shape,
        tapped=None,
        alignment_size=num_inputs,
        feature_size=num_inputs,
        num_classes=num_classes,
        separate_heads=separate_heads,
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
