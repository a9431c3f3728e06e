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
    """Map intensities of any shape (..., H, W), clipped to 0 to 1, to gray (..., H, W, 3), uint8."""
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
    off, on = polarity_levels(frames)
    both = np.minimum(on, off)
    shares = np.stack([1 - np.maximum(on, off), on - both, off - both, both], axis=-1)
    colors: NDArray[np.float64] = shares @ np.array([GROUND, ON, OFF, BOTH], np.float64)
    return np.rint(colors).astype(np.uint8)


def polarity_levels(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scale event frames (T, C, H, W) to the strength of OFF and ON colors, shape (2, T, H, W), 0 to 1."""
    values = polarities(frames)
    found = values[values > 0]
    full = float(np.percentile(found, FULL_PERCENTILE)) if len(found) else 1.0
    return np.clip(values / full, 0.0, 1.0) ** FAINT_EXPONENT


def polarities(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """Split event frames (T, C, H, W) into OFF and ON, shape (2, T, H, W), float64, 0 or more."""
    wide = frames.astype(np.float64)
    sides = (-wide[:, 0], wide[:, 0]) if frames.shape[1] == 1 else (wide[:, 0], wide[:, 1])
    return np.maximum(sides, 0.0)
