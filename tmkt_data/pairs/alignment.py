"""Alignment of a recording with an image: correlation of event density with image gradient."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

DENSITY_SIGMA = 0.7
GRADIENT_SIGMA = 1.0
MAX_SHIFT = 3
_SACCADE_TIMES_US = (0.0, 105_000.0, 210_000.0, 315_000.0)
_SACCADE_DX = (0.0, 3.5, 7.0, 0.0)
_SACCADE_DY = (0.0, 7.0, 0.0, 0.0)


def saccade_displacement(t_us: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the image displacement by the three saccades of N-MNIST and N-Caltech101, in sensor pixels.

    Args:
        t_us: File times, microseconds, any shape.

    Returns:
        dx and dy, float64; subtract them from event coordinates to compensate the motion.

    Source: `stabilize.m` of Orchard et al., 2015: 105 ms per saccade, straight and at constant speed.
    """
    return np.interp(t_us, _SACCADE_TIMES_US, _SACCADE_DX), np.interp(t_us, _SACCADE_TIMES_US, _SACCADE_DY)


def event_density(
    frames: NDArray[np.float32], dx: NDArray[np.float64] | None = None, dy: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Sum event frames into one smoothed map, with motion compensation per bin.

    Args:
        frames: Frames of one recording, shape (T, C, H, W).
        dx: Displacement to the right at each bin, in cells, shape (T,); None for no motion.
        dy: Displacement downward.

    Returns:
        Shape (H, W), float64.
    """
    steps = np.abs(frames).sum(axis=1, dtype=np.float64)
    if dx is not None and dy is not None:
        steps = np.stack([_sample(_sample(step, a, 1), b, 0) for step, a, b in zip(steps, dx, dy, strict=True)])
    return _gaussian(_gaussian(steps.sum(axis=0), DENSITY_SIGMA, -2), DENSITY_SIGMA, -1)


def image_gradient(intensity: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the Gaussian gradient magnitude of intensity images, shape (..., H, W), float64."""
    values, sigma = intensity.astype(np.float64), GRADIENT_SIGMA
    down = _gaussian(_gaussian(values, sigma, -2, slope=True), sigma, -1)
    right = _gaussian(_gaussian(values, sigma, -1, slope=True), sigma, -2)
    return np.hypot(down, right)


def _gaussian(values: NDArray[np.float64], sigma: float, axis: int, *, slope: bool = False) -> NDArray[np.float64]:
    """Smooth along an axis as `scipy.ndimage.gaussian_filter1d` does (4 sigma, mirrored edges), up to the slope's sign.

    scipy would be 140 MB of an installation that needs it for nothing else.
    """
    radius = int(4 * sigma + 0.5)
    distance = np.arange(radius + 1)
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    length = values.shape[axis]
    padded = values.take(_mirrored(length, radius), axis)
    leading = (slice(None),) * (axis % values.ndim)
    before = [padded[(*leading, slice(radius - k, radius - k + length))] for k in distance.tolist()]
    after = [padded[(*leading, slice(radius + k, radius + k + length))] for k in distance.tolist()]
    if slope:
        # In pairs, so that a flat image has none at all.
        parts = [weights[k] * k / sigma**2 * (after[k] - before[k]) for k in distance[1:]]
    else:
        parts = [weights[0] * values, *(weights[k] * (after[k] + before[k]) for k in distance[1:])]
    return sum(parts, np.zeros_like(values))


@cache
def _mirrored(length: int, radius: int) -> NDArray[np.int64]:
    """Return the indices of an axis with `radius` more at each end, mirrored as often as it takes."""
    index = np.arange(-radius, length + radius) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _sample(values: NDArray[np.float64], offset: float, axis: int) -> NDArray[np.float64]:
    """Interpolate linearly `offset` cells further along an axis; 0 outside the map."""
    along = np.moveaxis(values, axis, -1)
    last = along.shape[-1] - 1
    at = np.arange(last + 1) + offset
    left = np.clip(np.floor(at).astype(np.int64), 0, last)
    part = at - left
    moved = along[..., left] * (1 - part) + along[..., np.minimum(left + 1, last)] * part
    return np.moveaxis(np.where((at >= 0) & (at <= last), moved, 0.0), -1, axis)


def best_correlation(
    density: NDArray[np.float64], gradients: NDArray[np.float64], max_shift: int = MAX_SHIFT
) -> NDArray[np.float64]:
    """Return the Pearson correlation of one map with many, each maximized over circular shifts.

    Args:
        density: Shape (H, W).
        gradients: Shape (M, H, W).
        max_shift: Largest shift along each axis, in cells; 0 for none.

    Returns:
        Shape (M,), float64, -1 to 1; 0 where a map is constant.

    Example:
        >>> a = np.arange(16.0).reshape(4, 4)
        >>> best_correlation(a, np.stack([a, -a]), max_shift=0).round(6).tolist()
        [1.0, -1.0]
    """
    flat = gradients.reshape(len(gradients), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1)
    centered = density - density.mean()
    # Each window is the map, rolled.
    wrapped = np.pad(centered, max_shift, mode="wrap")
    moved = sliding_window_view(wrapped, density.shape).reshape(-1, density.size)
    scale = np.linalg.norm(centered) * norms
    best = (moved @ flat.T).max(axis=0)
    return np.asarray(np.divide(best, scale, out=np.zeros_like(best), where=scale > 0), np.float64)
