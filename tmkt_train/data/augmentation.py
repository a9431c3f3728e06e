"""Augmentation of event frames: one draw per sample for all its steps and channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.random_keys import Purpose
from tmkt_train.data.sampling import DrawKeys

Float32Array = NDArray[np.float32]


def augment(
    frames: Float32Array, keys: DrawKeys, *, crop_padding: int = 0, flip: bool = False, rotation: float = 0.0
) -> Float32Array:
    """Augment the event frames of some samples: crop, then flip, then rotate. Image frames stay as they are, as in KT.

    Args:
        frames: Shape (B, T, C, H, W), not changed.
        keys: Keys of the samples.
        crop_padding: Cells of zero padding on each side before a random crop back to the size; 0 for none.
        flip: Whether to mirror half of the samples left to right.
        rotation: Largest angle of a random rotation in degrees, nearest cell, zeros from outside; 0 for none.

    Returns:
        Frames of the same shape; `frames` itself where there is nothing to do.

    Source:
        He et al., AAAI 2024: crop everywhere, flip and 15 degrees on CEP-DVS.
    """
    if crop_padding:
        frames = crop_frames(frames, crop_offsets(keys, crop_padding), crop_padding)
    if flip:
        frames = np.where(draw_flips(keys)[:, None, None, None, None], frames[..., ::-1], frames)
    if rotation:
        frames = rotate_frames(frames, draw_degrees(keys, rotation))
    return frames


def draw_flips(keys: DrawKeys) -> NDArray[np.bool_]:
    """Draw which samples are mirrored left to right, half of them: shape (B,), bool."""
    return np.asarray(keys.uniform(Purpose.FLIP, 1) < 0.5)


def draw_degrees(keys: DrawKeys, rotation: float) -> NDArray[np.float64]:
    """Draw the angle of each sample, shape (B,), in -`rotation` to `rotation` degrees."""
    return (2 * keys.uniform(Purpose.ROTATE, 1) - 1) * rotation


def crop_offsets(keys: DrawKeys, padding: int) -> NDArray[np.int64]:
    """Draw where each sample is cropped out of its padded frame.

    Returns:
        Row and column of the upper left corner, shape (B, 2), int64 in 0 to 2 * padding; an offset of `padding`
        moves nothing.
    """
    return (keys.uniform(Purpose.CROP, np.arange(2)) * (2 * padding + 1)).astype(np.int64)


def crop_frames(frames: Float32Array, offsets: NDArray[np.int64], padding: int) -> Float32Array:
    """Pad frames with zeros and crop them; one offset for all steps and channels of a sample.

    Args:
        frames: Shape (B, T, C, H, W), not changed.
        offsets: Corners, shape (B, 2), see `crop_offsets`.
        padding: Cells of padding on each side.

    Returns:
        Frames of the same shape; owned by the caller.

    Example:
        >>> frames = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 2, 2)
        >>> crop_frames(frames, np.array([[2, 1]]), 1)[0, 0, 0].tolist()
        [[2.0, 3.0], [0.0, 0.0]]
    """
    height, width = frames.shape[-2:]
    padded = np.pad(frames, [(0, 0)] * (frames.ndim - 2) + [(padding, padding)] * 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(-2, -1))
    cropped = windows[np.arange(len(frames)), :, :, offsets[:, 0], offsets[:, 1]]
    return np.ascontiguousarray(cropped)


def rotate_frames(frames: Float32Array, degrees: NDArray[np.float64]) -> Float32Array:
    """Rotate frames about their center with nearest-neighbor sampling, zeros from outside.

    Args:
        frames: Shape (B, T, C, H, W), not changed.
        degrees: Angle of each sample, shape (B,); positive is counterclockwise as displayed (y down).

    Returns:
        Frames of the same shape; owned by the caller.

    Example:
        >>> frames = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 2, 2)
        >>> rotate_frames(frames, np.array([90.0]))[0, 0, 0].tolist()
        [[1.0, 3.0], [0.0, 2.0]]
    """
    height, width = frames.shape[-2:]
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    y, x = rows - (height - 1) / 2, columns - (width - 1) / 2
    rotated = np.empty_like(frames)
    for sample, angle in enumerate(np.deg2rad(degrees)):
        from_row = np.rint(x * np.sin(angle) + y * np.cos(angle) + (height - 1) / 2).astype(np.int64)
        from_column = np.rint(x * np.cos(angle) - y * np.sin(angle) + (width - 1) / 2).astype(np.int64)
        inside = (from_row >= 0) & (from_row < height) & (from_column >= 0) & (from_column < width)
        taken = frames[sample][..., np.clip(from_row, 0, height - 1), np.clip(from_column, 0, width - 1)]
        rotated[sample] = np.where(inside, taken, np.float32(0))
    return rotated
