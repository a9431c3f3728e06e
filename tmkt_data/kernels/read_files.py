"""Many files read in one call, as the interpreter lock is not given back and taken again for each."""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

# POSIX, https://pubs.opengroup.org/onlinepubs/9699919799/functions/open.html; found in the process by name.
_open = types.ExternalFunction("open", types.int32(types.voidptr, types.int32))
_read = types.ExternalFunction("read", types.intp(types.int32, types.voidptr, types.uintp))
_close = types.ExternalFunction("close", types.int32(types.int32))


@kernel
def read_files(
    names: NDArray[np.uint8],
    name_start: NDArray[np.int64],
    flags: int,
    start: NDArray[np.int64],
    room: NDArray[np.uint8],
    count: NDArray[np.int64],
) -> None:
    """Read the beginnings of files one behind the other; POSIX systems only.

    Args:
        names: File names as the system takes them, each ended by a zero byte, in one piece.
        name_start: Where each begins, shape (K,), int64.
        flags: How they are opened, as `os.open` takes it.
        start: Where the room of each begins, and the last one ends, shape (K + 1,), int64, non-decreasing.
        room: Written to: uint8, of `start[K]` bytes or more.
        count: Written to: shape (K,), int64. Bytes that were read of each, up to its room; -1 where it could not be.
    """
    for k in range(count.size):
        count[k] = -1
        file = _open(names[name_start[k] :].ctypes, np.int32(flags))
        if file < 0:
            continue
        at, end = start[k], start[k + 1]
        got = 1
        while at < end and got > 0:
            got = _read(file, room[at:end].ctypes, np.uintp(end - at))
            at += max(got, 0)
        _close(file)
        count[k] = at - start[k] if got >= 0 else -1
