"""Scale event counts to match images in [0, 1]."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.spec import EventScale

EVENT_SCALES: tuple[EventScale, ...] = get_args(EventScale)


def scale_events(frames: NDArray[np.float32], scale: EventScale) -> NDArray[np.float32]:
    """Scale event frames in place, sample by sample.

    Args:
        frames: Shape (B, T, C, H, W), float32; changed in place.
        scale: `raw`: unchanged; `clip1`: clipped to [-1, 1]; `log1p`: log(1 + |x|) with the sign of x;
            `max`: divided by the largest magnitude of each sample and channel; `step-max`: of each sample, step and
            channel, as in KT on N-Omniglot; `binary`: 1 wherever there are events.

    Returns:
        The same array.

    Raises:
        SpecError: Unknown scale.
    """
    match scale:
        case "raw":
            pass
        case "clip1":
            np.clip(frames, -1.0, 1.0, out=frames)
        case "log1p":
            np.copyto(frames, np.sign(frames) * np.log1p(np.abs(frames)))
        case "max" | "step-max":
            frames /= event_divisors(frames, scale)
        case "binary":
            np.copyto(frames, (frames != 0).astype(np.float32))
        case _:
            raise SpecError(f"event scale: found {scale!r}, expected one of {', '.join(EVENT_SCALES)}")
    return frames


def event_divisors(frames: NDArray[np.float32], scale: EventScale) -> NDArray[np.float32]:
    """Return what `scale_events` divides by: the largest magnitude, at least 1e-12.

    Args:
        frames: Shape (B, T, C, H, W), float32; not scaled yet.
        scale: `max` or `step-max`.

    Returns:
        Shape (B, 1, C, 1, 1) for `max`, (B, T, C, 1, 1) for `step-max`; float32.

    Raises:
        SpecError: Frames of another shape.
    """
    if frames.ndim != 5:
        raise SpecError(f"event scale: found frames of shape {frames.shape}, expected (B, T, C, H, W)")
    largest = np.abs(frames).max(axis=(1, 3, 4) if scale == "max" else (3, 4), keepdims=True)
    return np.asarray(np.maximum(largest, np.float32(1e-12)), np.float32)
