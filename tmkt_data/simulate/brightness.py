"""Brightness of a screen that shows an image, as the logarithm that the pixels of an event camera respond to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_brightness(image: NDArray[np.uint8], black_level: float) -> NDArray[np.float64]:
    """Return the natural logarithm of the brightness: log(b + (1 - b) V) with the black level b.

    Values are rounded to 2**-24, so that machines whose logarithms differ in the last bits agree.

    Args:
        image: Gray values, shape (H, W), uint8; V is the value divided by 255.
        black_level: Brightness of gray value 0 relative to 255, above 0 and up to 1.

    Returns:
        Shape (H, W), float64, log(b) to 0.

    Example:
        >>> log_brightness(np.array([[0, 255]], np.uint8), 0.1).round(4).tolist()
        [[-2.3026, 0.0]]
    """
    level = np.log(black_level + (1.0 - black_level) * (image / 255.0))
    return np.ascontiguousarray(np.round(level * 2.0**24) / 2.0**24)


def blurred(image: NDArray[np.uint8], passes: int) -> NDArray[np.float64]:
    """Return an image after passes of a 3 x 3 binomial filter, shape (H, W), float64, 0 to 255.

    Variance 0.5 px^2 a pass; edge values are replicated.
    """
    light = image.astype(np.float64)
    for _ in range(passes):
        for axis in (0, 1):
            padded = np.pad(light, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
            low, mid, high = (np.take(padded, np.arange(light.shape[axis]) + k, axis=axis) for k in (0, 1, 2))
            light = low * 0.25 + mid * 0.5 + high * 0.25
    return light


def lin_log(light: NDArray[np.float64], toe: float) -> NDArray[np.float64]:
    """Return the response of a photoreceptor: log(V) above the toe, and below it the tangent at the toe.

    Without the linear part, the noise of black pixels would be amplified without bound. v2e takes the chord through 0
    in place of the tangent; the tangent has no bend (own choice).

    Args:
        light: Brightness V, any shape, 0 to 1.
        toe: Brightness below which the response is linear, above 0 and up to 1.

    Returns:
        Shape of `light`, float64, log(toe) - 1 to 0, rounded to 2**-20, so that machines agree.

    Source: Hu et al., v2e, CVPRW 2021, section 3 (lin-log mapping).

    Example:
        >>> lin_log(np.array([0.0, 0.1, 1.0]), 0.1).round(4).tolist()
        [-3.3026, -2.3026, 0.0]
    """
    level = np.where(light > toe, np.log(np.maximum(light, toe)), light / toe - 1.0 + np.log(toe))
    return np.asarray(np.round(level * 2.0**20) / 2.0**20, np.float64)
