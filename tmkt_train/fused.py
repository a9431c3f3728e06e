"""Batch norm, neurons, pooling and convolution in one go on a CPU, with the gradient, and little memory.

Kept for the way back is the input of the batch norm alone: normalized values, membrane potentials and spikes are
computed again. A few samples at a time run through neurons, pooling and convolution, so that spikes never leave the
cache for long. Tensors are (T, B, C, H, W) as everywhere, with the channels last in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tmkt_train.convolution import convolution
from tmkt_train.kernels.neurons import fire, fire_gradient
from tmkt_train.kernels.pooling import pool, unpool
from tmkt_train.neurons import THRESHOLD, Surrogate
from tmkt_train.normalization import Normalization, normalization, take_back
from tmkt_train.workers import Workers, workers

Floats = NDArray[np.floating[Any]]

_CHUNK = 3 << 19
"""Spikes of the samples that run at a time, 6 MiB in float32."""
_ROWS = 4096
"""Neurons whose recurrence runs at a time: their state fits the first-level cache."""
_PARTS = 16
"""Parts that sums over places are cut into, always the same, so that threads do not change their digits."""


def fire_and_convolve(norm: nn.Module, surrogate: Surrogate, pooled: bool, conv: nn.Conv2d, values: Tensor) -> Tensor:
    """Return `conv(pool(lif(norm(values))))` of one stream, from rest.

    Args:
        norm: Built by `neurons.batch_norm`; its running statistics are updated where it trains.
        surrogate: Of the neurons.
        pooled: Whether an average pooling stands between neurons and convolution.
        conv: Built by `neurons.conv2d`.
        values: Shape (T, B, C, H, W), float32 or float64, on the CPU.
    """
    values = _channels_last(values)
    threads = workers()
    layer = _Neurons(_normalize(norm, values, threads), surrogate, threads)
    result: Tensor = _FireAndConvolve.apply(values, *_affine(norm), conv.weight, layer, pooled, conv)
    return result


def fire_alone(norm: nn.Module, surrogate: Surrogate, keeps: bool, values: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return `lif(norm(values))` of one stream, from rest, and the potentials after reset where asked.

    Args:
        norm: See `fire_and_convolve`.
        surrogate: Of the neurons.
        keeps: Whether to return the potentials, of the shape of the values.
        values: Shape (T, B, C, H, W) or (T, B, C), float32 or float64, on the CPU.
    """
    flat = values.ndim == 3
    values = _channels_last(values[..., None, None] if flat else values)
    threads = workers()
    layer = _Neurons(_normalize(norm, values, threads), surrogate, threads)
    spikes, potentials = _Fire.apply(values, *_affine(norm), layer, keeps)
    results = [part[..., 0, 0] if flat else part for part in (spikes, potentials)]
    return results[0], results[1] if keeps else None


def _channels_last(values: Tensor) -> Tensor:
    """Return (T, B, C, H, W) as (T, B, H, W, C), contiguous."""
    return values.permute(0, 1, 3, 4, 2).contiguous()


