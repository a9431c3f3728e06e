"""Stages with their gradient: what autograd sees of the kernels.

A few samples at a time run through neurons, pooling and convolution, so that spikes stay in the cache of the processor.
Tensors are (T, B, H, W, C), contiguous; results are (T, B, C, H, W) with the same layout in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tmkt_train.network.batch_norm import StreamBatchNorm2d
from tmkt_train.network.cpu.convolution import convolution, output_shape
from tmkt_train.network.cpu.firing import Chunks, FiringLayer, spike_frames, unpool_frames
from tmkt_train.network.cpu.memory import as_rows, mapped, scratch
from tmkt_train.network.cpu.normalization import input_gradient
from tmkt_train.network.stages import Origin


def channels_last(values: Tensor) -> Tensor:
    """Return (T, B, C, H, W) as (T, B, H, W, C), contiguous."""
    return values.permute(0, 1, 3, 4, 2).contiguous()


@dataclass(frozen=True, slots=True)
class PlainConvolution:
    """A convolution alone, as a step of an `Origin`."""

    conv: nn.Conv2d

    def __call__(self, values: Tensor, weight: Tensor) -> Tensor:
        """Convolve frames (T, B, C, H, W); return (T, B, H', W', C')."""
        conv = self.conv
        padding = [part for part in conv.padding if isinstance(part, int)]
        out = torch.conv2d(values.flatten(0, 1), weight, None, conv.stride, padding, conv.dilation, conv.groups)
        return channels_last(out.view(*values.shape[:2], *out.shape[1:]))


@dataclass(frozen=True, slots=True)
class FiringConvolution:
    """Norm, neurons, pooling if any, and convolution; also a step of an `Origin`, as it holds no large tensor."""

    layer: FiringLayer
    is_pooled: bool
    conv: nn.Conv2d

    def __call__(self, values: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution (T, B, H', W', C') of the spikes that the input of the norm (T, B, H, W, C) causes."""
        convolve = convolution(self.conv, weight, self.layer.threads)
        out: Tensor | None = None
        for rows, frames in Chunks(values):
            inputs = spike_frames(self.layer, values, rows, self.is_pooled)
            if out is None:
                out = mapped(values, values.shape[0] * values.shape[1], *output_shape(self.conv, inputs))
            convolve.forward(inputs, out, frames)
        if out is None:
            raise ValueError("firing convolution: found no samples, expected one or more")
        return out.view(*values.shape[:2], *out.shape[1:])


def fire_and_convolve(
    step: FiringConvolution, norm: StreamBatchNorm2d | None, values: Tensor, origin: Origin
) -> Tensor:
    """Compute a stage that ends with a convolution.

    Args:
        step: The stage.
        norm: Gets the gradient of weight and bias.
        values: Input of the norm, shape (T, B, H, W, C).
        origin: What is saved for backward in place of the values.
    """
    result: Tensor = _FireAndConvolve.apply(values, *_affine(norm), step.conv.weight, _Call(step, origin))
    return result


def fire(
    layer: FiringLayer, norm: StreamBatchNorm2d | None, keeps_membrane: bool, values: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Compute norm and neurons alone: spikes, and where asked the membrane potentials after reset.

    Args:
        layer: Norm and neurons.
        norm: Gets the gradient of weight and bias.
        keeps_membrane: Whether to return the membrane potentials.
        values: Input of the norm, shape (T, B, H, W, C).
    """
    spikes, potentials = _Fire.apply(values, *_affine(norm), layer, keeps_membrane)
    return spikes, potentials if keeps_membrane else None


def _affine(norm: StreamBatchNorm2d | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if norm is None else (norm.weight, norm.bias)


class _Call(NamedTuple):
    step: FiringConvolution
    origin: Origin


class _FireAndConvolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norm_weight: Tensor | None,  # noqa: ARG004
        norm_bias: Tensor | None,  # noqa: ARG004
        weight: Tensor,
        call: _Call,
    ) -> Tensor:
        # What the origin saves is freed with the graph; the steps hold none of it.
        ctx.save_for_backward(weight, *call.origin.saved)
        ctx.steps, ctx.step = call.origin.steps, call.step
        return call.step(values, weight).permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, *saved = ctx.saved_tensors
        values = Origin(tuple(saved), ctx.steps).recompute()
        step: FiringConvolution = ctx.step
        layer = step.layer
        convolve = convolution(step.conv, weight, layer.threads)
        outward = channels_last(grad).flatten(0, 1)
        inward = mapped(values, *values.shape)
        source, target, frames_of = as_rows(values), as_rows(inward), inward.flatten(0, 1)
        sums = np.zeros((2, source.shape[0], source.shape[2]))
        for rows, frames in Chunks(values):
            inputs = spike_frames(layer, values, rows, step.is_pooled)
            if step.is_pooled:
                small = scratch.take("grad of pooled", inputs, *inputs.shape)
                convolve.backward(inputs, outward, frames, small, np.arange(len(frames)))
                unpool_frames(layer.threads, small, frames, frames_of)
            else:
                convolve.backward(inputs, outward, frames, frames_of, frames)
            sums += layer.backward(source, rows, target[:0], target)
        norm_weight, norm_bias = input_gradient(layer.norm, target, source, sums, layer.threads)
        return inward, *_if_needed(ctx, norm_weight, norm_bias), convolve.weight_gradient(), None


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norm_weight: Tensor | None,  # noqa: ARG004
        norm_bias: Tensor | None,  # noqa: ARG004
        layer: FiringLayer,
        keeps_membrane: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(values)
        ctx.layer = layer
        ctx.set_materialize_grads(False)
        spikes = torch.empty_like(values)
        potentials = torch.empty_like(values) if keeps_membrane else values.new_empty(0, *values.shape[1:])
        layer.forward(as_rows(values), 0, as_rows(spikes), as_rows(potentials))
        return spikes.permute(0, 1, 4, 2, 3), potentials.permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, potentials: Tensor | None) -> tuple[Tensor | None, ...]:
        (values,) = ctx.saved_tensors
        layer: FiringLayer = ctx.layer
        inward = torch.zeros_like(values) if grad is None else channels_last(grad).clone()
        grad_potentials = values[:0] if potentials is None else channels_last(potentials)
        source, target = as_rows(values), as_rows(inward)
        sums = layer.backward(source, slice(0, source.shape[1]), as_rows(grad_potentials), target)
        norm_weight, norm_bias = input_gradient(layer.norm, target, source, sums, layer.threads)
        return inward, *_if_needed(ctx, norm_weight, norm_bias), None, None


def _if_needed(ctx: Any, norm_weight: Tensor, norm_bias: Tensor) -> tuple[Tensor | None, Tensor | None]:
    _, weight, bias, *_ = ctx.needs_input_grad
    return norm_weight if weight else None, norm_bias if bias else None
