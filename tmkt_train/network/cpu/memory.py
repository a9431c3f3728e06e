"""Memory of a pass on a CPU, allocated so that the heap does not fragment.

What lives within one layer is taken from reused buffers; what lives until backward has a memory mapping of its own,
which returns to the system as soon as nothing refers to it.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MIN_MAPPED = 1 << 20
"""Bytes below which the heap does as well."""
_NARROW, _WIDTH = 64, 320
"""Channels below which rows are folded, and the most that a folded row has."""


def as_rows(values: Tensor) -> NDArray[np.floating[Any]]:
    """Return (T, B, H, W, C) as an array (T, B H W, C) of the same memory."""
    rows: NDArray[np.floating[Any]] = values.detach().flatten(1, 3).numpy()
    return rows


def fold_factor(num_channels: int, *row_counts: int) -> int:
    """Return how many rows of few channels kernels take as one row, so that their inner loops fill vectors.

    Args:
        num_channels: Channels of a row.
        row_counts: Numbers of rows that the factor has to divide.
    """
    common = math.gcd(*row_counts)
    widest = _WIDTH // num_channels if num_channels < _NARROW else 1
    return next((factor for factor in range(min(widest, common), 1, -1) if common % factor == 0), 1)


def fold(rows: NDArray[Any], factor: int) -> NDArray[Any]:
    """View rows (T, P, C) as (T, P / factor, factor C)."""
    num_time_steps, num_rows, num_channels = rows.shape
    return rows.reshape(num_time_steps, num_rows // factor, factor * num_channels)


def mapped(like: Tensor, *shape: int) -> Tensor:
    """Return uninitialized memory with the dtype of `like`, in a mapping of its own where it is large."""
    count = torch.Size(shape).numel()
    size = count * like.element_size()
    if size < _MIN_MAPPED:
        return like.new_empty(shape)
    return torch.frombuffer(_pages(size), dtype=like.dtype, count=count).view(shape)


def _pages(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return mmap.mmap(-1, size)
    # Shared memory, the default, gets no huge pages.
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A system without huge pages refuses the advice; nothing else is lost.
    with contextlib.suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


class Scratch(threading.local):
    """Buffers by name, each as large as the largest one asked for so far; every thread has its own."""

    def __init__(self) -> None:
        """Start with none."""
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Return uninitialized memory with the dtype of `like`, valid until the same name is taken again."""
        count = torch.Size(shape).numel()
        key = (name, like.dtype)
        if key not in self._buffers or self._buffers[key].numel() < count:
            self._buffers.pop(key, None)
            self._buffers[key] = mapped(like, count)
        return self._buffers[key][:count].view(shape)


scratch = Scratch()
