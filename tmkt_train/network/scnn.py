"""SCNN: two convolutions and a layer of 300 neurons, for small drawings."""

from __future__ import annotations

from torch import Tensor, nn

from tmkt_train.network.network import Body, FrameShape
from tmkt_train.network.neurons import avg_pool, conv2d
from tmkt_train.network.stages import LayerChoices, RunStage, Signal, Stage

_NEURONS = 300


class Scnn(Body):
    """Two 5 x 5 convolutions with neurons and pooling, then a linear layer with 300 neurons.

    The convolutions have neither bias nor padding. The 300 neurons are tapped; their spikes are the feature.
    Convolutions start from Kaiming-normal initialization with fan-in, linear weights, the heads' too, from the uniform
    distribution on [-0.1, 0.1]. The reference has 28 x 28 pixels, no batch norm, the rectangle as surrogate and one
    shared head. With 2 channels and 1623 classes it has 696 573 parameters.

    Source:
        He et al., AAAI 2024, for N-Omniglot.
    """

    minimum_size = 16

    def __init__(self, shape: FrameShape, choices: LayerChoices) -> None:
        """Build the layers."""
        super().__init__()
        self.conv1 = conv2d(shape.num_channels, 15, 5)
        self.norm1 = choices.norm(15)
        self.lif1 = choices.neurons()
        self.pool1 = avg_pool()
        self.conv2 = conv2d(15, 40, 5)
        self.norm2 = choices.norm(40)
        self.lif2 = choices.neurons()
        self.pool2 = avg_pool()
        height, width = (((length - 4) // 2 - 4) // 2 for length in shape.size)
        self.linear = nn.Linear(40 * height * width, _NEURONS)
        self.lif3 = choices.neurons()
        self.alignment_size = self.feature_size = _NEURONS

    @property
    def tapped(self) -> nn.Module:
        """The 300 neurons."""
        return self.lif3

    def forward(self, frames: Signal, run: RunStage) -> Tensor:
        """See `Body.forward`."""
        signal = run(Stage(convolution=self.conv1), frames)
        signal = run(Stage(self.norm1, self.lif1, self.pool1, self.conv2), signal)
        signal = run(Stage(self.norm2, self.lif2, self.pool2), signal)
        signal = Signal(self.linear(signal.values.flatten(2).to(self.linear.weight.dtype)))
        return run(Stage(neurons=self.lif3), signal).values

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """See `Body.initialize`."""
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -0.1, 0.1)
