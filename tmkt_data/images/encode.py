"""Intensities to spike frames: repeated, or drawn from a Poisson process."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError


def repeat_frames(intensities: NDArray[np.uint8], num_time_bins: int, num_channels: int = 2) -> NDArray[np.float32]:
    """Repeat intensities over all time steps and channels, as a read-only view.

    Args:
        intensities: Shape (..., H, W), uint8.
        num_time_bins: Number of time bins, T.
        num_channels: Channels, C.

    Returns:
        Shape (..., T, C, H, W), float32, 0 to 1. A view of one (..., H, W) array: copy it before writing to it.

    Example:
        >>> repeat_frames(np.full((2, 2), 51, np.uint8), 3).shape
        (3, 2, 2, 2)
    """
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

    if intensities.dtype != np.uint8:
        raise SpecError(f"intensities: found {intensities.dtype}, expected uint8, 0 to 255; scale and convert them")
    if num_time_bins < 1 or num_channels < 1:
        raise SpecError(f"frames: found {num_time_bins} steps of {num_channels} channels, expected 1 or more of each")
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
