"""The eight ways to lay a recording: turned by quarters, and flipped."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tmkt_data.spec import Orientation

_SWAPPED = ("rotate-90", "rotate-270", "transpose", "anti-transpose")
_RIGHT_TO_LEFT = ("flip-x", "rotate-180", "rotate-90", "anti-transpose")
_BOTTOM_TO_TOP = ("flip-y", "rotate-180", "rotate-270", "anti-transpose")


def swaps_axes(orientation: Orientation) -> bool:
    """Return whether width and height change places."""
    return orientation in _SWAPPED


def turn(
    x: NDArray[Any], y: NDArray[Any], width: int, height: int, orientation: Orientation
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Turn pixel coordinates of a sensor; row 0 is the top, rotations go clockwise.

    Args:
        x: Columns, shape (N,), below `width`.
        y: Rows, shape (N,), below `height`.
        width: Width of the sensor before the turn.
        height: Height of the sensor before the turn.
        orientation: `transpose` mirrors at the diagonal from the top left, `anti-transpose` at the other.

    Returns:
        Columns and rows after the turn, of the same type.

    Example:
        >>> import numpy as np
        >>> x, y = turn(np.array([0]), np.array([0]), 4, 3, "rotate-90")
        >>> x.tolist(), y.tolist()
        ([2], [0])
    """
    if orientation in _SWAPPED:
        x, y, width, height = y, x, height, width
    if orientation in _RIGHT_TO_LEFT:
        x = (width - 1 - x).astype(x.dtype)
    if orientation in _BOTTOM_TO_TOP:
        y = (height - 1 - y).astype(y.dtype)
    return x, y
