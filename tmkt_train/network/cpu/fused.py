"""Batch norm, neurons, pooling and convolution in one go on a CPU, with the gradient, and little memory.

Kept for the way back is the input of the batch norm alone, and not even that where a convolution of few channels made
it: all else is computed again. A few samples at a time run through neurons, pooling and convolution, so that spikes
never leave the cache for long. Tensors are (T, B, C, H, W) as everywhere, with the channels last in memory.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tmkt_train.choices import Surrogate
from tmkt_train.network.cpu.convolution import convolution
from tmkt_train.network.cpu.firing import Chunks, FiringLayer, as_rows, spike_frames, unpool_frames
from tmkt_train.network.cpu.memory import mapped, scratch
from tmkt_train.network.cpu.normalization import Normalization, normalization, take_back
from tmkt_train.network.cpu.workers import Workers, workers

Floats = NDArray[np.floating[Any]]

_CHEAP = 64
"""Input channels up to which a convolution is computed again rather than its output kept."""
_ORIGIN = "_tmkt_origin"


def fire_and_convolve(norm: nn.Module, surrogate: Surrogate, pooled: bool, conv: nn.Conv2d, values: Tensor) -> Tensor:
    """Return `conv(pool(lif(norm(values))))` of one stream, from rest.

    Args:
        norm: Built by `neurons.batch_norm`; its running statistics are updated where it trains.
        surrogate: Of the neurons.
        pooled: Whether an average pooling stands between neurons and convolution.
        conv: Built by `neurons.conv2d`.
        values: Shape (T, B, C, H, W), float32 or float64, on the CPU.
    """
    origin: _Origin | None = getattr(values, _ORIGIN, None)
    values = _channels_last(values)
    threads = workers()
    layer = FiringLayer(_normalize(norm, values, threads), surrogate, threads)
    result: Tensor = _FireAndConvolve.apply(values, *_affine(norm), conv.weight, layer, pooled, conv, origin)
    if result.requires_grad and conv.in_channels <= _CHEAP:
        kept, make = ((values,), operator.itemgetter(0)) if origin is None else (origin.kept, origin.make)
        how = partial(_fire_and_convolve, layer=layer, pooled=pooled, conv=conv)
        # The way holds no tensor: those that are kept go when autograd lets go of them.
        setattr(result, _ORIGIN, _Origin((*kept, conv.weight), lambda found: how(make(found[:-1]), found[-1])))
    return result


def convolve(conv: nn.Conv2d, values: Tensor) -> Tensor:
    """Return `conv(values)` for values (T, B, C, H, W); the fused layers can do without keeping the result."""
    result: Tensor = conv(values)
    if result.requires_grad and conv.in_channels <= _CHEAP and not values.requires_grad:
        setattr(result, _ORIGIN, _Origin((values, conv.weight), partial(_convolve_again, conv)))
    return result


def _convolve_again(conv: nn.Conv2d, found: tuple[Tensor, ...]) -> Tensor:
    values, weight = found
    padding = [part for part in conv.padding if isinstance(part, int)]
    out = torch.conv2d(values.flatten(0, 1), weight, None, conv.stride, padding, conv.dilation, conv.groups)
    return _channels_last(out.view(*values.shape[:2], *out.shape[1:]))


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
    layer = FiringLayer(_normalize(norm, values, threads), surrogate, threads)
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
    return normalization(norm, as_rows(values), threads)


@dataclass(frozen=True, slots=True)
class _Origin:
    """What an output can be made of again, with the channels last: `make(kept)`."""

    kept: tuple[Tensor, ...]
    make: Callable[[tuple[Tensor, ...]], Tensor]


def _fire_and_convolve(values: Tensor, weight: Tensor, layer: FiringLayer, pooled: bool, conv: nn.Conv2d) -> Tensor:
    """Return the convolution (T, B, H', W', C') of the spikes that values (T, B, H, W, C) make."""
    way = convolution(conv, weight, layer.threads)
    out: Tensor | None = None
    for rows, frames in Chunks(values):
        inputs = spike_frames(layer, values, rows, pooled)
        if out is None:
            out = mapped(values, values.shape[0] * values.shape[1], *_output_shape(conv, inputs))
        way.forward(inputs, out, frames)
    if out is None:
        raise ValueError("fire_and_convolve: found no samples, expected one or more")
    return out.view(*values.shape[:2], *out.shape[1:])


class _FireAndConvolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norm_weight: Tensor | None,  # noqa: ARG004
        norm_bias: Tensor | None,  # noqa: ARG004
        weight: Tensor,
        layer: FiringLayer,
        pooled: bool,
        conv: nn.Conv2d,
        origin: _Origin | None,
    ) -> Tensor:
        ctx.save_for_backward(weight, *((values,) if origin is None else origin.kept))
        ctx.make = operator.itemgetter(0) if origin is None else origin.make
        ctx.layer, ctx.pooled, ctx.conv = layer, pooled, conv
        return _fire_and_convolve(values, weight, layer, pooled, conv).permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, *kept = ctx.saved_tensors
        values = ctx.make(tuple(kept))
        layer: FiringLayer = ctx.layer
        way = convolution(ctx.conv, weight, layer.threads)
        outward = _channels_last(grad).flatten(0, 1)
        inward = mapped(values, *values.shape)
        source, target, frames_of = as_rows(values), as_rows(inward), inward.flatten(0, 1)
        sums = np.zeros((2, source.shape[0], source.shape[2]))
        for rows, frames in Chunks(values):
            inputs = spike_frames(layer, values, rows, ctx.pooled)
            if ctx.pooled:
                small = scratch.take("grad of pooled", inputs, *inputs.shape)
                way.backward(inputs, outward, frames, small, np.arange(len(frames)))
                unpool_frames(layer.threads, small, frames, frames_of)
            else:
                way.backward(inputs, outward, frames, frames_of, frames)
            sums += layer.fire_back(source, rows, target[:0], target)
        norm_weight, norm_bias = take_back(layer.norm, target, source, sums, layer.threads)
        return inward, *_if_needed(ctx, norm_weight, norm_bias), way.weight_gradient(), None, None, None, None


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norm_weight: Tensor | None,  # noqa: ARG004
        norm_bias: Tensor | None,  # noqa: ARG004
        layer: FiringLayer,
        keeps: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(values)
        ctx.layer = layer
        ctx.set_materialize_grads(False)
        spikes = torch.empty_like(values)
        potentials = torch.empty_like(values) if keeps else values.new_empty(0, *values.shape[1:])
        layer.fire(as_rows(values), 0, as_rows(spikes), as_rows(potentials))
        return spikes.permute(0, 1, 4, 2, 3), potentials.permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, potentials: Tensor | None) -> tuple[Tensor | None, ...]:
        (values,) = ctx.saved_tensors
        layer: FiringLayer = ctx.layer
        inward = torch.zeros_like(values) if grad is None else _channels_last(grad).clone()
        kept = values[:0] if potentials is None else _channels_last(potentials)
        source, target = as_rows(values), as_rows(inward)
        sums = layer.fire_back(source, slice(0, source.shape[1]), as_rows(kept), target)
        norm_weight, norm_bias = take_back(layer.norm, target, source, sums, layer.threads)
        return inward, *_if_needed(ctx, norm_weight, norm_bias), None, None


def _if_needed(ctx: Any, norm_weight: Tensor, norm_bias: Tensor) -> tuple[Tensor | None, Tensor | None]:
    _, weight, bias, *_ = ctx.needs_input_grad
    return norm_weight if weight else None, norm_bias if bias else None


def _output_shape(conv: nn.Conv2d, frames: Tensor) -> tuple[int, int, int]:
    """Return height, width and channels of the convolution of frames (F, H, W, C)."""
    padding = [part for part in conv.padding if isinstance(part, int)]
    sides = zip(frames.shape[1:3], padding, conv.dilation, conv.kernel_size, conv.stride, strict=True)
    height, width = ((n + 2 * pad - gap * (k - 1) - 1) // step + 1 for n, pad, gap, k, step in sides)
    return height, width, conv.out_channels
