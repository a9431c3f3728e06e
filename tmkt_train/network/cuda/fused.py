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
from tmkt_train.network.cuda.kernels import operators
from tmkt_train.network.cuda.kernels.launch import wide_dtype
from tmkt_train.network.cuda.normalization import Normalization


def channels_last(values: Tensor) -> Tensor:
    """Return (T, N, C, H, W) as (T, N, H, W, C), contiguous."""
    return values.permute(0, 1, 3, 4, 2).contiguous()


@dataclass(frozen=True, slots=True)
class FiringLayer:
    """Norm and neurons of one layer, with pooling or without."""

    mode: str
    num_streams: int
    surrogate: Surrogate
    is_pooled: bool

    def spikes(self, values: Tensor, parameters: tuple[Tensor, ...], potentials: Tensor) -> Tensor:
        """Return spikes, pooled or not, of the input of the norm; write the potentials unless they are empty."""
        steps, frames, height, width, channels = values.shape
        if self.is_pooled:
            height, width = height // 2, width // 2
        spikes = values.new_empty(steps, frames, height, width, channels)
        operators.fire(values, *parameters, spikes, potentials, self.num_streams, self.is_pooled)
        return spikes

    def gradient(
        self,
        values: Tensor,
        parameters: tuple[Tensor, ...],
        spike_grad: Tensor | None,
        membrane_grad: Tensor | None,
        out: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Write the gradient of the values to `out`; return those of weight and bias of the norm."""
        affine = torch.empty(2, values.shape[-1], dtype=wide_dtype(values), device=values.device)
        operators.fire_gradient(
            values,
            *parameters,
            spike_grad,
            membrane_grad,
            out,
            affine[0],
            affine[1],
            self.num_streams,
            self.surrogate == "triangle",
            self.is_pooled,
            self.mode != "none",
            self.mode == "fused",
        )
        return affine[0], affine[1]


def fire(
    layer: FiringLayer, norm: StreamBatchNorm2d | None, found: Normalization, keeps_membrane: bool, values: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Compute norm and neurons: spikes, and where asked the membrane potentials after reset.

    Args:
        layer: The layer.
        norm: Gets the gradient of weight and bias.
        found: What the norm does.
        keeps_membrane: Whether to return the membrane potentials; not with pooling.
        values: Input of the norm, shape (T, N, H, W, C).
    """
    spikes, potentials = _Fire.apply(values, *_affine(norm, values), found, layer, keeps_membrane)
    return spikes, potentials if keeps_membrane else None


def fire_and_convolve(
    layer: FiringLayer, norm: StreamBatchNorm2d | None, found: Normalization, conv: nn.Conv2d, values: Tensor
) -> Tensor:
    """Compute a stage that ends with a convolution.

    Args:
        layer: Norm and neurons, and pooling if any.
        norm: Gets the gradient of weight and bias.
        found: What the norm does.
        conv: The convolution; its weight is cast to the dtype of the values.
        values: Input of the norm, shape (T, N, H, W, C).
    """
    result: Tensor = _FireAndConvolve.apply(
        values, *_affine(norm, values), conv.weight, found, (layer, Geometry.of(conv))
    )
    return result


def _affine(norm: StreamBatchNorm2d | None, values: Tensor) -> tuple[Tensor, Tensor]:
    if norm is None:
        empty = values.new_empty(0, dtype=wide_dtype(values))
        return empty, empty
    return norm.weight, norm.bias


@dataclass(frozen=True, slots=True)
class Geometry:
    """Stride, padding, dilation and groups of a convolution."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Geometry:
        """Return those of a module whose padding is given in numbers."""
        padding = [part for part in conv.padding if isinstance(part, int)]
        return cls(list(conv.stride), padding, list(conv.dilation), conv.groups)

    def forward(self, frames: Tensor, weight: Tensor) -> Tensor:
        """Convolve (T, N, H, W, C); return (T, N, H', W', C')."""
        inputs = frames.flatten(0, 1).permute(0, 3, 1, 2)
        out = torch.conv2d(inputs, _cast(weight, frames), None, self.stride, self.padding, self.dilation, self.groups)
        return _steps(out, frames)

    def backward(
        self, grad: Tensor, frames: Tensor, weight: Tensor, needs_weight: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients of the frames (T, N, H, W, C), which the caller owns, and of the weight."""
        given, of_weight, _ = torch.ops.aten.convolution_backward(
            grad.flatten(0, 1).permute(0, 3, 1, 2),
            frames.flatten(0, 1).permute(0, 3, 1, 2),
            _cast(weight, frames),
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0, 0],
            self.groups,
            [True, needs_weight, False],
        )
        inward = _steps(given, frames)
        return inward, of_weight.to(weight.dtype) if needs_weight else None


def _steps(out: Tensor, like: Tensor) -> Tensor:
    """Return (T N, C, H, W) as (T, N, H, W, C)."""
    found = out.permute(0, 2, 3, 1).contiguous()
    return found.view(*like.shape[:2], *found.shape[1:])


def _cast(weight: Tensor, like: Tensor) -> Tensor:
    return weight.to(like.dtype).contiguous(memory_format=torch.channels_last)


_PADDED = 8
"""Channels that a half-precision convolution is padded to: tensor cores read them in groups of 8."""


def convolve(conv: Geometry, weight: Tensor, values: Tensor) -> Tensor:
    """Compute a convolution alone, with its gradient.

    Half-precision frames of a few channels, those of the input, get channels of zeros.

    Args:
        conv: The convolution.
        weight: Its weight; cast to the dtype of the values.
        values: Shape (T, N, C, H, W).

    Returns:
        Shape (T, N, C', H', W').
    """
    frames, channels = channels_last(values), values.shape[2]
    if values.dtype.itemsize == 2 and channels < _PADDED and conv.groups == 1:
        frames = nn.functional.pad(frames, (0, _PADDED - channels))
        weight = nn.functional.pad(weight, (0, 0, 0, 0, 0, _PADDED - channels))
    return conv.forward(frames, weight).permute(0, 1, 4, 2, 3)


class _FireAndConvolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weight: Tensor,
        found: Normalization,
        call: tuple[FiringLayer, Geometry],
    ) -> Tensor:
        ctx.call = call
        layer, conv = call
        parameters = found.mean, found.inverse, norm_weight, norm_bias
        spikes = layer.spikes(values, parameters, values[:0])
        kept = [spikes] if values.dtype.itemsize == 2 else []
        ctx.save_for_backward(values, weight, *parameters, *kept)
        return conv.forward(spikes, weight).permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, *rest = ctx.saved_tensors
        parameters = tuple(rest[:4])
        layer, conv = ctx.call
        spikes = rest[4] if len(rest) > 4 else layer.spikes(values, parameters, values[:0])
        needs_weight = ctx.needs_input_grad[3]
        spike_grad, weight_grad = conv.backward(channels_last(grad), spikes, weight, needs_weight)
        del spikes, rest
        out = torch.empty_like(values) if layer.is_pooled else spike_grad
        affine = layer.gradient(values, parameters, spike_grad, None, out)
        return out, *_if_needed(ctx, affine), weight_grad, None, None


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        found: Normalization,
        layer: FiringLayer,
        keeps_membrane: bool,
    ) -> tuple[Tensor, Tensor]:
        parameters = found.mean, found.inverse, norm_weight, norm_bias
        ctx.save_for_backward(values, *parameters)
        ctx.layer = layer
        ctx.set_materialize_grads(False)
        potentials = torch.empty_like(values) if keeps_membrane else values.new_empty(0, *values.shape[1:])
        spikes = layer.spikes(values, parameters, potentials)
        return spikes.permute(0, 1, 4, 2, 3), potentials.permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, potentials: Tensor | None) -> tuple[Tensor | None, ...]:
        values, *parameters = ctx.saved_tensors
        if grad is None and potentials is None:
            return None, None, None, None, None, None
        of_spikes = None if grad is None else channels_last(grad)
        of_membranes = None if potentials is None or not potentials.numel() else channels_last(potentials)
        out = torch.empty_like(values)
        affine = ctx.layer.gradient(values, tuple(parameters), of_spikes, of_membranes, out)
        return out, *_if_needed(ctx, affine), None, None, None


def _if_needed(ctx: Any, affine: tuple[Tensor, Tensor]) -> tuple[Tensor | None, Tensor | None]:
    _, weight, bias, *_ = ctx.needs_input_grad
    return affine[0] if weight else None, affine[1] if bias else None
