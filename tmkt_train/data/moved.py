"""Changes of log intensity of moving images in torch alone, on any device; equal to `tmkt_data.kernels.contrast`.

A step along a path is a 2 x 2 convolution whose four weights are those of each sample: what a cell sees lies between
the columns of two rows, and then between these rows. Each operation rounds by itself, products and sums are never
contracted to one, so results are those of the CPU bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_data import PairedFrames
from tmkt_data.images.log_intensity import Motion
from tmkt_data.pairs.image_side import ImageSide

_NUM_BOX_COLUMNS = 4


def motion_columns(motion: Motion) -> NDArray[np.int64]:
    """Pack motions into integers, shape (B, 4 + T S + 1): two numbers of 32 bits in each."""
    packed = np.concatenate([motion.boxes, motion.windows], axis=1).view(np.int64)
    return np.concatenate([packed, motion.paths.view(np.int64)[:, :, 0]], axis=1)


class _Seen(NamedTuple):
    """Log intensity of images, shape (B, H W), and the rows and columns that each covers, shape (4, 1, B, 1)."""

    levels: Tensor
    boxes: Tensor


class MovedImages:
    """Images that move along the paths of their samples, each of H x W cells or of K times as many on each side."""

    def __init__(self, frames: PairedFrames, side: ImageSide, device: torch.device) -> None:
        from tmkt_data.kernels.contrast import CHANGES_PER_UNIT, MAX_CHANGE

        spec = frames.spec
        self._per_unit, self._most = CHANGES_PER_UNIT, MAX_CHANGE
        self._num_bins, self._num_channels = frames.num_time_bins, frames.num_channels
        self._size, self._pooled = frames.size, spec.image_scale
        self._is_swapped = spec.polarity == "inverted"
        self._levels = torch.from_numpy(np.array(side.levels)).to(device)
        height, width = (self._pooled * cells for cells in frames.size)
        self._row, self._column = torch.arange(height, device=device), torch.arange(width, device=device)

    def changes(self, stored: Tensor, columns: Tensor) -> Tensor:
        """Return the changes in each time bin, in 1 / `CHANGES_PER_UNIT`.

        Args:
            stored: Intensities, shape (B, K H K W), uint8.
            columns: Their motions, see `motion_columns`.

        Returns:
            Shape (T, B, H W, C), int64: OFF and ON, or brightening minus darkening.
        """
        places = columns[:, :_NUM_BOX_COLUMNS].contiguous().view(torch.int32).long().t().view(8, 1, -1, 1)
        paths = columns[:, _NUM_BOX_COLUMNS:].contiguous().view(torch.float32).view(len(columns), -1, 2).transpose(0, 1)
        seen = _Seen(self._levels[stored.int()], places[:4])
        found = self._signed(seen, paths) if self._num_channels == 1 else self._both(seen, paths)
        found = self._pool(found.masked_fill(self._outside(places[4:]), 0))
        if self._is_swapped:
            found = -found if self._num_channels == 1 else found.flip(-1)
        return found.flatten(2, 3)

    def _both(self, seen: _Seen, paths: Tensor) -> Tensor:
        parts = (len(paths) - 1) // self._num_bins
        before = start = self._level(seen, paths[:-1:parts])
        up = torch.zeros_like(start)
        for part in range(1, parts + 1):
            level = self._level(seen, paths[part::parts])
            up, before = up + (level - before).clamp_min(0), level
        on = up * self._per_unit + 0.5
        off = (up - (before - start)) * self._per_unit + 0.5
        return torch.stack((off, on), -1).clamp(0, self._most).long()

    def _signed(self, seen: _Seen, paths: Tensor) -> Tensor:
        parts = (len(paths) - 1) // self._num_bins
        ends = self._level(seen, paths[::parts])
        found = (ends[1:] - ends[:-1]) * self._per_unit + (self._most + 0.5)
        return (found.clamp(0, 2 * self._most).long() - self._most)[..., None]

    def _level(self, seen: _Seen, steps: Tensor) -> Tensor:
        """Return what cells see of images moved by some steps, shape (N, B, 2), as (N, B, H, W)."""
        shift = -steps
        cell = shift.floor()
        right, down = ((shift - cell)[..., axis, None, None] for axis in (0, 1))
        column, row = (cell[..., axis, None].long() for axis in (0, 1))
        top, bottom, left, after = seen.boxes
        rows = self._row + row, self._row + row + 1
        columns = self._column + column, self._column + column + 1
        upper, lower = (torch.minimum(torch.maximum(at, top), bottom - 1)[..., :, None] for at in rows)
        near, far = (torch.minimum(torch.maximum(at, left), after - 1)[..., None, :] for at in columns)
        above = _between(self._at(seen, upper, near), self._at(seen, upper, far), right)
        below = _between(self._at(seen, lower, near), self._at(seen, lower, far), right)
        return _between(above, below, down)

    def _at(self, seen: _Seen, rows: Tensor, columns: Tensor) -> Tensor:
        sample = torch.arange(len(seen.levels), device=rows.device)[None, :, None, None]
        return seen.levels[sample, rows * self._column.numel() + columns]

    def _outside(self, windows: Tensor) -> Tensor:
        """Return which cells lie outside of the windows of their samples, shape (1, B, H, W, 1)."""
        top, bottom, left, after = windows
        row = (self._row < top) | (self._row >= bottom)
        column = (self._column < left) | (self._column >= after)
        outside: Tensor = (row[..., :, None] | column[..., None, :])[..., None]
        return outside

    def _pool(self, changes: Tensor) -> Tensor:
        """Average changes over squares of cells, rounded to the nearest, halves up."""
        side = self._pooled
        if side == 1:
            return changes
        num_bins, num_samples, *_, num_channels = changes.shape
        height, width = self._size
        total = changes.view(num_bins, num_samples, height, side, width, side, num_channels).sum((3, 5))
        area = side * side
        return torch.div(2 * total + area, 2 * area, rounding_mode="floor")


def _between(near: Tensor, far: Tensor, share: Tensor) -> Tensor:
    return near + share * (far - near)
