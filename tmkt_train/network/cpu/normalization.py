"""Batch normalization as an affine map per time step and channel, with its gradient.

Overflowing weights raise no warning here, as in torch: whoever looks at the loss notices them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_train.choices import BatchNormMode
from tmkt_train.network.batch_norm import StreamBatchNorm2d
from tmkt_train.network.collectives import merge_moments, sum_over_ranks
from tmkt_train.network.cpu.kernels.batch_norm import finish_gradient, step_statistics
from tmkt_train.network.cpu.memory import as_rows, fold, fold_factor
from tmkt_train.network.cpu.workers import Workers

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Normalization:
    """What a batch normalization does to values (T, P, C): scale y + shift. All arrays have shape (T, C).

    Attributes:
        scale: Weight over the standard deviation.
        shift: Bias minus scale times mean.
        mean: Mean that is subtracted.
        inverse_deviation: One over the standard deviation, epsilon included.
        mode: How mean and deviation depend on the values: "per-step", each on those of its time step; "fused", on
            those of all steps; "none" in evaluation and without batch norm.
        count: Number of values of a time step and channel over all ranks; None if the statistics are of this rank.
    """

    scale: Floats
    shift: Floats
    mean: Floats
    inverse_deviation: Floats
    mode: BatchNormMode
    count: int | None = None


@torch.no_grad()
@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def normalization(norm: StreamBatchNorm2d | None, inputs: Tensor, threads: Workers) -> Normalization:
    """Return what a batch normalization does to its input, and update its running statistics in training mode.

    Args:
        norm: The layer; None: the identity.
        inputs: Shape (T, B, H, W, C) of one stream, with at least 2 values per time step and channel, those of other
            ranks included where the norm spans them.
        threads: Threads to use.
    """
    values = as_rows(inputs)
    num_time_steps, _, num_channels = values.shape
    if norm is None:
        ones = np.ones((num_time_steps, num_channels), values.dtype)
        zeros = np.zeros_like(ones)
        return Normalization(ones, zeros, zeros, ones, "none")
    count = None
    if norm.training:
        mean, variance, count = _batch_statistics(norm, values, threads)
    else:
        mean, variance = (
            _wide(buffer)[None].repeat(num_time_steps, axis=0) for buffer in norm.running(norm.streams[0])
        )
    inverse = (1.0 / np.sqrt(variance + norm.eps)).astype(values.dtype)
    mean = mean.astype(values.dtype)
    scale = _array(norm.weight) * inverse
    shift = _array(norm.bias) - mean * scale
    mode: BatchNormMode = "none" if not norm.training else "per-step" if norm.per_step else "fused"
    return Normalization(scale, shift, mean, inverse, mode, count if norm.spans_ranks else None)


def _batch_statistics(
    norm: StreamBatchNorm2d, values: Floats, threads: Workers
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return means and biased variances, shape (T, C), and of how many values each step has them.

    Running statistics are updated one step after the other.
    """
    num_time_steps, count, _ = values.shape
    mean, squares = _step_statistics(values, threads)
    if norm.spans_ranks:
        merged = merge_moments(torch.from_numpy(mean), torch.from_numpy(squares), count)
        mean, squares, count = merged[0].numpy(), merged[1].numpy(), int(merged[2])
    variance = squares / count
    if norm.per_step:
        _update_running(norm, mean, squares / (count - 1))
        return mean, variance, count
    total = mean.mean(axis=0)
    spread = variance.mean(axis=0) + np.square(mean - total).mean(axis=0)
    everything = num_time_steps * count
    _update_running(norm, total[None], spread[None] * everything / (everything - 1))
    return np.broadcast_to(total, mean.shape), np.broadcast_to(spread, mean.shape), count


def _step_statistics(values: Floats, threads: Workers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means and sums of squared deviations of each time step, shape (T, C)."""
    num_time_steps, count, num_channels = values.shape
    factor = fold_factor(num_channels, count)
    folded = fold(values, factor)
    shape = num_time_steps, factor, num_channels
    mean, squares = np.empty((2, num_time_steps, factor * num_channels))
    sums = np.empty((num_time_steps, 2, factor * num_channels), values.dtype)
    threads.run(lambda _, first, last: step_statistics(folded, sums, mean, squares, first, last), num_time_steps)
    if factor == 1:
        return mean, squares
    means = mean.reshape(shape)
    total = means.mean(axis=1)
    between = np.square(means - total[:, None]).sum(axis=1) * (count // factor)
    return total, squares.reshape(shape).sum(axis=1) + between


def _update_running(norm: StreamBatchNorm2d, means: NDArray[np.float64], variances: NDArray[np.float64]) -> None:
    """Update the running statistics by means and unbiased variances, shape (calls, C), of calls one after the other."""
    factor = norm.momentum or 0.0
    for running, found in zip(norm.running(norm.streams[0]), (means, variances), strict=True):
        values = running.numpy()
        for step in found:
            values[:] = (1.0 - factor) * values + factor * step
    if norm.num_batches_tracked is not None and not norm.has_own_statistics(norm.streams[0]):
        norm.num_batches_tracked += len(means)


@np.errstate(over="ignore", invalid="ignore")
def input_gradient(
    norm: Normalization, grad: Floats, values: Floats, sums: NDArray[np.float64], threads: Workers
) -> tuple[Tensor, Tensor]:
    """Turn the gradient of the output of a norm into that of its input, in place.

    Args:
        norm: What the norm did.
        grad: Gradient of scale y + shift, shape (T, P, C); changed into that of y.
        values: y, shape (T, P, C).
        sums: Sums over P of `grad` and of `grad` (y - mean), shape (2, T, C).
        threads: Threads to use.

    Returns:
        Gradients of weight and bias, shape (C,) each.
    """
    inverse = norm.inverse_deviation.astype(np.float64)
    slope = norm.scale.astype(np.float64)
    means = sums / grad.shape[1] if norm.count is None else _sum_over_ranks(sums) / norm.count
    if norm.mode == "fused":
        means = np.broadcast_to(means.mean(axis=1, keepdims=True), means.shape)
    has_statistics = norm.mode != "none"
    offset = -slope * means[0] if has_statistics else np.zeros_like(slope)
    tilt = -slope * np.square(inverse) * means[1] if has_statistics else np.zeros_like(slope)
    dtype = torch.from_numpy(grad[:0]).dtype
    factor = fold_factor(grad.shape[2], grad.shape[1])
    grad, values = fold(grad, factor), fold(values, factor)
    mean, a, b, c = (np.tile(part.astype(grad.dtype), factor) for part in (norm.mean, slope, tilt, offset))
    threads.run(lambda _, first, last: finish_gradient(grad, values, mean, a, b, c, first, last), grad.shape[1])
    weight, bias = (sums[1] * inverse).sum(axis=0), sums[0].sum(axis=0)
    return torch.from_numpy(weight).to(dtype), torch.from_numpy(bias).to(dtype)


def _sum_over_ranks(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = sum_over_ranks(torch.from_numpy(sums)).numpy()
    return total


def _array(tensor: Tensor) -> Floats:
    values: Floats = tensor.detach().numpy()
    return values


def _wide(tensor: Tensor) -> NDArray[np.float64]:
    return _array(tensor).astype(np.float64)
