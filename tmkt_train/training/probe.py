"""Activity of a network: firing rates, cost of the arithmetic, and similarity of both sides, by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based.monitor import InputMonitor, OutputMonitor
from spikingjelly.activation_based.neuron import LIFNode
from torch import Tensor, nn

from tmkt_train.choices import Head
from tmkt_train.method.losses import centered_gram, cka_of_grams
from tmkt_train.network.network import Network

FloatArray = NDArray[np.float32]

SYNAPSES = (nn.Conv2d, nn.Linear)
MAC_PJ, AC_PJ = 4.6, 0.9
"""Energy of a multiply-accumulate and of an accumulate in 32-bit floating point at 45 nm, picojoules.

Source: Horowitz, ISSCC 2014; arithmetic only, as usual.
"""


class LayerActivity(NamedTuple):
    """Activity of the layers in one forward pass of one side.

    Attributes:
        layers: Names of the L layers of neurons, from input to output.
        rates: Spikes per neuron, shape (L, T), in [0, 1].
        grams: Gram matrix of the spikes of each layer, centered over the batch: L tensors (T, B, B).
        synapses: Names of the S convolutions and linear layers, in order of definition.
        density: Share of their inputs that is not 0, shape (S,), in [0, 1].
        spiking: Whether all their inputs are spikes, or averages of 2 x 2 spikes, shape (S,), bool.
        features: Input of the head, averaged over the time steps, shape (B, D_f).
    """

    layers: tuple[str, ...]
    rates: FloatArray
    grams: tuple[Tensor, ...]
    synapses: tuple[str, ...]
    density: FloatArray
    spiking: NDArray[np.bool_]
    features: FloatArray


class SynapticCost(NamedTuple):
    """The arithmetic of each convolution and linear layer for one sample, over all time steps.

    Attributes:
        layers: Names, in order of definition.
        macs: Multiply-accumulates without spikes, as in a network of the same shape with real values, shape (S,).
        operations: Synaptic operations: `macs` times the share of inputs that are not 0, shape (S,).
        energy_nj: Estimate in nanojoules: accumulates where inputs are spikes, multiply-accumulates elsewhere.
        dense_energy_nj: Estimate for `macs` multiply-accumulates.
    """

    layers: tuple[str, ...]
    macs: NDArray[np.float64]
    operations: NDArray[np.float64]
    energy_nj: NDArray[np.float64]
    dense_energy_nj: NDArray[np.float64]


@torch.no_grad()
def observe_pass(model: Network, frames: Tensor, head: Head = "event") -> LayerActivity:
    """Run the frames of one side, shape (T, B, C, H, W), in evaluation mode and observe the layers of the network.

    The network is unchanged. Gram matrices are meaningful from B = 2 on.
    """
    with (
        _evaluating(model),
        OutputMonitor(model.body, LIFNode, _rate_and_gram) as spikes,
        InputMonitor(model, SYNAPSES, _density) as inputs,
    ):
        features = model(frames, head=head, plain=True).features.mean(dim=0)
    # A network from elsewhere may call its neurons step by step.
    layers = [name for name in spikes.monitored_layers if [len(found[0]) for found in spikes[name]] == [len(frames)]]
    # The head of the other side does not run.
    synapses = tuple(name for name in inputs.monitored_layers if inputs[name])
    return LayerActivity(
        tuple(layers),
        np.array([spikes[name][0][0].float().cpu().numpy() for name in layers]).reshape(-1, len(frames)),
        tuple(spikes[name][0][1] for name in layers),
        synapses,
        np.array([np.mean([float(density) for density, _ in inputs[name]]) for name in synapses], np.float32),
        np.array([all(bool(is_spiking) for _, is_spiking in inputs[name]) for name in synapses], np.bool_),
        features.float().cpu().numpy(),
    )


def _rate_and_gram(spikes: Tensor) -> tuple[Tensor, Tensor]:
    if spikes.ndim < 3:
        return spikes.new_empty(0), spikes.new_empty(0)
    flat = spikes.flatten(2)
    return flat.mean(dim=(1, 2)), centered_gram(flat).cpu()


def _density(values: Tensor) -> tuple[Tensor, Tensor]:
    quarters = values * 4
    is_spiking = ((quarters == quarters.round()) & (values >= 0) & (values <= 1)).all()
    return (values != 0).float().mean(), is_spiking


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    try:
        model.eval()
        yield
    finally:
        model.train(was_training)


@torch.no_grad()
def count_macs(model: Network) -> dict[str, int]:
    """Count the multiply-accumulates of each convolution and linear layer for one sample and one time step.

    They are in order of definition, by name of the layer. Bias, batch norm, pooling and neurons are not counted, as
    usual, nor is the image head. The network is unchanged.
    """
    # spikingjelly's MACCounter counts none where inputs are 0 or 1, its FlopCounter adds the bias.
    shape = model.frame_shape
    frames = next(model.parameters()).new_zeros(shape.num_time_steps, 1, shape.num_channels, *shape.size)
    with _evaluating(model), OutputMonitor(model, SYNAPSES, Tensor.numel) as sizes:
        model(frames, plain=True)
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, SYNAPSES)]
    return {
        name: sum(sizes[name]) * layer.weight[0].numel() // shape.num_time_steps
        for name, layer in layers
        if sizes[name]
    }


def synaptic_cost(model: Network, activity: LayerActivity) -> SynapticCost:
    """Estimate the cost of a forward pass: synaptic operations and energy by layer, for one sample.

    Inputs of 0 cost nothing. The density of a layer is applied to all of its positions, padding included. Averages of
    spikes count as spikes, as usual, though hardware would have to multiply, or to pool after the weights. Memory,
    neurons and batch norm are not counted.
    """
    # spikingjelly's SynOpCounter does not count averages of spikes.
    macs_of = count_macs(model)
    num_time_steps = model.frame_shape.num_time_steps
    macs = np.array([macs_of[name] * num_time_steps for name in activity.synapses], np.float64)
    operations = macs * activity.density
    energy = operations * np.where(activity.spiking, AC_PJ, MAC_PJ) / 1e3
    return SynapticCost(activity.synapses, macs, operations, energy, macs * MAC_PJ / 1e3)


def side_similarity(image: LayerActivity, event: LayerActivity) -> tuple[FloatArray, FloatArray]:
    """Compare both sides, recordings and images of their classes, row by row, with linear CKA of the spikes.

    Returns the alignment, shape (L, T), and the baseline to compare it with: the same with rows shifted by one.
    """
    pairs = list(zip(image.grams, event.grams, strict=True))
    aligned = torch.stack([cka_of_grams(x, y) for x, y in pairs])
    moved = torch.stack([cka_of_grams(x, y.roll((1, 1), dims=(1, 2))) for x, y in pairs])
    return aligned.numpy().astype(np.float32), moved.numpy().astype(np.float32)


def principal_components(features: FloatArray, num: int = 2) -> tuple[FloatArray, FloatArray]:
    """Project features onto their principal components.

    Args:
        features: Shape (N, D), N of 2 or more.
        num: Number of components.

    Returns:
        Coordinates, shape (N, num), and the share of the variance that each explains, shape (num,). The largest weight
        of a component is positive; components that do not exist are 0.

    Example:
        >>> points, shares = principal_components(np.array([[0, 0], [2, 0], [5, 0]], np.float32))
        >>> [round(float(x), 2) for x in points[:, 0]], [round(float(share), 2) for share in shares]
        ([-2.33, -0.33, 2.67], [1.0, 0.0])
    """
    centered = features.astype(np.float64) - features.astype(np.float64).mean(axis=0)
    left, scale, right = np.linalg.svd(centered, full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    points, shares = np.zeros((len(features), num)), np.zeros(num)
    kept = min(num, len(scale))
    points[:, :kept] = (left * scale * signs)[:, :kept]
    total = float(np.square(scale).sum())
    if total > 0:
        shares[:kept] = np.square(scale[:kept]) / total
    return points.astype(np.float32), shares.astype(np.float32)
