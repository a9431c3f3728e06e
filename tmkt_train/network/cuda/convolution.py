"""Convolutions of channels-last frames by torch, in the dtype of the frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_PADDED = 8
"""Channels that a half-precision convolution is padded to: tensor cores read them in groups of 8."""


def channels_last(values: Tensor) -> Tensor:
    """Return (T, N, C, H, W) as (T, N, H, W, C), contiguous."""
    return values.permute(0, 1, 3, 4, 2).contiguous()


@dataclass(frozen=True, slots=True)
class Convolution:
    """Stride, padding, dilation and groups of a convolution without bias."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Convolution:
        """Return those of a module whose padding is given in numbers."""
        padding = [part for part in conv.padding if isinstance(part, int)]
        return cls(list(conv.stride), padding, list(conv.dilation), conv.groups)

    def forward(self, frames: Tensor, weight: Tensor) -> Tensor:
        """Convolve (T, N, H, W, C); return (T, N, H', W', C')."""
        inputs = frames.flatten(0, 1).permute(0, 3, 1, 2)
        out = torch.conv2d(inputs, _cast(weight, frames), None, self.stride, self.padding, self.dilation, self.groups)
        return _by_steps(out, frames)

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
        return _by_steps(given, frames), of_weight.to(weight.dtype) if needs_weight else None


def convolve(conv: Convolution, weight: Tensor, values: Tensor) -> Tensor:
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


def _by_steps(out: Tensor, like: Tensor) -> Tensor:
    """Return (T N, C, H, W) as (T, N, H, W, C)."""
    frames = out.permute(0, 2, 3, 1).contiguous()
    return frames.view(*like.shape[:2], *frames.shape[1:])


def _cast(weight: Tensor, like: Tensor) -> Tensor:
    return weight.to(like.dtype).contiguous(memory_format=torch.channels_last)
