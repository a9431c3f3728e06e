"""Batch normalization of sequences: per time step or over all of them, with shared or separate running statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tmkt_train.choices import BatchNormMode, BatchScope, EvalStatistics, Stream
from tmkt_train.network.collectives import merge_moments, num_ranks, sum_over_ranks


class StreamBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over (T, N, C, H, W), per time step or over all of them; N = S B for S streams in one pass.

    Streams lie one behind the other in N, and each is normalized on its own. In training with `per_step`, equal to T
    calls of `torch.nn.BatchNorm2d` on the steps of the first stream in order, then of the next, updates of the running
    statistics included; without it, to one call on T x B frames for each stream. In evaluation every step takes the
    same affine map.

    Where several ranks train, the statistics are those of the samples of all ranks if `is_global`.

    Attributes:
        streams: The streams of the next pass, see `set_streams`; their statistics are used and updated.

    Source:
        He et al., AAAI 2024, which calls one batch normalization per step, with one set for both streams.
    """

    image_mean: Tensor
    image_var: Tensor

    def __init__(self, num_channels: int, *, per_step: bool, separate: bool, is_global: bool = True) -> None:
        """Build for C channels; `separate` gives the image stream running statistics of its own."""
        super().__init__(num_channels)
        self.per_step = per_step
        self.separate = separate
        self.is_global = is_global
        self.streams: tuple[Stream, ...] = ("event",)
        if separate:
            self.register_buffer("image_mean", torch.zeros(num_channels))
            self.register_buffer("image_var", torch.ones(num_channels))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (T, N, C, H, W)."""
        first, *others = self.streams
        if self.spans_ranks:
            return self._normalize_groups(input)
        takes_steps = self.training and self.per_step
        if not others and not takes_steps:
            return self._normalize(input.flatten(0, 1), first).view(input.shape)
        if not others and input.device.type == "cpu":
            return torch.stack([self._normalize(step, first) for step in input])
        if self.training:
            return self._normalize_groups(input)
        parts = zip(input.chunk(len(self.streams), dim=1), self.streams, strict=True)
        return torch.cat([self._normalize(part.flatten(0, 1), name).view(part.shape) for part, name in parts], dim=1)

    @property
    def spans_ranks(self) -> bool:
        """Whether the next pass takes statistics over several ranks."""
        return self.training and self.is_global and num_ranks() > 1

    def has_own_statistics(self, stream: Stream) -> bool:
        """Return whether a stream has running statistics that are not those of the module's own buffers."""
        return self.separate and stream == "image"

    def running(self, stream: Stream) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance of a stream, shape (C,) each."""
        if self.has_own_statistics(stream):
            return self.image_mean, self.image_var
        mean, var = self.running_mean, self.running_var
        if mean is None or var is None:
            raise TypeError("batch norm: found no running statistics, expected those that it was built with")
        return mean, var

    def _normalize(self, frames: Tensor, stream: Stream) -> Tensor:
        if not self.has_own_statistics(stream):
            return super().forward(frames)
        mean, var = self.running(stream)
        momentum = self.momentum or 0.0
        return nn.functional.batch_norm(frames, mean, var, self.weight, self.bias, self.training, momentum, self.eps)

    def _normalize_groups(self, input: Tensor) -> Tensor:
        """Normalize each stream, or each step of it, in one call: groups are folded into the channels."""
        num_streams, num_steps, channels = len(self.streams), len(input), input.shape[2]
        parts = input.reshape(num_steps, num_streams, -1, *input.shape[2:])
        order = (2, 1, 0, 3, 4, 5) if self.per_step else (0, 2, 1, 3, 4, 5)
        parts = parts.permute(order)
        num_groups = num_streams * (num_steps if self.per_step else 1)
        frames = parts.reshape(-1, num_groups * channels, *input.shape[3:])
        scale, shift = self.weight.repeat(num_groups), self.bias.repeat(num_groups)
        if self.spans_ranks:
            result, mean, var = normalize_over_ranks(frames, scale, shift, self.eps)
        else:
            # A momentum of 1 leaves the statistics of the batch in these.
            mean, var = torch.zeros(2, num_groups * channels, dtype=self.weight.dtype, device=input.device)
            result = nn.functional.batch_norm(frames, mean, var, scale, shift, True, 1.0, self.eps)
        self._update_running(mean.view(num_streams, -1, channels), var.view(num_streams, -1, channels))
        back = [order.index(place) for place in range(6)]
        return result.view(parts.shape).permute(back).reshape(input.shape)

    @torch.no_grad()
    def _update_running(self, means: Tensor, variances: Tensor) -> None:
        """Update running statistics by those of the groups, shape (S, groups of a stream, C), one after the other."""
        factor = self.momentum or 0.0
        num_groups = means.shape[1]
        powers = torch.arange(num_groups - 1, -1, -1, device=means.device, dtype=torch.float64)
        shares = factor * (1.0 - factor) ** powers
        for stream, *found in zip(self.streams, means, variances, strict=True):
            for running, groups in zip(self.running(stream), found, strict=True):
                moved = (shares[:, None] * groups.double()).sum(dim=0)
                running.copy_(running.double() * (1.0 - factor) ** num_groups + moved)
            if self.num_batches_tracked is not None and not self.has_own_statistics(stream):
                self.num_batches_tracked.add_(num_groups)


def normalize_over_ranks(frames: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize frames by the statistics of those of all ranks; differentiable once.

    Args:
        frames: Frames of this rank, shape (N, C, H, W); all ranks together have two values or more per channel.
        weight: Shape (C,).
        bias: Shape (C,).
        eps: Added to the variance.

    Returns:
        The normalized frames, and mean and unbiased variance of each channel, shape (C,), float64, without gradient.
    """
    result: tuple[Tensor, Tensor, Tensor] = _NormalizeOverRanks.apply(frames, weight, bias, eps)
    return result


