"""Batch normalization of several streams as parameters per stream and step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tmkt_train.choices import BatchNormMode
from tmkt_train.network.batch_norm import StreamBatchNorm2d
from tmkt_train.network.cuda.kernels import operators
from tmkt_train.network.cuda.kernels.launch import wide_dtype


@dataclass(frozen=True, slots=True)
class Normalization:
    """What a batch normalization does to values: weight (y - mean) inverse + bias.

    Attributes:
        mean: Shape (S, T, C), or empty without norm.
        inverse: One over the standard deviation, epsilon included, shape (S, T, C), or empty.
        mode: How mean and deviation depend on the values: "per-step", each on those of its stream and time step;
            "fused", on those of all steps of its stream; "none" in evaluation and without batch norm.
        num_streams: S.
    """

    mean: Tensor
    inverse: Tensor
    mode: BatchNormMode
    num_streams: int


@torch.no_grad()
def normalization(norm: StreamBatchNorm2d | None, values: Tensor) -> Normalization:
    """Return what a batch normalization does to its input, and update its running statistics in training mode.

    Args:
        norm: The layer; None: the identity.
        values: Shape (T, S B, H, W, C), with at least 2 values per stream, step and channel.
    """
    num_time_steps, num_channels = values.shape[0], values.shape[-1]
    if norm is None:
        empty = values.new_empty(0, dtype=wide_dtype(values))
        return Normalization(empty, empty, "none", 1)
    streams = norm.streams
    running = [part for stream in streams for part in norm.running(stream)]
    num_streams = len(streams)
    if not norm.training:
        mean = torch.stack(running[0::2])[:, None].expand(-1, num_time_steps, -1).contiguous()
        inverse = (torch.stack(running[1::2]) + norm.eps).rsqrt()[:, None].expand(-1, num_time_steps, -1).contiguous()
        return Normalization(mean, inverse, "none", num_streams)
    mean, variance, inverse = values.new_empty(3, num_streams, num_time_steps, num_channels, dtype=wide_dtype(values))
    counted = sum(1 for stream in streams if not norm.has_own_statistics(stream))
    updates = counted * (num_time_steps if norm.per_step else 1)
    operators.batch_statistics(
        values,
        mean,
        variance,
        inverse,
        running,
        norm.num_batches_tracked,
        updates,
        norm.momentum or 0.0,
        norm.eps,
        not norm.per_step,
    )
    return Normalization(mean, inverse, "per-step" if norm.per_step else "fused", num_streams)
