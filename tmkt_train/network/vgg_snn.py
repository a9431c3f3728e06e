"""VGG-SNN: eight convolutions, each followed by batch normalization and neurons, and four poolings."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tmkt_train.network.network import Body, FrameShape
from tmkt_train.network.neurons import avg_pool, conv2d
from tmkt_train.network.stages import LayerChoices, RunStage, Signal, Stage

_WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)


class VggSnn(Body):
    """Eight 3 x 3 convolutions without bias, a 2 x 2 average pooling after every second one.

    The eighth layer of neurons is tapped, before the last pooling; the feature is the pooled spikes. Weights start
    from PyTorch's defaults. Four poolings halve the size; where it is not a multiple of 16 they drop the odd last rows
    and columns. The reference has batch norm "per-step" and the triangle as surrogate. With one head, 2 channels,
    48 x 48 and 101 classes the network has 9 688 165 parameters.

    Source:
        Deng et al., ICLR 2022; He et al., AAAI 2024.
    """

    minimum_size = 16

    def __init__(self, shape: FrameShape, choices: LayerChoices) -> None:
        """Build the layers `conv1`, `norm1`, `lif1`, `conv2`, `norm2`, `lif2`, `pool1`, ..."""
        super().__init__()
        num_inputs = shape.num_channels
        for number, width in enumerate(_WIDTHS, start=1):
            self.add_module(f"conv{number}", conv2d(num_inputs, width, 3, padding=1))
            self.add_module(f"norm{number}", choices.norm(width))
            self.add_module(f"lif{number}", choices.neurons())
            if number % 2 == 0:
                self.add_module(f"pool{number // 2}", avg_pool())
            num_inputs = width
        height, width = (length // 2**3 for length in shape.size)
        self.alignment_size = num_inputs * height * width
        self.feature_size = num_inputs * (height // 2) * (width // 2)

    @property
    def tapped(self) -> nn.Module:
        """The eighth layer of neurons."""
        return self.get_submodule("lif8")

    def stages(self) -> list[Stage]:
        """Return the first convolution, then eight stages from a norm to the next convolution."""
        layers: dict[str, Any] = dict(self.named_children())
        stages = [Stage(convolution=layers["conv1"])]
        for number in range(1, len(_WIDTHS) + 1):
            pooling = layers[f"pool{number // 2}"] if number % 2 == 0 else None
            stages.append(
                Stage(layers[f"norm{number}"], layers[f"lif{number}"], pooling, layers.get(f"conv{number + 1}"))
            )
        return stages

    def forward(self, frames: Signal, run: RunStage) -> Tensor:
        """See `Body.forward`."""
        signal = frames
        for stage in self.stages():
            signal = run(stage, signal)
        return signal.values.flatten(2)
