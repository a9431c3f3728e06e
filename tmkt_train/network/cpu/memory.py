"""Memory of a pass on a CPU, so that the heap does not grow holes around what lives for long.

What lives within one layer is taken from the same buffers again and again; what lives until the way back is mapped by
itself, and given back to the system the moment nobody needs it.
"""

from __future__ import annotations

import contextlib
import mmap
import threading

import torch
from torch import Tensor

_LEAST_MAPPED = 1 << 20
"""Bytes below which the heap serves as well."""


def mapped(like: Tensor, *shape: int) -> Tensor:
    """Return memory of any content, and of the type of `like`, mapped for itself where it is large."""
    count = torch.Size(shape).numel()
    size = count * like.element_size()
    if size < _LEAST_MAPPED:
        return like.new_empty(shape)
    return torch.frombuffer(_pages(size), dtype=like.dtype, count=count).view(shape)


def _pages(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return mmap.mmap(-1, size)
    # Memory that is shared, as by default, gets no huge pages.
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # Kernels without huge pages refuse the advice, which is all that is lost.
    with contextlib.suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


class Scratch(threading.local):
    """Buffers by name, each as large as the largest that was asked for; every thread has its own."""

    def __init__(self) -> None:
        """Start with none."""
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Return memory of any content, and of the type of `like`, until the same name is taken again."""
        count = torch.Size(shape).numel()
        key = (name, like.dtype)
        if key not in self._buffers or self._buffers[key].numel() < count:
            self._buffers.pop(key, None)
            self._buffers[key] = mapped(like, count)
        return self._buffers[key][:count].view(shape)


scratch = Scratch()
