"""Spiking ResNet-18 with pre-activation: each block normalizes and fires before it convolves."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from tmkt_train.network.network import Body, FrameShape
from tmkt_train.network.neurons import conv2d
from tmkt_train.network.stages import LayerChoices, RunStage, Signal, Stage

_WIDTHS = (64, 128, 256, 512)
_BLOCKS = 2


class PreActivationBlock(nn.Module):
    """Two stages of batch norm, neurons and 3 x 3 convolution, added to the input or to a 1 x 1 convolution of it."""

    def __init__(self, num_inputs: int, num_outputs: int, stride: int, choices: LayerChoices) -> None:
        """Build a block; the shortcut has weights where the shape changes."""
        super().__init__()
        self.norm1 = choices.norm(num_inputs)
        self.lif1 = choices.neurons()
        self.conv1 = conv2d(num_inputs, num_outputs, 3, padding=1, stride=stride)
        self.norm2 = choices.norm(num_outputs)
        self.lif2 = choices.neurons()
        self.conv2 = conv2d(num_outputs, num_outputs, 3, padding=1)
        self.shortcut: Any = nn.Identity()
        if stride != 1 or num_inputs != num_outputs:
            layers = OrderedDict(
                norm=choices.norm(num_inputs),
                lif=choices.neurons(),
                conv=conv2d(num_inputs, num_outputs, 1, stride=stride),
            )
            self.shortcut = nn.Sequential(layers)

    def forward(self, signal: Signal, run: RunStage) -> Signal:
        """Map (T, B, C, H, W) to (T, B, C', H', W'), real values."""
        residual = run(Stage(self.norm1, self.lif1, convolution=self.conv1), signal)
        residual = run(Stage(self.norm2, self.lif2, convolution=self.conv2), residual)
        shortcut, path = signal, self.shortcut
        if not isinstance(path, nn.Identity):
            shortcut = run(Stage(path.norm, path.lif, convolution=path.conv), signal)
        return Signal(residual.values + shortcut.values)


class ResNet18(Body):
    """A convolution, four groups of two blocks with 64 to 512 channels, batch norm and global average pooling.

    No neurons follow the last block: the pooled vector is real-valued, and is both the feature and what the alignment
    compares. Convolutions have no bias and start from Kaiming-normal initialization with fan-out. The reference has
    48 x 48 pixels, batch norm "per-step" and the triangle as surrogate. With one head, 2 channels and 20 classes the
    network has 11 177 620 parameters.

    Source:
        He et al., AAAI 2024, for CEP-DVS; He et al., ECCV 2016.
    """

    minimum_size = 8

    def __init__(self, shape: FrameShape, choices: LayerChoices) -> None:
        """Build the layers `conv`, `stage1_1`, `stage1_2`, ..., `stage4_2` and `norm`."""
        super().__init__()
        num_inputs = _WIDTHS[0]
        self.conv = conv2d(shape.num_channels, num_inputs, 3, padding=1)
        for group, width in enumerate(_WIDTHS, start=1):
            for block in range(1, _BLOCKS + 1):
                stride = 2 if group > 1 and block == 1 else 1
                self.add_module(f"stage{group}_{block}", PreActivationBlock(num_inputs, width, stride, choices))
                num_inputs = width
        self.norm = choices.norm(num_inputs)
        self.alignment_size = self.feature_size = num_inputs

    def forward(self, frames: Signal, run: RunStage) -> Tensor:
        """See `Body.forward`."""
        signal = run(Stage(convolution=self.conv), frames)
        for block in self.children():
            if isinstance(block, PreActivationBlock):
                signal = block(signal, run)
        features: Tensor = self.norm(signal.values).mean(dim=(-2, -1))
        return features

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """See `Body.initialize`."""
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
