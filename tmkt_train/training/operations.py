"""What one pass of one sample costs, layer by layer: measured by running it, not typed in."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tmkt_train.network.network import SpikingNetwork
from tmkt_train.network.neurons import spiking_layers


class LayerOperations(NamedTuple):
    """The arithmetic of one layer for one sample and one step.

    Attributes:
        name: Name of the layer in the network.
        kind: `conv`, `linear` or `neurons`.
        macs: Multiply-accumulates of a convolution or linear layer; 0 for neurons.
        num_outputs: Values that it gives; for `neurons`, how many there are.
    """

    name: str
    kind: Literal["conv", "linear", "neurons"]
    macs: int
    num_outputs: int


@torch.no_grad()
def count_operations(model: SpikingNetwork) -> list[LayerOperations]:
    """Count the arithmetic of a network for one sample and one step, event head alone.

    A network of T steps does T times as much. Biases, batch norm, pooling and the neurons' own updates are left out, as
    is usual.

    Args:
        model: The network; unchanged.

    Returns:
        One entry a layer, in the order in which they run.
    """
    found: list[LayerOperations] = []
    spiking = {id(module) for module in spiking_layers(model).values()}
    hooks = [
        module.register_forward_hook(partial(_record, found, name, id(module) in spiking))
        for name, module in model.named_modules()
        if id(module) in spiking or isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    was_training = model.training
    shape = model.frame_shape
    try:
        model.eval()
        frames = torch.zeros(
            shape.num_steps, 1, shape.num_channels, *shape.size, device=next(model.parameters()).device
        )
        model(frames, head="event")
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return found


def _record(
    found: list[LayerOperations], name: str, spikes: bool, module: nn.Module, _inputs: object, output: Tensor
) -> None:
    # Of (T, 1, ...), whatever the layer.
    num_outputs = output[0, 0].numel()
    if spikes:
        found.append(LayerOperations(name, "neurons", 0, num_outputs))
    elif isinstance(module, nn.Conv2d):
        found.append(LayerOperations(name, "conv", num_outputs * module.weight[0].numel(), num_outputs))
    elif isinstance(module, nn.Linear):
        found.append(LayerOperations(name, "linear", num_outputs * module.in_features, num_outputs))
