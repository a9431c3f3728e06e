"""Alignment of a recording with an image: correlation of event density with image gradient."""

from __future__ import annotations

import numpy as np
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
    from scipy import ndimage

    steps = np.abs(frames).sum(axis=1, dtype=np.float64)
    if dx is not None and dy is not None:
        steps = np.stack([ndimage.shift(step, (-b, -a), order=1) for step, a, b in zip(steps, dx, dy, strict=True)])
    return np.asarray(ndimage.gaussian_filter(steps.sum(axis=0), DENSITY_SIGMA), np.float64)


def image_gradient(intensity: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the Gaussian gradient magnitude of an intensity image, shape (H, W), float64."""
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_gradient_magnitude(intensity.astype(np.float64), GRADIENT_SIGMA), np.float64)


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
    shifts = range(-max_shift, max_shift + 1)
    moved = np.stack([np.roll(centered, (a, b), (0, 1)).ravel() for a in shifts for b in shifts])
    scale = np.linalg.norm(centered) * norms
    best = (moved @ flat.T).max(axis=0)
    return np.asarray(np.divide(best, scale, out=np.zeros_like(best), where=scale > 0), np.float64)
