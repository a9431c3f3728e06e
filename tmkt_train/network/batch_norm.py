"""Batch normalization of sequences: per time step or over all of them, with shared or separate running statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmkt_train.choices import BatchNormMode, EvalStatistics, Stream


class StreamBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over (T, N, C, H, W), per time step or over all of them; N = S B for S streams in one pass.

    Streams lie one behind the other in N, and each is normalized on its own. In training with `per_step`, equal to T
    calls of `torch.nn.BatchNorm2d` on the steps of the first stream in order, then of the next, updates of the running
    statistics included; without it, to one call on T x B frames for each stream. In evaluation every step takes the
    same affine map.

    Attributes:
        streams: The streams of the next pass, see `set_streams`; their statistics are used and updated.

    Source:
        He et al., AAAI 2024, which calls one batch normalization per step, with one set for both streams.
    """

    image_mean: Tensor
    image_var: Tensor

    def __init__(self, num_channels: int, *, per_step: bool, separate: bool) -> None:
        """Build for C channels; `separate` gives the image stream running statistics of its own."""
        super().__init__(num_channels)
        self.per_step = per_step
        self.separate = separate
        self.streams: tuple[Stream, ...] = ("event",)
        if separate:
            self.register_buffer("image_mean", torch.zeros(num_channels))
            self.register_buffer("image_var", torch.ones(num_channels))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (T, N, C, H, W)."""
        first, *others = self.streams
        takes_steps = self.training and self.per_step
        if not others and not takes_steps:
            return self._normalize(input.flatten(0, 1), first).view(input.shape)
        if not others and input.device.type == "cpu":
            return torch.stack([self._normalize(step, first) for step in input])
        if self.training:
            return self._normalize_groups(input)
        parts = zip(input.chunk(len(self.streams), dim=1), self.streams, strict=True)
        return torch.cat([self._normalize(part.flatten(0, 1), name).view(part.shape) for part, name in parts], dim=1)

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
        # A momentum of 1 leaves the statistics of the batch in these.
        mean, var = torch.zeros(2, num_groups * channels, dtype=self.weight.dtype, device=input.device)
        scale, shift = self.weight.repeat(num_groups), self.bias.repeat(num_groups)
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


def set_streams(net: nn.Module, streams: tuple[Stream, ...]) -> None:
    """Tell every batch normalization of a network which streams pass next."""
    for module in net.modules():
        if isinstance(module, StreamBatchNorm2d):
            module.streams = streams


def batch_norm(num_channels: int, mode: BatchNormMode, statistics: EvalStatistics = "shared") -> nn.Module:
    """Build a batch normalization over (T, B, C, H, W), eps 1e-5, momentum 0.1.

    Args:
        num_channels: Number of channels C.
        mode: "per-step" takes the statistics of each time step, "fused" those of all T x B frames at once, "none"
            is the identity. The first two have the same parameters and buffers, but train differently.
        statistics: "shared" keeps one set of running statistics for both streams, as KT does; "event" keeps a
            separate set for the image stream, so that evaluation on events uses statistics of events alone.

    Returns:
        The module.
    """
    if mode == "none":
        return nn.Identity()
    return StreamBatchNorm2d(num_channels, per_step=mode == "per-step", separate=statistics == "event")
