"""Threads that share loops of compiled kernels and of single-threaded matrix products, as many as torch has.

torch's own threads go on spinning for milliseconds after each product, and would be in the way of the kernels. So the
products run here as well, each on one thread.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

Part = Callable[[int, int, int], None]
"""Work on a range: number of the thread, first, and where to stop."""


class Workers:
    """Threads that each take a contiguous part of a range.

    Attributes:
        count: Number of threads.
    """

    def __init__(self, count: int) -> None:
        """Start the threads; one is the thread that calls."""
        self.count = count
        self._pool = _single_threaded_pool(count) if count > 1 else None

    def run(self, work: Part, size: int) -> None:
        """Do a range of work and wait for all of it.

        Args:
            work: Called once a thread; the parts write to different places.
            size: Length of the range; of 0 there is nothing to do.
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
# A child of a fork has the pools, and none of their threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_started.clear)


def workers() -> Workers:
    """Return as many threads as torch is set to now; they are started once."""
    count = torch.get_num_threads()
    if count not in _started:
        _started[count] = Workers(count)
    return _started[count]


def _single_threaded_pool(count: int) -> ThreadPoolExecutor:
    """Start a pool whose threads run torch on one thread each, and leave all other threads as they are."""
    # All threads are started before torch is set back, as its number is also what threads to come start with.
    barrier = Barrier(count + 1)

    def settle() -> None:
        # A thread takes over torch's number when it is first asked; only then it can be given one of its own.
        torch.get_num_threads()
        torch.set_num_threads(1)
        barrier.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="tmkt-kernels")
    for _ in range(count):
        pool.submit(settle)
    barrier.wait()
    torch.set_num_threads(count)
    return pool
