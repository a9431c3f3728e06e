"""Batch normalization as an affine map per step and channel, and the way back of its gradient.

Weights that have gone beyond all bounds are left to whoever looks at the loss, as torch does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tmkt_train.network.cpu.kernels.statistics import finish_gradient, step_statistics
from tmkt_train.network.cpu.workers import Workers
from tmkt_train.network.neurons import StreamBatchNorm2d

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Normalization:
    """What a batch normalization does to values (T, P, C): scale y + shift. All arrays have shape (T, C).

    Attributes:
        scale: Weight over the standard deviation.
        shift: Bias less scale times mean.
        mean: Mean that was taken off.
        inverse_deviation: One over the standard deviation, epsilon included.
        from_batch: Whether mean and deviation depend on the values, and over what: "steps" each for itself, "all"
            steps together; "no" in evaluation.
    """

    scale: Floats
    shift: Floats
    mean: Floats
    inverse_deviation: Floats
    from_batch: str


def identity(num_steps: int, num_channels: int, kind: np.dtype[Any]) -> Normalization:
    """Return the map of no batch normalization."""
    ones = np.ones((num_steps, num_channels), kind)
    zeros = np.zeros_like(ones)
    return Normalization(ones, zeros, zeros, ones, "no")


@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def normalization(norm: nn.Module, values: Floats, workers: Workers) -> Normalization:
    """Return what a batch normalization does to values, and update its running statistics where it trains.

    Args:
        norm: Built by `neurons.batch_norm`.
        values: Shape (T, P, C): P places of T steps of one stream, P of 2 or more.
        workers: Threads to use.
    """
    num_steps, _, num_channels = values.shape
    if not isinstance(norm, StreamBatchNorm2d):
        return identity(num_steps, num_channels, values.dtype)
    if norm.training:
        mean, variance = _batch_statistics(norm, values, workers)
    else:
        running_mean, running_var = norm.running()
        mean, variance = (_wide(buffer)[None].repeat(num_steps, axis=0) for buffer in (running_mean, running_var))
    inverse = (1.0 / np.sqrt(variance + norm.eps)).astype(values.dtype)
    mean = mean.astype(values.dtype)
    scale = _array(norm.weight) * inverse
    shift = _array(norm.bias) - mean * scale
    from_batch = "no" if not norm.training else "steps" if norm.per_step else "all"
    return Normalization(scale, shift, mean, inverse, from_batch)


def _batch_statistics(
    norm: StreamBatchNorm2d, values: Floats, workers: Workers
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means and biased variances, shape (T, C), and update the running ones, step after step."""
    num_steps, count, num_channels = values.shape
    mean, squares = np.empty((2, num_steps, num_channels))
    sums = np.empty((num_steps, 2, num_channels), values.dtype)
    workers.run(lambda _, first, last: step_statistics(values, sums, mean, squares, first, last), num_steps)
    variance = squares / count
    if norm.per_step:
        norm.track(mean, squares / (count - 1))
        return mean, variance
    total = mean.mean(axis=0)
    spread = variance.mean(axis=0) + np.square(mean - total).mean(axis=0)
    everything = num_steps * count
    norm.track(total[None], spread[None] * everything / (everything - 1))
    return np.broadcast_to(total, mean.shape), np.broadcast_to(spread, mean.shape)


@np.errstate(over="ignore", invalid="ignore")
def take_back(
    forward: Normalization, grad: Floats, values: Floats, sums: NDArray[np.float64], workers: Workers
) -> tuple[Tensor, Tensor]:
    """Take the gradient of the normalized values back to the values, in place.

    Args:
        forward: What the normalization did.
        grad: Gradient of scale y + shift, shape (T, P, C); changed into that of y.
        values: y, shape (T, P, C).
        sums: Sums over P of `grad` and of `grad` (y - mean), shape (2, T, C).
        workers: Threads to use.

    Returns:
        Gradients of weight and bias, shape (C,) each.
    """
    inverse = forward.inverse_deviation.astype(np.float64)
    slope = forward.scale.astype(np.float64)
    means = sums / grad.shape[1]
    if forward.from_batch == "all":
        means = np.broadcast_to(means.mean(axis=1, keepdims=True), means.shape)
    depends = forward.from_batch != "no"
    offset = -slope * means[0] if depends else np.zeros_like(slope)
    tilt = -slope * np.square(inverse) * means[1] if depends else np.zeros_like(slope)
    a, b, c = (np.ascontiguousarray(part, grad.dtype) for part in (slope, tilt, offset))
    workers.run(lambda _, first, last: finish_gradient(grad, values, forward.mean, a, b, c, first, last), grad.shape[1])
    kind = torch.from_numpy(grad[:0]).dtype
    weight, bias = (sums[1] * inverse).sum(axis=0), sums[0].sum(axis=0)
    return torch.from_numpy(weight).to(kind), torch.from_numpy(bias).to(kind)


def _array(tensor: Tensor) -> Floats:
    values: Floats = tensor.detach().numpy()
    return values


def _wide(tensor: Tensor) -> NDArray[np.float64]:
    return _array(tensor).astype(np.float64)
