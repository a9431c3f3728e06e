"""Spike frames from intensities by a counter-based generator of pixel, frame and key of the sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

LANES = 16
"""Counters that are drawn in one vector; each decides eight pixels that are `LANES` apart."""

_A = np.uint32(1664525)
_C = np.uint32(1013904223)
_HALF = np.uint32(16)
_LOW = np.uint32(0xFFFF)
_LOW_WORD = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_TWICE = np.uint32(1 << 17)
_CERTAIN = np.uint32(1 << 16)
_ONE, _ZERO = np.float32(1), np.float32(0)
_REACHED, _MISSED = np.uint32(1), np.uint32(0)


@kernel
def random_words(
    x: np.uint32, y: np.uint32, z: np.uint32, w: np.uint32
) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
    """Hash four words to four random ones: pcg4d and a last shift, without which its low bits are weak.

    Source: Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020.
    """
    x, y, z, w = np.uint32(x * _A + _C), np.uint32(y * _A + _C), np.uint32(z * _A + _C), np.uint32(w * _A + _C)
    x = np.uint32(x + y * w)
    y = np.uint32(y + z * x)
    z = np.uint32(z + x * y)
    w = np.uint32(w + y * z)
    x, y, z, w = x ^ (x >> _HALF), y ^ (y >> _HALF), z ^ (z >> _HALF), w ^ (w >> _HALF)
    x = np.uint32(x + y * w)
    y = np.uint32(y + z * x)
    z = np.uint32(z + x * y)
    w = np.uint32(w + y * z)
    return x ^ (x >> _HALF), y ^ (y >> _HALF), z ^ (z >> _HALF), w ^ (w >> _HALF)


@kernel
def spike_limits(intensity: NDArray[np.uint8], limits: NDArray[np.uint32]) -> None:
    """Write the 16-bit number below which a pixel spikes: 65536 * intensity / 255, rounded; 0 and 255 are exact.

    Args:
        intensity: Shape (P,), uint8.
        limits: Written to: shape (P,), uint32, 0 to 65536.
    """
    for i in range(intensity.size):
        limits[i] = np.uint32((np.uint32(intensity[i]) * _TWICE + np.uint32(255)) // np.uint32(510))


@kernel
def poisson_spikes(
    intensities: NDArray[np.uint8], keys: NDArray[np.uint64], limits: NDArray[np.uint32], out: NDArray[np.float32]
) -> None:
    """Draw spikes with probability intensity / 255, within 2**-17, independent over samples, frames and pixels.

    Pixel q of a frame is decided by 16 bits of the words of counter `LANES` b + l, with b, r = divmod(q, 8 `LANES`) and
    k, l = divmod(r, `LANES`): by word k // 2, its upper half for even k.

    Args:
        intensities: Shape (B, P), uint8; 0 never spikes, 255 always does.
        keys: 64-bit key of each sample, shape (B,), see `random_keys.draw_key`.
        limits: Scratch for one sample, shape (P,), uint32.
        out: Written to: shape (B, F, P), float32; 1 for a spike, 0 elsewhere.
    """
    num_pixels = np.uint64(out.shape[2])
    lanes = np.uint64(LANES)
    block_size = np.uint64(8 * LANES)
    whole = num_pixels // block_size
    for sample in range(out.shape[0]):
        spike_limits(intensities[sample], limits)
        low, high = np.uint32(keys[sample] & _LOW_WORD), np.uint32(keys[sample] >> _WORD)
        for f in range(out.shape[1]):
            spikes = out[sample, f]
            frame = np.uint32(f)
            for block in range(whole):
                first = np.uint32(block * lanes)
                at = block * block_size
                for lane in range(lanes):
                    # Unrolled by hand, one half word at a time, so that the loop over the lanes is vectorized.
                    x, y, z, w = random_words(np.uint32(first + np.uint32(lane)), frame, low, high)
                    q = at + lane
                    spikes[q] = _ONE if x >> _HALF < limits[q] else _ZERO
                    q += lanes
                    spikes[q] = _ONE if x & _LOW < limits[q] else _ZERO
                    q += lanes
                    spikes[q] = _ONE if y >> _HALF < limits[q] else _ZERO
                    q += lanes
                    spikes[q] = _ONE if y & _LOW < limits[q] else _ZERO
                    q += lanes
                    spikes[q] = _ONE if z >> _HALF < limits[q] else _ZERO
                    q += lanes
                    spikes[q] = _ONE if z & _LOW < limits[q] else _ZERO
                    q += lanes
                    spikes[q] = _ONE if w >> _HALF < limits[q] else _ZERO
                    q += lanes
                    spikes[q] = _ONE if w & _LOW < limits[q] else _ZERO
            for lane in range(min(lanes, num_pixels - whole * block_size)):
                words = random_words(np.uint32(whole * lanes + lane), frame, low, high)
                q = whole * block_size + lane
                for word in words:
                    if q < num_pixels:
                        spikes[q] = _ONE if word >> _HALF < limits[q] else _ZERO
                    q += lanes
                    if q < num_pixels:
                        spikes[q] = _ONE if word & _LOW < limits[q] else _ZERO
                    q += lanes


@kernel
def _random_halves(first: np.uint32, words: tuple[np.uint32, np.uint32, np.uint32], halves: NDArray[np.uint32]) -> None:
    """Write the 16 bits that decide each pixel of a block, in the order of `poisson_spikes`.

    Args:
        first: First counter of the block.
        words: Frame, and low and high word of the key.
        halves: Written to: shape (8 `LANES`,), uint32.
    """
    frame, low, high = words
    for lane in range(LANES):
        x, y, z, w = random_words(np.uint32(first + np.uint32(lane)), frame, low, high)
        halves[lane], halves[LANES + lane] = x >> _HALF, x & _LOW
        halves[2 * LANES + lane], halves[3 * LANES + lane] = y >> _HALF, y & _LOW
        halves[4 * LANES + lane], halves[5 * LANES + lane] = z >> _HALF, z & _LOW
        halves[6 * LANES + lane], halves[7 * LANES + lane] = w >> _HALF, w & _LOW


@kernel
def _spread_limits(
    rows: NDArray[np.int16], table: tuple[NDArray[np.int64], NDArray[np.uint32]], planes: NDArray[np.uint32]
) -> int:
    """Write limit k of every pixel to plane k, 65536 where it has no more; return how many planes are needed."""
    first_of, limits = table
    num_planes = 0
    for i in range(rows.size):
        at = first_of[rows[i]]
        length = 0
        while limits[at + length] < _CERTAIN:
            length += 1
        num_planes = max(num_planes, length)
    planes[:num_planes] = _CERTAIN
    for i in range(rows.size):
        at = first_of[rows[i]]
        k = 0
        while limits[at + k] < _CERTAIN:
            planes[k, i] = limits[at + k]
            k += 1
    return num_planes


@kernel
def _reach(halves: NDArray[np.uint32], plane: NDArray[np.uint32], counts: NDArray[np.uint32]) -> None:
    """Count the limits of one plane that are reached; shapes (N,)."""
    for i in range(counts.size):
        counts[i] += _REACHED if halves[i] >= plane[i] else _MISSED


@kernel
def poisson_counts(
    rates: NDArray[np.int16],
    keys: NDArray[np.uint64],
    table: tuple[NDArray[np.int64], NDArray[np.uint32]],
    values: NDArray[np.float32] | NDArray[np.int16],
    scratch: tuple[NDArray[np.uint32], NDArray[np.uint32]],
    out: NDArray[np.float32] | NDArray[np.int16],
) -> None:
    """Draw Poisson counts, independent over samples, frames and pixels.

    A pixel counts the limits of its rate that its 16 bits reach; the bits are those of `poisson_spikes`.

    Args:
        rates: Rate of each pixel as a row of the table, shape (B, P), int16.
        keys: 64-bit key of each sample, shape (B,), see `random_keys.draw_key`.
        table: First limit of each row, shape (K,), int64, and the limits, shape (N,), uint32, ascending in a row up to
            65536: 65536 times the probability of at most 0, 1, 2 ... counts.
        values: What to write for each count, shape (the largest count + 1,).
        scratch: For one block of pixels: `planes`, shape (the largest count, 8 `LANES`), and bits and counts, shape
            (2, 8 `LANES`); uint32.
        out: Written to: shape (B, F, P), of the type of `values`.
    """
    planes, (halves, counts) = scratch
    num_pixels = out.shape[2]
    for sample in range(out.shape[0]):
        low, high = np.uint32(keys[sample] & _LOW_WORD), np.uint32(keys[sample] >> _WORD)
        for start in range(0, num_pixels, 8 * LANES):
            rows = rates[sample, start : start + 8 * LANES]
            num_planes = _spread_limits(rows, table, planes)
            if num_planes == 0:
                out[sample, :, start : start + rows.size] = values[0]
                continue
            for f in range(out.shape[1]):
                _random_halves(np.uint32(start // 8), (np.uint32(f), low, high), halves)
                counts[:] = 0
                for k in range(num_planes):
                    _reach(halves, planes[k], counts)
                drawn = out[sample, f, start : start + rows.size]
                for i in range(rows.size):
                    drawn[i] = values[counts[i]]
