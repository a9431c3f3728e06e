"""Norm and neurons of one layer over rows of memory, a few samples at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tmkt_train.choices import Surrogate
from tmkt_train.network.cpu.kernels.lif import fire, fire_gradient
from tmkt_train.network.cpu.kernels.pooling import pool, unpool
from tmkt_train.network.cpu.memory import as_rows, fold, fold_factor, scratch
from tmkt_train.network.cpu.normalization import Normalization
from tmkt_train.network.cpu.workers import Workers
from tmkt_train.network.neurons import THRESHOLD

Floats = NDArray[np.floating[Any]]

_CHUNK = 3 << 19
"""Spikes of the samples that run at a time, 6 MiB in float32."""
_ROWS = 4096
"""Neurons whose recurrence runs at a time: their state fits the first-level cache."""
_PARTS = 16
"""Parts that sums over rows are cut into, whatever the number of threads, so that threads do not change the result."""


@dataclass(frozen=True, slots=True)
class FiringLayer:
    """Norm and neurons of one layer, over rows (T, P, C)."""

    norm: Normalization
    surrogate: Surrogate
    threads: Workers

    def forward(self, values: Floats, start: int, spikes: Floats, potentials: Floats) -> None:
        """Write the spikes, and unless it is empty the potentials, of the rows from `start` on."""
        factor = fold_factor(values.shape[2], values.shape[1], start, spikes.shape[1])
        values, spikes, potentials = (fold(rows, factor) for rows in (values, spikes, potentials))
        scale, shift = (np.tile(part, factor) for part in (self.norm.scale, self.norm.shift))
        state = np.empty((self.threads.count, *_tile(values)), values.dtype)
        self.threads.run(
            lambda part, first, last: fire(
                values, scale, shift, THRESHOLD, start // factor, state[part], spikes, potentials, first, last
            ),
            spikes.shape[1],
        )

    def backward(self, values: Floats, rows: slice, potentials: Floats, grad: Floats) -> NDArray[np.float64]:
        """Turn the gradient of spikes into that of the output of the norm, in place, and sum it over the rows.

        Args:
            values: Input of the norm, shape (T, P, C).
            rows: The rows to compute.
            potentials: Gradient of the potentials, shape (T, P, C), or (0, P, C) for none.
            grad: Changed: gradient of the spikes, shape (T, P, C).

        Returns:
            Sums over the rows of the new gradient, and of it times (values - mean), shape (2, T, C).
        """
        num_time_steps, num_rows, num_channels = values.shape
        factor = fold_factor(num_channels, num_rows, rows.start, rows.stop)
        values, potentials, grad = (fold(part, factor) for part in (values, potentials, grad))
        scale, shift, mean = (np.tile(part, factor) for part in (self.norm.scale, self.norm.shift, self.norm.mean))
        tile = _tile(values)
        charges = np.empty((self.threads.count, num_time_steps, *tile), values.dtype)
        later = np.empty((self.threads.count, *tile), values.dtype)
        sums = np.zeros((_PARTS, 2, num_time_steps, values.shape[2]))
        start, count = rows.start // factor, (rows.stop - rows.start) // factor
        bounds = [start + count * part // _PARTS for part in range(_PARTS + 1)]

        def some(thread: int, first: int, last: int) -> None:
            for part in range(first, last):
                fire_gradient(
                    values,
                    scale,
                    shift,
                    mean,
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
        return total.reshape(2, num_time_steps, factor, num_channels).sum(axis=2) if factor > 1 else total


def _tile(values: Floats) -> tuple[int, int]:
    return max(1, _ROWS // values.shape[2]), values.shape[2]


class Chunks:
    """Groups of samples of a batch, and where their frames are in (T, B, ...) seen as (T B, ...)."""

    def __init__(self, values: Tensor) -> None:
        """Split values (T, B, H, W, C)."""
        self.num_time_steps, self.batch, self.height, self.width, num_channels = values.shape
        per_sample = self.num_time_steps * self.height * self.width * num_channels
        self._step = max(1, _CHUNK // per_sample)

    def __iter__(self) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Yield rows of (T, B H W, C), and the indices of their frames, time step by time step."""
        per_frame = self.height * self.width
        for first in range(0, self.batch, self._step):
            last = min(first + self._step, self.batch)
            frames = np.arange(self.num_time_steps)[:, None] * self.batch + np.arange(first, last)
            yield slice(first * per_frame, last * per_frame), frames.reshape(-1)


def spike_frames(layer: FiringLayer, values: Tensor, rows: slice, is_pooled: bool) -> Tensor:
    """Compute the spikes of some rows as frames (F, H, W, C), or averages of 2 x 2 pixels of them."""
    num_time_steps, _, height, width, channels = values.shape
    spikes = scratch.take("spikes", values, num_time_steps, rows.stop - rows.start, channels)
    layer.forward(as_rows(values), rows.start, spikes.numpy(), spikes[:0].numpy())
    frames = spikes.view(-1, height, width, channels)
    if not is_pooled:
        return frames
    out = scratch.take("pooled", frames, len(frames), height // 2, width // 2, channels)
    source, target = frames.numpy(), out.numpy()
    layer.threads.run(lambda _, first, last: pool(source, target, first, last), len(frames) * (height // 2))
    return out


def unpool_frames(threads: Workers, small: Tensor, frames: NDArray[np.int64], out: Tensor) -> None:
    """Spread the gradient of averages (F, H // 2, W // 2, C) over the frames `frames` of `out`, (F', H, W, C)."""
    source, target = small.numpy(), out.numpy()
    threads.run(lambda _, first, last: unpool(source, frames, target, first, last), len(frames) * out.shape[1])
