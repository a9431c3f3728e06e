"""Intensities to spike frames, repeated or drawn from a Poisson process; and rates to Poisson counts."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError

MAX_RATE = 1000.0
"""Largest mean of a Poisson count: above it, a draw differs from its mean by 3 % and is not worth its table."""
_BLOCK = 256

Value = TypeVar("Value", np.float32, np.int16)


class CountTable(NamedTuple):
    """Limits that decide Poisson counts of some rates, see `kernels.poisson.poisson_counts`.

    Attributes:
        first: First limit of each rate, shape (K,), int64.
        limits: The limits, shape (N,), uint32, 65536 at the end of each rate.
    """

    first: NDArray[np.int64]
    limits: NDArray[np.uint32]

    @property
    def max_count(self) -> int:
        """Largest count that can be drawn."""
        ends = np.append(self.first[1:], len(self.limits))
        return int((ends - self.first).max()) - 1


def repeat_frames(intensities: NDArray[np.uint8], num_time_bins: int, num_channels: int = 2) -> NDArray[np.float32]:
    """Repeat intensities over all time steps and channels, as a read-only view.

    Args:
        intensities: Shape (..., H, W), uint8.
        num_time_bins: Number of time bins, T.
        num_channels: Channels, C.

    Returns:
        Shape (..., T, C, H, W), float32, 0 to 1. A view of one (..., H, W) array: copy it before writing to it.

    Raises:
        SpecError: Intensities that are not uint8, or no step or channel.

    Example:
        >>> repeat_frames(np.full((2, 2), 51, np.uint8), 3).shape
        (3, 2, 2, 2)
    """
    _require_bytes(intensities, num_time_bins, num_channels)
    scaled = np.asarray(intensities, np.float32) / np.float32(255)
    lead = intensities.shape[:-2]
    spread = scaled.reshape(*lead, 1, 1, *intensities.shape[-2:])
    return np.broadcast_to(spread, (*lead, num_time_bins, num_channels, *intensities.shape[-2:]))


def poisson_frames(
    intensities: NDArray[np.uint8],
    num_time_bins: int,
    num_channels: int = 2,
    *,
    key: int | np.uint64 | NDArray[np.uint64],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Draw spike frames with probability intensity / 255, independent over samples, steps, channels and pixels.

    The probability is accurate to 2**-17, and exact for 0 and 255.

    Args:
        intensities: Shape (H, W), or (B, H, W) for several samples at once; uint8.
        num_time_bins: Number of time bins, T.
        num_channels: Channels, C.
        key: 64-bit key of the sample, see `random_keys.draw_key`; the same key gives the same spikes. For several
            samples their keys, shape (B,), uint64.
        out: Contiguous array to write to, of the shape of the result; None allocates one.

    Returns:
        Shape (T, C, H, W) or (B, T, C, H, W), float32, 0 or 1. Owned by the caller.

    Raises:
        SpecError: Intensities that are not uint8, a key outside 64 bits, not one key a sample, or an `out` of another
            shape or layout.

    Example:
        >>> two = np.stack([np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8)])
        >>> poisson_frames(two, 3, key=np.array([1, 2], np.uint64)).mean(axis=(1, 2, 3, 4)).tolist()
        [1.0, 0.0]
    """
    from tmkt_data.kernels.poisson import poisson_spikes

    _require_bytes(intensities, num_time_bins, num_channels)
    lead = intensities.shape[:-2]
    keys = _keys(key, lead)
    shape = (*lead, num_time_bins, num_channels, *intensities.shape[-2:])
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise SpecError(f"out: found {out.dtype} of shape {out.shape}, expected contiguous float32 of shape {shape}")
    num_pixels = intensities.shape[-2] * intensities.shape[-1]
    flat = np.ascontiguousarray(intensities).reshape(len(keys), num_pixels)
    frames = out.reshape(len(keys), num_time_bins * num_channels, num_pixels)
    poisson_spikes(flat, keys, np.empty(num_pixels, np.uint32), frames)
    return out


