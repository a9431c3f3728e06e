"""Map frames to colors: gray intensities, and ON and OFF events in two color-blind-safe hues."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
GROUND: Color = (243, 243, 240)
ON: Color = (0, 114, 178)
OFF: Color = (213, 94, 0)
BOTH: Color = (64, 30, 84)
FULL_PERCENTILE = 98.0
FAINT_EXPONENT = 0.6


def gray_colors(intensity: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map intensities to gray.

    Args:
        intensity: Any shape (..., H, W), 0 to 1; values outside are clipped.

    Returns:
        Colors, shape (..., H, W, 3), uint8.
    """
    levels = np.rint(np.clip(intensity, 0.0, 1.0) * 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


def event_colors(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map the event frames of one recording to colors on a neutral background, ON blue and OFF vermilion.

    Color saturates at the 98th percentile of the non-zero values of this recording, so that a few hot pixels do not
    hide the rest; weak values are boosted. Cells with both polarities are dark.

    Args:
        frames: Shape (T, C, H, W); two channels are OFF and ON, one is signed with ON above 0.

    Returns:
        Colors, shape (T, H, W, 3), uint8.

    Example:
        >>> frames = np.zeros((1, 2, 1, 3), np.float32)
        >>> frames[0, :, 0, 1], frames[0, :, 0, 2] = (0, 4), (4, 0)
        >>> event_colors(frames)[0, 0].tolist() == [list(GROUND), list(ON), list(OFF)]
        True

    Source: the two hues of M. Okabe and K. Ito, "Color Universal Design", 2008.
    """
    off, on = polarities(frames)
    values = np.concatenate([off.ravel(), on.ravel()])
    values = values[values > 0]
    full = float(np.percentile(values, FULL_PERCENTILE)) if len(values) else 1.0
    on, off = (np.clip(side / full, 0.0, 1.0)[..., None] ** FAINT_EXPONENT for side in (on, off))
    both, ground = np.minimum(on, off), 1 - np.maximum(on, off)
    shares = ((ground, GROUND), (on - both, ON), (off - both, OFF), (both, BOTH))
    colors = np.zeros((*on.shape[:-1], 3))
    for share, color in shares:
        colors += share * np.array(color, np.float64)
    return np.rint(colors).astype(np.uint8)


def polarities(frames: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split event frames (T, C, H, W) into OFF and ON, each (T, H, W), float64, 0 or more."""
    wide = frames.astype(np.float64)
    if frames.shape[1] == 1:
        return np.maximum(-wide[:, 0], 0.0), np.maximum(wide[:, 0], 0.0)
    return np.maximum(wide[:, 0], 0.0), np.maximum(wide[:, 1], 0.0)
