"""Spike frames from intensities, by a counter-based generator: frame and pixel are the counter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@kernel
def philox_block(counter: np.uint64, key: np.uint64) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Return the four 32-bit words of one counter value, as uint64.

    Source: Philox4x32-10, Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
    """
    c0 = counter & _LOW
    c1 = counter >> _HALF
    c2 = np.uint64(0)
    c3 = np.uint64(0)
    k0 = key & _LOW
    k1 = key >> _HALF
    for _ in range(10):
        product_0 = _MULTIPLIER_0 * c0
        product_1 = _MULTIPLIER_1 * c2
        c0 = (product_1 >> _HALF) ^ c1 ^ k0
        c1 = product_1 & _LOW
        c2 = (product_0 >> _HALF) ^ c3 ^ k1
        c3 = product_0 & _LOW
        k0 = (k0 + _WEYL_0) & _LOW
        k1 = (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


@kernel
def poisson_spikes(intensity: NDArray[np.uint8], key: np.uint64, out: NDArray[np.float32]) -> None:
    """Draw spikes with probability intensity / 255, independent over frames and pixels.

    Args:
        intensity: Shape (P,), uint8; 0 never spikes, 255 always does.
        key: 64-bit key of the sample, see `random_keys.draw_key`.
        out: Out: shape (F * P,), float32; 1 where a spike falls, 0 elsewhere, frame after frame.
    """
    num_pixels = intensity.size
    num_out = out.size
    pixel = 0
    for block in range((num_out + 3) // 4):
        words = philox_block(np.uint64(block), key)
        first = 4 * block
        for lane in range(min(4, num_out - first)):
            word = words[0] if lane == 0 else (words[1] if lane == 1 else (words[2] if lane == 2 else words[3]))
            # In whole numbers: word / 2**32 < intensity / 255.
            spikes = word * np.uint64(255) < (np.uint64(intensity[pixel]) << _HALF)
            out[first + lane] = 1.0 if spikes else 0.0
            pixel += 1
            if pixel == num_pixels:
                pixel = 0
