"""Stages with their gradient: what autograd sees of the kernels.

Tensors are (T, N, H, W, C), contiguous; results are (T, N, C, H, W) with the same layout in memory. The input of the
norm is saved for backward, and where values are half precision the spikes that a convolution reads; in float32 spikes
would take half as much again, and are computed once more instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tmkt_train.choices import Surrogate
from tmkt_train.network.batch_norm import StreamBatchNorm2d
from tmkt_train.network.cuda.convolution import Convolution, channels_last
from tmkt_train.network.cuda.kernels import operators
from tmkt_train.network.cuda.kernels.launch import wide_dtype
from tmkt_train.network.cuda.normalization import Normalization

Affine = tuple[Tensor, Tensor]
"""Weight and bias of a norm, shape (C,) each, or empty without norm."""


@dataclass(frozen=True, slots=True)
class FiringLayer:
    """Norm and neurons of one layer, with pooling or without."""

    norm: Normalization
    surrogate: Surrogate
    is_pooled: bool

    def spikes(self, values: Tensor, affine: Affine, potentials: Tensor) -> Tensor:
        """Return the spikes, pooled or not, of the input of the norm; write the potentials unless they are empty."""
        steps, frames, height, width, channels = values.shape
        if self.is_pooled:
            height, width = height // 2, width // 2
        spikes = values.new_empty(steps, frames, height, width, channels)
        norm = self.norm
        operators.fire(values, norm.mean, norm.inverse, *affine, spikes, potentials, norm.num_streams, self.is_pooled)
        return spikes

    def gradient(
        self, values: Tensor, affine: Affine, spike_grad: Tensor | None, membrane_grad: Tensor | None, out: Tensor
    ) -> Affine:
        """Write the gradient of the values to `out`; return those of weight and bias of the norm."""
        norm, grads = self.norm, values.new_empty(2, values.shape[-1], dtype=wide_dtype(values))
        operators.fire_gradient(
            values,
            norm.mean,
            norm.inverse,
            *affine,
            spike_grad,
            membrane_grad,
            out,
            grads[0],
            grads[1],
            norm.num_streams,
            self.surrogate == "triangle",
            self.is_pooled,
            norm.mode != "none",
            norm.mode == "fused",
        )
        return grads[0], grads[1]


def fire(
    layer: FiringLayer, norm: StreamBatchNorm2d | None, keeps_membrane: bool, values: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Compute norm and neurons: spikes, and where asked the membrane potentials after reset.

    Args:
        layer: The layer.
        norm: Gets the gradient of weight and bias.
        keeps_membrane: Whether to return the membrane potentials.
        values: Input of the norm, shape (T, N, H, W, C).
    """
    spikes, potentials = _Fire.apply(values, *_affine(norm, values), layer, keeps_membrane)
    return spikes, potentials if keeps_membrane else None


def fire_and_convolve(layer: FiringLayer, norm: StreamBatchNorm2d | None, conv: nn.Conv2d, values: Tensor) -> Tensor:
    """Compute a stage that ends with a convolution.

    Args:
        layer: Norm and neurons, and pooling if any.
        norm: Gets the gradient of weight and bias.
        conv: The convolution; its weight is cast to the dtype of the values.
        values: Input of the norm, shape (T, N, H, W, C).
    """
    call = layer, Convolution.of(conv)
    result: Tensor = _FireAndConvolve.apply(values, *_affine(norm, values), conv.weight, call)
    return result


def _affine(norm: StreamBatchNorm2d | None, values: Tensor) -> Affine:
    if norm is None:
        empty = values.new_empty(0, dtype=wide_dtype(values))
        return empty, empty
    return norm.weight, norm.bias


class _FireAndConvolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weight: Tensor,
        call: tuple[FiringLayer, Convolution],
    ) -> Tensor:
        layer, conv = ctx.call = call
        spikes = layer.spikes(values, (norm_weight, norm_bias), values.new_empty(0))
        kept = [spikes] if values.dtype.itemsize == 2 else []
        ctx.save_for_backward(values, norm_weight, norm_bias, weight, *kept)
        return conv.forward(spikes, weight).permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, norm_weight, norm_bias, weight, *kept = ctx.saved_tensors
        layer, conv = ctx.call
        affine = norm_weight, norm_bias
        spikes = kept[0] if kept else layer.spikes(values, affine, values.new_empty(0))
        spike_grad, weight_grad = conv.backward(channels_last(grad), spikes, weight, ctx.needs_input_grad[3])
        del spikes, kept
        out = torch.empty_like(values) if layer.is_pooled else spike_grad
        grads = layer.gradient(values, affine, spike_grad, None, out)
        return out, *_if_needed(ctx, grads), weight_grad, None


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, norm_weight: Tensor, norm_bias: Tensor, layer: FiringLayer, keeps_membrane: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(values, norm_weight, norm_bias)
        ctx.layer = layer
        ctx.set_materialize_grads(False)
        potentials = torch.empty_like(values) if keeps_membrane else values.new_empty(0, *values.shape[1:])
        spikes = layer.spikes(values, (norm_weight, norm_bias), potentials)
        return spikes.permute(0, 1, 4, 2, 3), potentials.permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, potentials: Tensor | None) -> tuple[Tensor | None, ...]:
        values, norm_weight, norm_bias = ctx.saved_tensors
        of_spikes = None if grad is None else channels_last(grad)
        of_membranes = None if potentials is None or not potentials.numel() else channels_last(potentials)
        if of_spikes is None and of_membranes is None:
            return None, None, None, None, None
        out = torch.empty_like(values)
        grads = ctx.layer.gradient(values, (norm_weight, norm_bias), of_spikes, of_membranes, out)
        return out, *_if_needed(ctx, grads), None, None


def _if_needed(ctx: Any, grads: Affine) -> tuple[Tensor | None, Tensor | None]:
    _, weight, bias, *_ = ctx.needs_input_grad
    return grads[0] if weight else None, grads[1] if bias else None
