"""Read many files in one call: the interpreter lock is released once, not once for each file."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

types = numba.types
# POSIX, https://pubs.opengroup.org/onlinepubs/9699919799/functions/open.html; resolved by name in the process.
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
    """Read the beginnings of files into one array; POSIX systems only.

    Args:
        names: File names as the system encodes them, each ended by a zero byte, concatenated, uint8.
        name_start: Where each name begins, shape (K,), int64.
        flags: Flags of `os.open`.
        start: Where the room of each file begins, and that of the last one ends, shape (K + 1,), int64, non-decreasing.
        room: Written to: uint8, `start[K]` bytes or more.
        count: Written to: shape (K,), int64. Bytes read of each file, at most its room; -1 where reading failed.
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
