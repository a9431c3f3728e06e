"""What goes on inside a network: how often its layers fire, what that costs, and how alike both sides are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tmkt_train.choices import Head
from tmkt_train.method.losses import centered_gram, cka_of_grams
from tmkt_train.network.network import SpikingNetwork
from tmkt_train.network.neurons import spiking_layers
from tmkt_train.training.operations import count_operations

FloatArray = NDArray[np.float32]

MAC_PJ, AC_PJ = 4.6, 0.9
"""Energy of a multiply-accumulate and of an accumulate in 32-bit floating point at 45 nm, picojoules.

Source: Horowitz, ISSCC 2014; the usual estimate, of arithmetic alone.
"""


class PassReading(NamedTuple):
    """What one pass of one side showed.

    Attributes:
        layers: Names of the L layers of neurons, from input to output.
        rates: Spikes per neuron, shape (L, T), in [0, 1].
        grams: Gram matrix of the spikes of each layer, centered over the batch: L tensors (T, B, B).
        synapses: Names of the S convolutions and linear layers, in running order.
        density: Share of their inputs that is not 0, shape (S,), in [0, 1].
        spiking: Whether all their inputs are spikes, or averages of 2 x 2 spikes, shape (S,), bool.
        features: Feature before the head, averaged over the steps, shape (B, D_f).
    """

    layers: tuple[str, ...]
    rates: FloatArray
    grams: tuple[Tensor, ...]
    synapses: tuple[str, ...]
    density: FloatArray
    spiking: NDArray[np.bool_]
    features: FloatArray


class SynapticCost(NamedTuple):
    """The arithmetic of each convolution and linear layer for one sample, over all steps.

    Attributes:
        layers: Names, in running order.
        macs: What it would be without spikes, as in a network of the same shape with real values: shape (S,).
        operations: Synaptic operations: the same times the share of inputs that are not 0, shape (S,).
        energy_nj: Estimate in nanojoules: accumulates where inputs are spikes, multiply-accumulates elsewhere.
        dense_energy_nj: Estimate for `macs` multiply-accumulates.
    """

    layers: tuple[str, ...]
    macs: NDArray[np.float64]
    operations: NDArray[np.float64]
    energy_nj: NDArray[np.float64]
    dense_energy_nj: NDArray[np.float64]


@torch.no_grad()
def read_pass(model: SpikingNetwork, frames: Tensor, head: Head = "event") -> PassReading:
    """Run one side through a network in evaluation mode and note what its layers do.

    Args:
        model: The network; unchanged.
        frames: Shape (T, B, C, H, W), B of 2 or more for Gram matrices that say anything.
        head: Side of the frames.
    """
    rates: dict[str, Tensor] = {}
    grams: dict[str, Tensor] = {}
    inputs: dict[str, tuple[Tensor, Tensor]] = {}

    def note_spikes(name: str, _module: nn.Module, _inputs: object, spikes: Tensor) -> None:
        flat = spikes.flatten(2)
        rates[name] = flat.mean(dim=(1, 2))
        grams[name] = centered_gram(flat).cpu()

    def note_input(name: str, _module: nn.Module, given: tuple[Tensor]) -> None:
        values = given[0]
        quarters = values * 4
        is_spiking = ((quarters == quarters.round()) & (values >= 0) & (values <= 1)).all()
        inputs[name] = (values != 0).float().mean(), is_spiking

    with _evaluating(model), _hooked(model, note_spikes, note_input):
        features = model(frames, head=head).features.mean(dim=0)
    return PassReading(
        tuple(rates),
        torch.stack(list(rates.values())).float().cpu().numpy(),
        tuple(grams.values()),
        tuple(inputs),
        np.array([float(density) for density, _ in inputs.values()], np.float32),
        np.array([bool(is_spiking) for _, is_spiking in inputs.values()]),
        features.float().cpu().numpy(),
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    try:
        model.eval()
        yield
    finally:
        model.train(was_training)


@contextmanager
def _hooked(model: SpikingNetwork, note_spikes: Callable[..., None], note_input: Callable[..., None]) -> Iterator[None]:
    hooks = [
        module.register_forward_hook(partial(note_spikes, name)) for name, module in spiking_layers(model.body).items()
    ]
    hooks += [
        module.register_forward_pre_hook(partial(note_input, name))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def synaptic_cost(model: SpikingNetwork, reading: PassReading) -> SynapticCost:
    """Estimate what a pass costs: synaptic operations and energy by layer, for one sample.

    An input of 0 costs nothing; the share of inputs that are not 0 stands for all places of a layer alike, padding
    included. Averages of spikes are counted as spikes, as is usual, though a chip would have to multiply or to pool
    after the weights. Memory, neurons and batch norm are left out.
    """
    num_steps = model.frame_shape.num_steps
    macs_of = {layer.name: layer.macs for layer in count_operations(model) if layer.kind != "neurons"}
    macs = np.array([macs_of[name] * num_steps for name in reading.synapses], np.float64)
    operations = macs * reading.density
    energy = operations * np.where(reading.spiking, AC_PJ, MAC_PJ) / 1e3
    return SynapticCost(reading.synapses, macs, operations, energy, macs * MAC_PJ / 1e3)


def side_similarity(image: PassReading, event: PassReading) -> tuple[FloatArray, FloatArray]:
    """Compare both sides layer by layer and step by step with linear CKA of the spikes.

    Args:
        image: Reading of images.
        event: Reading of recordings of the same classes, row by row.

    Returns:
        The alignment, shape (L, T), and the floor to read it against: that of rows moved on by one.
    """
    pairs = list(zip(image.grams, event.grams, strict=True))
    aligned = torch.stack([cka_of_grams(x, y) for x, y in pairs])
    moved = torch.stack([cka_of_grams(x, y.roll((1, 1), dims=(1, 2))) for x, y in pairs])
    return aligned.numpy().astype(np.float32), moved.numpy().astype(np.float32)


def principal_components(features: FloatArray, num: int = 2) -> tuple[FloatArray, FloatArray]:
    """Project features on their principal components.

    Args:
        features: Shape (N, D), N of 2 or more.
        num: Number of components.

    Returns:
        Coordinates, shape (N, num), and the share of the variance that each holds, shape (num,). The largest weight of
        a component is positive; components that do not exist are 0.

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
