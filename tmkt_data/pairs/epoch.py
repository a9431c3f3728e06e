"""The epoch of a dataset, shared with the worker processes that read it."""

from __future__ import annotations

import os
import pickle
from threading import Lock
from typing import Any

from tmkt_data.errors import PairingError

_CELLS_PER_PAGE = 512
_taking = Lock()
_pages: list[tuple[int, Any, int]] = []
"""Shared memory of this process: process id, cells, and the number of cells in use.

Pages are kept until the process ends: a worker may outlive the dataset here, and must not see the epoch of another one.
"""


class SharedEpoch:
    """An epoch in shared memory: set by the process that made it, seen at once by every worker process.

    Workers get it by fork, or by being pickled for a process that is being started (spawn, forkserver). Any other copy
    has an epoch of its own. A process that sets an epoch that it was given leaves the shared one: training loops in
    several processes do not disturb each other.

    Args:
        epoch: The epoch at first, 0 to 2**63 - 1.

    Raises:
        PairingError: There is no shared memory.

    Example:
        >>> epoch = SharedEpoch(3)
        >>> epoch.set(4)
        >>> epoch.get()
        4
    """

    def __init__(self, epoch: int = 0) -> None:
        self._left: tuple[Any, int, int] | None = None
        self._cells, self._at, self._process = *_take_cell(), os.getpid()
        self._cells[self._at] = epoch

    def get(self) -> int:
        """Return the epoch.

        Raises:
            PairingError: It was set here, and since then by the process that it came from.
        """
        if self._left is not None:
            cells, at, epoch = self._left
            if cells[at] != epoch:
                raise PairingError(
                    f"epoch: set to {self._cells[self._at]} in this process, and to {cells[at]} in the one that made "
                    "the dataset; set it there alone, or make a dataset in each process"
                )
        return int(self._cells[self._at])

    def set(self, epoch: int) -> None:
        """Set the epoch, 0 to 2**63 - 1."""
        if self._process != os.getpid():
            self._left = self._cells, self._at, self._cells[self._at]
            self._cells, self._at, self._process = *_take_cell(), os.getpid()
        self._cells[self._at] = epoch

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.context import get_spawning_popen
        from multiprocessing.reduction import ForkingPickler

        if get_spawning_popen() is None:
            return SharedEpoch, (self.get(),)
        # Pickled here, so that whatever pickles the dataset cannot copy the memory instead of sharing it.
        state = bytes(ForkingPickler.dumps(self._cells)), self._at, self._process
        return SharedEpoch.__new__, (SharedEpoch,), state

    def __setstate__(self, state: tuple[bytes, int, int]) -> None:
        cells, self._at, self._process = state
        self._cells, self._left = pickle.loads(cells), None  # noqa: S301 - of this program, by __reduce__


def _take_cell() -> tuple[Any, int]:
    # Imported late: this takes 50 ms.
    from multiprocessing.sharedctypes import RawArray

    with _taking:
        process, cells, used = _pages[-1] if _pages else (0, None, 0)
        if process == os.getpid() and used < _CELLS_PER_PAGE:
            _pages[-1] = process, cells, used + 1
            return cells, used
        try:
            # Aligned cells of 8 bytes are written and read in one piece, so that they need no lock.
            cells = RawArray("q", _CELLS_PER_PAGE)
        except OSError as broken:
            raise PairingError(
                f"epoch: no shared memory for worker processes ({broken.strerror or broken}); "
                "free some space in /dev/shm or the temporary folder"
            ) from broken
        _pages.append((os.getpid(), cells, 1))
        return cells, 0
