"""Threads that share loops of compiled kernels and of single-threaded matrix products, as many as torch has.

torch's own threads keep spinning for milliseconds after each product and would slow the kernels down. So the products
run on these threads as well, each on one thread.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

Part = Callable[[int, int, int], None]
"""Work on part of a range: number of the thread, first index, and index to stop before."""


class Workers:
    """Threads of which each takes a contiguous part of a range.

    Attributes:
        count: Number of threads.
    """

    def __init__(self, count: int) -> None:
        """Start the threads; a count of 1 needs none beside the calling thread."""
        self.count = count
        self._pool = _single_threaded_pool(count) if count > 1 else None

    def run(self, work: Part, size: int) -> None:
        """Work on a range and wait until all of it is done.

        Args:
            work: Called once per thread; the parts must write to different memory.
            size: Length of the range, 0 or more.
        """
        if self._pool is None or size < 2:
            if size:
                work(0, 0, size)
            return
        bounds = [size * number // self.count for number in range(self.count + 1)]
        parts = [
            self._pool.submit(work, number, first, last)
            for number, (first, last) in enumerate(itertools.pairwise(bounds))
            if first < last
        ]
        for part in parts:
            part.result()


_started: dict[int, Workers] = {}
# A forked child inherits the pools without their threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_started.clear)


def workers() -> Workers:
    """Return as many threads as torch is set to use now; they are started once."""
    count = torch.get_num_threads()
    if count not in _started:
        _started[count] = Workers(count)
    return _started[count]


def _single_threaded_pool(count: int) -> ThreadPoolExecutor:
    """Start a pool whose threads run torch on one thread each; all other threads keep their setting."""
    # All threads start before torch's setting is restored, because new threads take over that setting.
    barrier = Barrier(count + 1)

    def settle() -> None:
        # A thread takes over torch's setting when it first asks for it; only after that can it have its own.
        torch.get_num_threads()
        torch.set_num_threads(1)
        barrier.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="tmkt-kernels")
    for _ in range(count):
        pool.submit(settle)
    barrier.wait()
    torch.set_num_threads(count)
    return pool
