"""Frames to the narrow types that a cache stores, in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

_LEAST_NORMAL = np.float32(2.0**-14)
_HALF = np.float32(0.5)
_HALF_BITS = np.uint32(0x3F000000)
_REBIAS = np.uint32(112 << 23)
_SHIFT = np.uint32(13)
_BELOW_TIE = np.uint32(0xFFF)
_ONE = np.uint32(1)


@kernel
def pack_counts(counts: NDArray[np.uint32], out: NDArray[np.uint8]) -> int:
    """Write counts as bytes, 255 for larger ones; return the largest count.

    Args:
        counts: Shape (N,), uint32.
        out: Written to: shape (N,), uint8.
    """
    largest = np.uint32(0)
    for i in range(counts.size):
        largest = max(largest, counts[i])
        out[i] = min(counts[i], np.uint32(255))
    return int(largest)


@kernel
def pack_halves(values: NDArray[np.float32], out: NDArray[np.uint16]) -> float:
    """Write the bits of the nearest float16, ties to even; return the largest value.

    Args:
        values: Shape (N,), float32, 0 to 65504; the bits of larger values are undefined.
        out: Written to: shape (N,), uint16.
    """
    # The largest non-negative float has the largest bits as an integer, and integers are compared in vectors.
    largest = np.uint32(0)
    for i in range(values.size):
        value = values[i]
        bits = np.float32(value).view(np.uint32)
        largest = max(largest, bits)
        normal = (bits + _BELOW_TIE + ((bits >> _SHIFT) & _ONE) - _REBIAS) >> _SHIFT
        # From 0.5 on the last bit of a float32 is 2**-24, as is that of a subnormal float16.
        small = np.float32(value + _HALF).view(np.uint32) - _HALF_BITS
        out[i] = small if value < _LEAST_NORMAL else normal
    return float(np.uint32(largest).view(np.float32))
