"""Batch normalization of sequences: per time step or over all of them, with shared or separate running statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmkt_train.choices import BatchNormMode, EvalStatistics, Stream


class StreamBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over (T, B, C, H, W), per time step or over all of them.

    In training with `per_step`, equal to T calls of `torch.nn.BatchNorm2d` on the steps in order, T updates of the
    running statistics included; without it, to one call on T x B frames. In evaluation every step takes the same
    affine map, in one call.

    Attributes:
        stream: Whose running statistics the next pass uses and updates, see `set_stream`; ignored by a shared set.

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
        self.stream: Stream = "event"
        if separate:
            self.register_buffer("image_mean", torch.zeros(num_channels))
            self.register_buffer("image_var", torch.ones(num_channels))

    @property
    def has_image_statistics(self) -> bool:
        """Whether the next pass uses the running statistics of the image stream alone."""
        return self.separate and self.stream == "image"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (T, B, C, H, W)."""
        if self.training and self.per_step:
            return torch.stack([self._normalize(step) for step in input])
        return self._normalize(input.flatten(0, 1)).view(input.shape)

    def running(self) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance of the stream, shape (C,) each."""
        if self.has_image_statistics:
            return self.image_mean, self.image_var
        mean, var = self.running_mean, self.running_var
        if mean is None or var is None:
            raise TypeError("batch norm: found no running statistics, expected those that it was built with")
        return mean, var

    def _normalize(self, frames: Tensor) -> Tensor:
        if not self.has_image_statistics:
            return super().forward(frames)
        mean, var = self.running()
        momentum = self.momentum or 0.0
        return nn.functional.batch_norm(frames, mean, var, self.weight, self.bias, self.training, momentum, self.eps)


def set_stream(net: nn.Module, stream: Stream) -> None:
    """Tell every batch normalization of a network which stream passes next."""
    for module in net.modules():
        if isinstance(module, StreamBatchNorm2d):
            module.stream = stream


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
