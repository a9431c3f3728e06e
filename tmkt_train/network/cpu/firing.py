"""Neurons of one layer over rows of memory, a few samples at a time: what the fused layers are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tmkt_train.choices import Surrogate
from tmkt_train.network.cpu.kernels.neurons import fire, fire_gradient
from tmkt_train.network.cpu.kernels.pooling import pool, unpool
from tmkt_train.network.cpu.memory import scratch
from tmkt_train.network.cpu.normalization import Normalization
from tmkt_train.network.cpu.workers import Workers
from tmkt_train.network.neurons import THRESHOLD

Floats = NDArray[np.floating[Any]]

_CHUNK = 3 << 19
"""Spikes of the samples that run at a time, 6 MiB in float32."""
_ROWS = 4096
"""Neurons whose recurrence runs at a time: their state fits the first-level cache."""
_PARTS = 16
"""Parts that sums over places are cut into, always the same, so that threads do not change their digits."""


def as_rows(values: Tensor) -> Floats:
    """Return (T, B, H, W, C) as an array (T, B H W, C) of the same memory."""
    rows: Floats = values.detach().flatten(1, 3).numpy()
    return rows


@dataclass(frozen=True, slots=True)
class FiringLayer:
    """Normalization and neurons of one layer, over rows (T, P, C)."""

    norm: Normalization
    surrogate: Surrogate
    threads: Workers

    def fire(self, values: Floats, start: int, spikes: Floats, potentials: Floats) -> None:
        """Write the spikes, and potentials if any, of the rows from `start` on."""
        state = np.empty((self.threads.count, *self._tile(values)), values.dtype)
        self.threads.run(
            lambda part, first, last: fire(
                values,
                self.norm.scale,
                self.norm.shift,
                THRESHOLD,
                start,
                state[part],
                spikes,
                potentials,
                first,
                last,
            ),
            spikes.shape[1],
        )

    def fire_back(self, values: Floats, rows: slice, potentials: Floats, grad: Floats) -> NDArray[np.float64]:
        """Take the gradient of the spikes of some rows back to the normalized values, in place; return its sums."""
        tile = self._tile(values)
        num_steps, _, num_channels = values.shape
        charges = np.empty((self.threads.count, num_steps, *tile), values.dtype)
        later = np.empty((self.threads.count, *tile), values.dtype)
        sums = np.zeros((_PARTS, 2, num_steps, num_channels))
        bounds = [rows.start + (rows.stop - rows.start) * part // _PARTS for part in range(_PARTS + 1)]

        def some(thread: int, first: int, last: int) -> None:
            for part in range(first, last):
                fire_gradient(
                    values,
                    self.norm.scale,
                    self.norm.shift,
                    self.norm.mean,
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
        return total

    @staticmethod
    def _tile(values: Floats) -> tuple[int, int]:
        return max(1, _ROWS // values.shape[2]), values.shape[2]


class Chunks:
    """Samples of a batch in groups, and where their frames lie in (T, B, ...) seen as (T B, ...)."""

    def __init__(self, values: Tensor) -> None:
        """Cut values (T, B, H, W, C)."""
        self.num_steps, self.batch, self.height, self.width, self.channels = values.shape
        per_sample = self.num_steps * self.height * self.width * self.channels
        self._step = max(1, _CHUNK // per_sample)

    def __iter__(self) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Yield rows of (T, B H W, C), and the numbers of the frames, step by step."""
        per_frame = self.height * self.width
        for first in range(0, self.batch, self._step):
            last = min(first + self._step, self.batch)
            frames = np.arange(self.num_steps)[:, None] * self.batch + np.arange(first, last)
            yield slice(first * per_frame, last * per_frame), frames.reshape(-1)


def spike_frames(layer: FiringLayer, values: Tensor, rows: slice, pooled: bool) -> Tensor:
    """Return the spikes of some rows as frames (F, H, W, C), averaged over 2 x 2 pixels where they are pooled."""
    num_steps, _, height, width, channels = values.shape
    spikes = scratch.take("spikes", values, num_steps, rows.stop - rows.start, channels)
    layer.fire(as_rows(values), rows.start, spikes.numpy(), spikes[:0].numpy())
    frames = spikes.view(-1, height, width, channels)
    if not pooled:
        return frames
    out = scratch.take("pooled", frames, len(frames), height // 2, width // 2, channels)
    source, target = frames.numpy(), out.numpy()
    layer.threads.run(lambda _, first, last: pool(source, target, first, last), len(frames) * (height // 2))
    return out


def unpool_frames(threads: Workers, small: Tensor, frames: NDArray[np.int64], out: Tensor) -> None:
    """Spread the gradient of averages (F, H // 2, W // 2, C) over the frames `frames` of `out`, (F', H, W, C)."""
    source, target = small.numpy(), out.numpy()
    threads.run(lambda _, first, last: unpool(source, frames, target, first, last), len(frames) * out.shape[1])
