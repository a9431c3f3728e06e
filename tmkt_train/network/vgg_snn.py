"""VGG-SNN: eight convolutions, each followed by batch normalization and neurons, and four poolings."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tmkt_train.network.network import Body, FrameShape, Heads, SpikingNetwork, check_minimum_size
from tmkt_train.network.neurons import avg_pool, conv2d, flatten
from tmkt_train.network.stages import LayerChoices, RunStage, Signal, Stage

_WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)
_POOLED = (2, 4, 6, 8)


class VggSnnBody(Body):
    """Convolutions 1 to 8 with their norms and neurons; a pooling behind every second layer of neurons."""

    def __init__(self, shape: FrameShape, choices: LayerChoices) -> None:
        """Build the layers `conv1`, `norm1`, `lif1`, `conv2`, ..., `pool1`, ... with PyTorch's default weights."""
        super().__init__()
        num_inputs = shape.num_channels
        for number, width in enumerate(_WIDTHS, start=1):
            self.add_module(f"conv{number}", conv2d(num_inputs, width, 3, padding=1))
            self.add_module(f"norm{number}", choices.norm(width))
            self.add_module(f"lif{number}", choices.neurons())
            if number in _POOLED:
                self.add_module(f"pool{_POOLED.index(number) + 1}", avg_pool())
            num_inputs = width
        self.flatten = flatten()
        height, width = (length // 2**3 for length in shape.size)
        self.alignment_size = num_inputs * height * width
        self.feature_size = num_inputs * (height // 2) * (width // 2)

    @property
    def tapped(self) -> nn.Module:
        """The eighth layer of neurons, before the last pooling."""
        return self.get_submodule("lif8")

    def stages(self) -> list[Stage]:
        """Return the first convolution, then eight stages from norm to the next convolution."""
        layers: dict[str, Any] = dict(self.named_children())
        stages = [Stage(convolution=layers["conv1"])]
        for number in range(1, len(_WIDTHS) + 1):
            pooling = layers[f"pool{_POOLED.index(number) + 1}"] if number in _POOLED else None
            following = layers.get(f"conv{number + 1}")
            stages.append(Stage(layers[f"norm{number}"], layers[f"lif{number}"], pooling, following))
        return stages

    def forward(self, frames: Signal, run: RunStage) -> Tensor:
        """See `Body.forward`; the feature is the pooled spikes."""
        signal = frames
        for stage in self.stages():
            signal = run(stage, signal)
        features: Tensor = self.flatten(signal.values)
        return features


def vgg_snn(shape: FrameShape, heads: Heads, choices: LayerChoices) -> SpikingNetwork:
    """Build VGG-SNN: 3 x 3 convolutions without bias, a 2 x 2 average pooling after every second one.

    The eighth layer of neurons is tapped, before the last pooling; the feature is the pooled spikes. Weights start
    from PyTorch's defaults. Four poolings halve the size: at least 16 x 16, and where a size is not a multiple of 16
    the poolings drop the odd last rows and columns.

    Args:
        shape: Frames that the network takes.
        heads: Classifiers.
        choices: Batch normalization and surrogate; the reference has "per-step" and the triangle.

    Returns:
        The network; 9 688 165 parameters with one head, 2 channels, 48 x 48 and 101 classes.

    Raises:
        SpecError: The input is smaller than 16 x 16.

    Source:
        Deng et al., ICLR 2022; He et al., AAAI 2024.
    """
    check_minimum_size("vgg-snn", shape.size, 2 ** len(_POOLED))
    return SpikingNetwork(VggSnnBody(shape, choices), shape, heads)
