"""Augmentation of event frames: one draw for all steps and channels of a sample, a pure function of seed and epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmkt_data.random_keys import Purpose, uniform

Float32Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to the event frames of a training sample; image frames stay as they are, as in KT.

    Attributes:
        crop_padding: Cells of zero padding on each side before a random crop back to the size; 0 for none.
        flip: Whether half of the samples are mirrored left to right.
        rotation: Largest angle of a random turn in degrees, nearest cell, zeros from outside; 0 for none.

    Source:
        He et al., AAAI 2024: crop everywhere, flip and 15 degrees on CEP-DVS.
    """

    crop_padding: int = 0
    flip: bool = False
    rotation: float = 0.0

    def apply(
        self,
        frames: Float32Array,
        *,
        seed: int,
        epoch: int,
        uids: NDArray[np.uint64],
        occurrences: NDArray[np.int64],
    ) -> Float32Array:
        """Augment the event frames of some samples: crop, then flip, then turn.

        Args:
            frames: Shape (B, T, C, H, W), not changed.
            seed: Seed of the run.
            epoch: Epoch, from 0.
            uids: Numbers of the samples, shape (B,), uint64.
            occurrences: Earlier draws of the same sample in the epoch, shape (B,), int64.

        Returns:
            Frames of the same shape; those given where there is nothing to do.
        """
        if self.crop_padding:
            frames = crop_frames(
                frames, crop_offsets(seed, epoch, uids, occurrences, self.crop_padding), self.crop_padding
            )
        if self.flip:
            mirrored = uniform(seed, epoch, uids, occurrences, Purpose.FLIP, 1) < 0.5
            frames = np.where(mirrored[:, None, None, None, None], frames[..., ::-1], frames)
        if self.rotation:
            draws = uniform(seed, epoch, uids, occurrences, Purpose.ROTATE, 1)
            frames = turn_frames(frames, (2 * draws - 1) * self.rotation)
        return frames


def crop_offsets(
    seed: int, epoch: int, uids: NDArray[np.uint64], occurrences: NDArray[np.int64], padding: int
) -> NDArray[np.int64]:
    """Draw where each sample is cropped out of its padded frame.

    Returns:
        Row and column of the upper left corner, shape (B, 2), int64 in 0 to 2 * padding; `padding` itself
        moves nothing.
    """
    draws = uniform(seed, epoch, uids[:, None], occurrences[:, None], Purpose.CROP, np.arange(2)[None, :])
    return (draws * (2 * padding + 1)).astype(np.int64)


def crop_frames(frames: Float32Array, offsets: NDArray[np.int64], padding: int) -> Float32Array:
    """Shift frames by a crop out of a zero padding; one offset for all steps and channels of a sample.

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


def turn_frames(frames: Float32Array, degrees: NDArray[np.float64]) -> Float32Array:
    """Turn frames about their middle, each cell taking the nearest one it comes from, zero from outside.

    Args:
        frames: Shape (B, T, C, H, W), not changed.
        degrees: Angle of each sample, shape (B,); positive turns counterclockwise as the frame is seen (y down).

    Returns:
        Frames of the same shape; owned by the caller.

    Example:
        >>> frames = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 2, 2)
        >>> turn_frames(frames, np.array([90.0]))[0, 0, 0].tolist()
        [[1.0, 3.0], [0.0, 2.0]]
    """
    height, width = frames.shape[-2:]
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    y, x = rows - (height - 1) / 2, columns - (width - 1) / 2
    turned = np.empty_like(frames)
    for at, angle in enumerate(np.deg2rad(degrees)):
        from_row = np.rint(x * np.sin(angle) + y * np.cos(angle) + (height - 1) / 2).astype(np.int64)
        from_column = np.rint(x * np.cos(angle) - y * np.sin(angle) + (width - 1) / 2).astype(np.int64)
        inside = (from_row >= 0) & (from_row < height) & (from_column >= 0) & (from_column < width)
        taken = frames[at][..., np.clip(from_row, 0, height - 1), np.clip(from_column, 0, width - 1)]
        turned[at] = np.where(inside, taken, np.float32(0))
    return turned
