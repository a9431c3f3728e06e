"""Brightness of a screen that shows an image, as the logarithm that the pixels of an event camera respond to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_brightness(image: NDArray[np.uint8], black_level: float, blur: int = 0) -> NDArray[np.float64]:
    """Return the natural logarithm of the brightness: log(b + (1 - b) V) with the black level b.

    Values are rounded to 2**-24, so that machines whose logarithms differ in the last bits agree.

    Args:
        image: Gray values, shape (H, W), uint8; V is the value divided by 255.
        black_level: Brightness of gray value 0 relative to 255, above 0 and up to 1.
        blur: Passes of a 3 x 3 binomial filter over the image, variance 0.5 px^2 each; edge values are replicated.

    Returns:
        Shape (H, W), float64, log(b) to 0.

    Example:
        >>> log_brightness(np.array([[0, 255]], np.uint8), 0.1).round(4).tolist()
        [[-2.3026, 0.0]]
    """
    light = image.astype(np.float64)
    for _ in range(blur):
        for axis in (0, 1):
            padded = np.pad(light, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
            low, mid, high = (np.take(padded, np.arange(light.shape[axis]) + k, axis=axis) for k in (0, 1, 2))
            light = low * 0.25 + mid * 0.5 + high * 0.25
    level = np.log(black_level + (1.0 - black_level) * (light / 255.0))
    return np.ascontiguousarray(np.round(level * 2.0**24) / 2.0**24)