def _affine(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    return (norm.weight, norm.bias) if isinstance(norm, nn.BatchNorm2d) else (None, None)


@torch.no_grad()
def _normalize(norm: nn.Module, values: Tensor, threads: Workers) -> Normalization:
    return normalization(norm, _rows(values), threads)


def _rows(values: Tensor) -> Floats:
    """Return (T, B, H, W, C) as an array (T, B H W, C) of the same memory."""
    rows: Floats = values.detach().flatten(1, 3).numpy()
    return rows


@dataclass(frozen=True, slots=True)
class _Neurons:
    """Normalization and neurons of one layer, over rows (T, P, C)."""

    norm: Normalization
    surrogate: Surrogate
    threads: Workers

    def fire(self, values: Floats, start: int, spikes: Floats, potentials: Floats) -> None:
        """Write the spikes, and potentials if any, of the rows from `start` on."""
        state = np.empty((self.threads.count, *self._tile(values)), values.dtype)
        self.threads.run(
            lambda part, first, last: fire(
                values,
                self.norm.scale,
                self.norm.shift,
                THRESHOLD,
                start,
                state[part],
                spikes,
                potentials,
                first,
                last,
            ),
            spikes.shape[1],
        )

    def fire_back(self, values: Floats, rows: slice, potentials: Floats, grad: Floats) -> NDArray[np.float64]:
        """Take the gradient of the spikes of some rows back to the normalized values, in place; return its sums."""
        tile = self._tile(values)
        num_steps, _, num_channels = values.shape
        charges = np.empty((self.threads.count, num_steps, *tile), values.dtype)
        later = np.empty((self.threads.count, *tile), values.dtype)
        sums = np.zeros((_PARTS, 2, num_steps, num_channels))
        bounds = [rows.start + (rows.stop - rows.start) * part // _PARTS for part in range(_PARTS + 1)]

        def some(thread: int, first: int, last: int) -> None:
            for part in range(first, last):
                fire_gradient(
                    values,
                    self.norm.scale,
                    self.norm.shift,
                    self.norm.mean,
                    THRESHOLD,
                    self.surrogate == "triangle",
                    charges[thread],
                    later[thread],
                    potentials,
                    grad,
                    sums[part],
                    bounds[part],
                    bounds[part + 1],
                )

        self.threads.run(some, _PARTS)
        total: NDArray[np.float64] = sums.sum(axis=0)
        return total

    @staticmethod
    def _tile(values: Floats) -> tuple[int, int]:
        return max(1, _ROWS // values.shape[2]), values.shape[2]


class _Chunks:
    """Samples of a batch in groups, and where their frames lie in (T, B, ...) seen as (T B, ...)."""

    def __init__(self, values: Tensor) -> None:
        self.num_steps, self.batch, self.height, self.width, self.channels = values.shape
        per_sample = self.num_steps * self.height * self.width * self.channels
        self._step = max(1, _CHUNK // per_sample)

    def __iter__(self) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Yield rows of (T, B H W, C), and the numbers of the frames, step by step."""
        per_frame = self.height * self.width
        for first in range(0, self.batch, self._step):
            last = min(first + self._step, self.batch)
            frames = np.arange(self.num_steps)[:, None] * self.batch + np.arange(first, last)
            yield slice(first * per_frame, last * per_frame), frames.reshape(-1)


class _FireAndConvolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norm_weight: Tensor | None,  # noqa: ARG004
        norm_bias: Tensor | None,  # noqa: ARG004
        weight: Tensor,
        layer: _Neurons,
        pooled: bool,
        conv: nn.Conv2d,
    ) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.layer, ctx.pooled, ctx.conv = layer, pooled, conv
        way = convolution(conv, weight, layer.threads)
        out: Tensor | None = None
        for rows, frames in _Chunks(values):
            inputs = _spike_frames(layer, values, rows, pooled)
            if out is None:
                out = values.new_empty(values.shape[0] * values.shape[1], *_output_shape(conv, inputs))
            way.forward(inputs, out, frames)
        if out is None:
            raise ValueError("fire_and_convolve: found no samples, expected one or more")
        return out.view(*values.shape[:2], *out.shape[1:]).permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        layer: _Neurons = ctx.layer
        way = convolution(ctx.conv, weight, layer.threads)
        outward = _channels_last(grad).flatten(0, 1)
        inward = torch.empty_like(values)
        source, target, frames_of = _rows(values), _rows(inward), inward.flatten(0, 1)
        sums = np.zeros((2, source.shape[0], source.shape[2]))
        for rows, frames in _Chunks(values):
            inputs = _spike_frames(layer, values, rows, ctx.pooled)
            if ctx.pooled:
                small = torch.empty_like(inputs)
                way.backward(inputs, outward, frames, small, np.arange(len(frames)))
                _unpool(layer.threads, small, frames, frames_of)
            else:
                way.backward(inputs, outward, frames, frames_of, frames)
            sums += layer.fire_back(source, rows, target[:0], target)
        norm_weight, norm_bias = take_back(layer.norm, target, source, sums, layer.threads)
        return inward, *_if_needed(ctx, norm_weight, norm_bias), way.weight_gradient(), None, None, None


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norm_weight: Tensor | None,  # noqa: ARG004
        norm_bias: Tensor | None,  # noqa: ARG004
        layer: _Neurons,
        keeps: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(values)
        ctx.layer = layer
        ctx.set_materialize_grads(False)
        spikes = torch.empty_like(values)
        potentials = torch.empty_like(values) if keeps else values.new_empty(0, *values.shape[1:])
        layer.fire(_rows(values), 0, _rows(spikes), _rows(potentials))
        return spikes.permute(0, 1, 4, 2, 3), potentials.permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, potentials: Tensor | None) -> tuple[Tensor | None, ...]:
        (values,) = ctx.saved_tensors
        layer: _Neurons = ctx.layer
        inward = torch.zeros_like(values) if grad is None else _channels_last(grad).clone()
        kept = values[:0] if potentials is None else _channels_last(potentials)
        source, target = _rows(values), _rows(inward)
        sums = layer.fire_back(source, slice(0, source.shape[1]), _rows(kept), target)
        norm_weight, norm_bias = take_back(layer.norm, target, source, sums, layer.threads)
        return inward, *_if_needed(ctx, norm_weight, norm_bias), None, None


def _if_needed(ctx: Any, norm_weight: Tensor, norm_bias: Tensor) -> tuple[Tensor | None, Tensor | None]:
    _, weight, bias, *_ = ctx.needs_input_grad
    return norm_weight if weight else None, norm_bias if bias else None


def _spike_frames(layer: _Neurons, values: Tensor, rows: slice, pooled: bool) -> Tensor:
    """Return the spikes of some rows as frames (F, H, W, C), averaged over 2 x 2 pixels where they are pooled."""
    num_steps, _, height, width, channels = values.shape
    spikes = values.new_empty(num_steps, rows.stop - rows.start, channels)
    layer.fire(_rows(values), rows.start, spikes.numpy(), spikes[:0].numpy())
    frames = spikes.view(-1, height, width, channels)
    if not pooled:
        return frames
    out = frames.new_empty(len(frames), height // 2, width // 2, channels)
    source, target = frames.numpy(), out.numpy()
    layer.threads.run(lambda _, first, last: pool(source, target, first, last), len(frames) * (height // 2))
    return out


def _unpool(threads: Workers, small: Tensor, frames: NDArray[np.int64], out: Tensor) -> None:
    source, target = small.numpy(), out.numpy()
    threads.run(lambda _, first, last: unpool(source, frames, target, first, last), len(frames) * out.shape[1])


def _output_shape(conv: nn.Conv2d, frames: Tensor) -> tuple[int, int, int]:
    """Return height, width and channels of the convolution of frames (F, H, W, C)."""
    padding = [part for part in conv.padding if isinstance(part, int)]
    sides = zip(frames.shape[1:3], padding, conv.dilation, conv.kernel_size, conv.stride, strict=True)
    height, width = ((n + 2 * pad - gap * (k - 1) - 1) // step + 1 for n, pad, gap, k, step in sides)
    return height, width, conv.out_channels