class _NormalizeOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frames: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        count = frames.numel() // frames.shape[1]
        var, mean = (part.double() for part in torch.var_mean(frames, dim=(0, 2, 3), correction=0))
        mean, squares, total = merge_moments(mean, var * count, count)
        inverse = (squares / total + eps).rsqrt().to(frames.dtype)
        center = mean.to(frames.dtype)
        ctx.save_for_backward(frames, weight, center, inverse, total)
        unbiased = squares / (total - 1)
        ctx.mark_non_differentiable(mean, unbiased)
        scale = weight * inverse
        result = torch.addcmul(_of_channels(bias - scale * center), frames, _of_channels(scale))
        return result, mean, unbiased

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        frames, weight, center, inverse, total = ctx.saved_tensors
        standard = (frames - _of_channels(center)) * _of_channels(inverse)
        own = torch.stack([grad.sum(dim=(0, 2, 3)), (grad * standard).sum(dim=(0, 2, 3))])
        means = (sum_over_ranks(own.double()) / total).to(grad.dtype)
        inward = grad - _of_channels(means[0]) - standard * _of_channels(means[1])
        return inward * _of_channels(weight * inverse), own[1], own[0], None


def _of_channels(values: Tensor) -> Tensor:
    return values[:, None, None]


def set_streams(net: nn.Module, streams: tuple[Stream, ...]) -> None:
    """Tell every batch normalization of a network which streams pass next."""
    for module in net.modules():
        if isinstance(module, StreamBatchNorm2d):
            module.streams = streams


def batch_norm(
    num_channels: int, mode: BatchNormMode, statistics: EvalStatistics = "shared", batch: BatchScope = "global"
) -> nn.Module:
    """Build a batch normalization over (T, B, C, H, W), eps 1e-5, momentum 0.1.

    Args:
        num_channels: Number of channels C.
        mode: "per-step" takes the statistics of each time step, "fused" those of all T x B frames at once, "none"
            is the identity. The first two have the same parameters and buffers, but train differently.
        statistics: "shared" keeps one set of running statistics for both streams, as KT does; "event" keeps a
            separate set for the image stream, so that evaluation on events uses statistics of events alone.
        batch: "global" takes the statistics of training over the samples of all ranks, "local" over those of this
            rank.

    Returns:
        The module.
    """
    if mode == "none":
        return nn.Identity()
    return StreamBatchNorm2d(
        num_channels, per_step=mode == "per-step", separate=statistics == "event", is_global=batch == "global"
    )
