"""SCNN: two convolutions and a layer of 300 neurons, for small drawings."""

from __future__ import annotations

from torch import Tensor, nn

from tmkt_train.network.network import Body, FrameShape, Heads, SpikingNetwork, check_minimum_size
from tmkt_train.network.neurons import avg_pool, conv2d, flatten, linear
from tmkt_train.network.stages import LayerChoices, RunStage, Signal, Stage

_MINIMUM_SIZE = 16
_WIDTHS = (15, 40)
_NEURONS = 300


class ScnnBody(Body):
    """Two 5 x 5 convolutions with neurons and pooling, then a linear layer with neurons."""

    def __init__(self, shape: FrameShape, choices: LayerChoices) -> None:
        """Build the layers."""
        super().__init__()
        self.conv1 = conv2d(shape.num_channels, _WIDTHS[0], 5)
        self.norm1 = choices.norm(_WIDTHS[0])
        self.lif1 = choices.neurons()
        self.pool1 = avg_pool()
        self.conv2 = conv2d(_WIDTHS[0], _WIDTHS[1], 5)
        self.norm2 = choices.norm(_WIDTHS[1])
        self.lif2 = choices.neurons()
        self.pool2 = avg_pool()
        self.flatten = flatten()
        height, width = (((length - 4) // 2 - 4) // 2 for length in shape.size)
        self.linear = linear(_WIDTHS[1] * height * width, _NEURONS)
        self.lif3 = choices.neurons()
        self.alignment_size = self.feature_size = _NEURONS

    @property
    def tapped(self) -> nn.Module:
        """The 300 neurons."""
        return self.lif3

    def forward(self, frames: Signal, run: RunStage) -> Tensor:
        """See `Body.forward`; the feature is the spikes of the 300 neurons."""
        signal = run(Stage(convolution=self.conv1), frames)
        signal = run(Stage(self.norm1, self.lif1, self.pool1, self.conv2), signal)
        signal = run(Stage(self.norm2, self.lif2, self.pool2), signal)
        signal = Signal(self.linear(self.flatten(signal.values)))
        return run(Stage(neurons=self.lif3), signal).values


def scnn(shape: FrameShape, heads: Heads, choices: LayerChoices) -> SpikingNetwork:
    """Build SCNN: two 5 x 5 convolutions, each with neurons and pooling, then 300 neurons.

    The convolutions have neither bias nor padding. The 300 neurons are tapped; their spikes are the feature.
    Convolutions start from Kaiming-normal initialization with fan-in, linear weights from the uniform distribution on
    [-0.1, 0.1].

    Args:
        shape: Frames that the network takes; the reference has 28 x 28.
        heads: Classifiers; the reference shares one.
        choices: Batch normalization and surrogate; the reference has "none" and the rectangle.

    Returns:
        The network; 696 573 parameters with one head, 2 channels, 28 x 28 and 1623 classes.

    Raises:
        SpecError: The input is smaller than 16 x 16.

    Source:
        He et al., AAAI 2024, for N-Omniglot.
    """
    check_minimum_size("scnn", shape.size, _MINIMUM_SIZE)
    network = SpikingNetwork(ScnnBody(shape, choices), shape, heads)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -0.1, 0.1)
    return network