def count_table(rates: NDArray[np.float64]) -> CountTable:
    """Return the limits of Poisson counts: 65536 times the probability of at most k counts, rounded.

    Every probability is accurate to 2**-17; counts in the tail beyond are not drawn.

    Args:
        rates: Mean of each count, shape (K,), float64, 0 to `MAX_RATE`.

    Raises:
        SpecError: A rate is out of range.

    Example:
        >>> table = count_table(np.array([0.0, math.log(2)]))
        >>> table.limits[:3].tolist(), table.first.tolist()
        ([65536, 32768, 55481], [0, 1])
    """
    wrong = rates[~((rates >= 0) & (rates <= MAX_RATE))]
    if len(wrong):
        raise SpecError(
            f"Poisson counts: found a mean of {wrong.max():.4g} in a cell and time bin, expected 0 to {MAX_RATE:g}; "
            "use more time bins or cells"
        )
    parts, sizes = [], []
    for start in range(0, len(rates), _BLOCK):
        rows = _limits(rates[start : start + _BLOCK])
        # A row ends with the first limit that every draw is below.
        lengths = np.argmax(rows == 1 << 16, axis=1) + 1
        parts.append(rows[np.arange(rows.shape[1]) < lengths[:, None]])
        sizes.append(lengths)
    lengths = np.concatenate(sizes)
    return CountTable(np.cumsum(lengths) - lengths, np.concatenate(parts))


def _limits(rates: NDArray[np.float64]) -> NDArray[np.uint32]:
    largest = float(rates.max(initial=0.0))
    counts = np.arange(math.ceil(largest + 8 * math.sqrt(largest)) + 20)
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.where(counts == 0, 0.0, counts * np.log(rates[:, None]))
    factorials = np.cumsum(np.log(np.maximum(counts, 1)))
    shares = np.cumsum(np.exp(powers - rates[:, None] - factorials), axis=1)
    limits: NDArray[np.uint32] = np.rint(np.minimum(shares, 1.0) * (1 << 16)).astype(np.uint32)
    limits[:, -1] = 1 << 16
    return limits


def poisson_counts(
    rows: NDArray[np.int16], table: CountTable, num_frames: int, keys: NDArray[np.uint64], values: NDArray[Value]
) -> NDArray[Value]:
    """Draw Poisson counts, independent over samples, frames and pixels.

    Args:
        rows: Rate of each pixel, an index of `table`, shape (B, H, W), int16.
        table: Limits of the rates, see `count_table`.
        num_frames: Frames to draw of each sample, F.
        keys: 64-bit key of each sample, shape (B,), uint64, see `random_keys.draw_key`.
        values: What stands for each count, shape (`table.max_count` + 1,).

    Returns:
        Shape (B, F, H, W), of the type of `values`. Owned by the caller.

    Raises:
        SpecError: A rate that the table lacks, too few values, or not one key a sample.

    Example:
        >>> table = count_table(np.array([0.0, 2.5]))
        >>> rows = np.ones((1, 100, 100), np.int16)
        >>> values = np.arange(table.max_count + 1, dtype=np.float32)
        >>> round(float(poisson_counts(rows, table, 20, np.array([7], np.uint64), values).mean()), 2)
        2.51
    """
    from tmkt_data.kernels import poisson

    num_samples, height, width = rows.shape
    if rows.size and not 0 <= rows.min() <= rows.max() < len(table.first):
        raise SpecError(f"rates: found rows {rows.min()} to {rows.max()}, expected 0 to {len(table.first) - 1}")
    if len(values) <= table.max_count:
        raise SpecError(f"values: found {len(values)}, expected {table.max_count + 1}, one for each count")
    out = np.empty((num_samples, num_frames, height, width), values.dtype)
    block = 8 * poisson.LANES
    poisson.poisson_counts(
        np.ascontiguousarray(rows).reshape(num_samples, height * width),
        _keys(keys, (num_samples,)),
        (table.first, table.limits),
        values,
        (np.empty((table.max_count, block), np.uint32), np.empty((2, block), np.uint32)),
        out.reshape(num_samples, num_frames, height * width),
    )
    return out


def _require_bytes(intensities: NDArray[np.uint8], num_time_bins: int, num_channels: int) -> None:
    if intensities.dtype != np.uint8 or intensities.ndim < 2:
        raise SpecError(
            f"intensities: found {intensities.dtype} of shape {intensities.shape}, expected uint8, 0 to 255, of shape "
            "(..., H, W); scale and convert them"
        )
    if num_time_bins < 1 or num_channels < 1:
        raise SpecError(f"frames: found {num_time_bins} steps of {num_channels} channels, expected 1 or more of each")


def _keys(key: int | np.uint64 | NDArray[np.uint64], lead: tuple[int, ...]) -> NDArray[np.uint64]:
    if isinstance(key, np.ndarray) and key.ndim:
        if key.shape != lead or key.dtype != np.uint64 or key.ndim != 1:
            raise SpecError(
                f"key: found {key.dtype} of shape {key.shape}, expected uint64 of shape {lead}, one a sample"
            )
        return np.ascontiguousarray(key)
    if lead:
        raise SpecError(f"key: found one for samples of shape {lead}, expected an array, one a sample")
    if not 0 <= int(key) < 2**64:
        raise SpecError(f"key: found {key}, expected 0 to 2**64 - 1")
    return np.array([int(key)], np.uint64)
