"""Intensities to frames as an event camera sees them: edges of log intensity, still or moved along a path.

Both encoders are a choice of this project (inferred): no paper of TMKT or KT uses them. A response, a table of values
for changes of log intensity, brings them to the units of event frames.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.simulate.brightness import log_brightness

BLACK_LEVEL = 0.1
"""Brightness of gray value 0 on the screen: log intensity is log(0.1 + 0.9 V) (inferred)."""

_STRIP_CELLS = 4096
"""Cells of a strip of rows that is moved at a time: its working memory stays in the cache of a core."""


class Scene(NamedTuple):
    """Where images lie on their frames, and how the camera saw them.

    Attributes:
        boxes: Rows and columns that each image covers: top, bottom, left, right, shape (B, 4), int32; bottom and right
            exclusive. Around it the values of its edges count as seen, and frames are zero where the camera sees none
            of the box. None for images that fill their frames.
        is_negative: Whether the camera saw the negative of the images.
        pooled: Cells of an image along each side of a cell of its frames: their changes along a path are averaged.
    """

    boxes: NDArray[np.int32] | None = None
    is_negative: bool = False
    pooled: int = 1


WHOLE = Scene()


class Motion(NamedTuple):
    """What is needed to move images along their paths, one of each a sample.

    Attributes:
        paths: Displacement to the right and down, shape (B, T S + 1, 2), float32, in cells; no more than a frame.
        boxes: Rows and columns that each image covers, as in `Scene`, shape (B, 4), int32.
        windows: Rows and columns outside of which frames are zero, same shape.
    """

    paths: NDArray[np.float32]
    boxes: NDArray[np.int32]
    windows: NDArray[np.int32]


def motion_of(paths: NDArray[np.float32], scene: Scene, size: tuple[int, int]) -> Motion:
    """Return how images of H x W cells move along their paths; arguments as in `saccade_frames`.

    Raises:
        SpecError: Boxes that do not fit the size.
    """
    boxes = _boxes(scene, (len(paths), *size))
    # An image moved by more than its frame is the same everywhere: only its edge is seen.
    farthest = np.float32(max(size))
    moved = np.ascontiguousarray(np.clip(paths, -farthest, farthest), np.float32)
    return Motion(moved, boxes, _windows(boxes, moved, size))


Value = TypeVar("Value", np.float32, np.int16, np.uint8)


def gradient_frames(
    intensities: NDArray[np.uint8], *, response: NDArray[Value] | None = None, scene: Scene = WHOLE
) -> NDArray[Value]:
    """Return the gradient magnitude of log intensity, smoothed by a 3 x 3 binomial filter (a choice of this project).

    Args:
        intensities: Shape (B, H, W), uint8.
        response: Value for each gradient in steps of 1 / `CHANGES_PER_UNIT` per cell, see `unit_response`.
        scene: Where the images lie.

    Returns:
        Shape (B, H, W), of the type of `response`. Owned by the caller.

    Raises:
        SpecError: Intensities that are not uint8 or have no pixels, or boxes that do not fit them.

    Example:
        >>> edge = np.repeat(np.array([[0, 0, 255, 255]], np.uint8), 4, axis=0)
        >>> gradient_frames(edge[None])[0, 0].astype(float).round(2).tolist()
        [0.29, 0.86, 0.86, 0.29]
    """
    from tmkt_data.kernels import contrast

    _require_images(intensities)
    boxes = _boxes(scene, intensities.shape)
    values = _one_form(unit_response(2) if response is None else response)
    _, height, width = intensities.shape
    out = np.empty(intensities.shape, values.dtype)
    scratch = np.empty((height + 4, width + 4), np.float32), np.empty((height + 2, width + 2), np.float64)
    contrast.gradient_frames(
        np.ascontiguousarray(intensities), gray_levels(scene.is_negative), (boxes, boxes), values, scratch, out
    )
    return out


def saccade_frames(
    intensities: NDArray[np.uint8],
    paths: NDArray[np.float32],
    num_time_bins: int,
    num_channels: int = 2,
    *,
    response: NDArray[Value] | None = None,
    scene: Scene = WHOLE,
) -> NDArray[Value]:
    """Return how the log intensity of moving images changes in each time bin (a choice of this project).

    The image is moved along its path, bilinear between cells. Between two positions, a cell darkens or brightens;
    within a bin, both are summed apart, as a pixel counts OFF and ON events.

    Args:
        intensities: Shape (B, H, W), uint8.
        paths: Displacement to the right and down, shape (B, T S + 1, 2), float32, in cells: the position at the start,
            and at the end of each of S parts of a time bin; see `simulate.saccade.paths_in_cells`.
        num_time_bins: Number of time bins, T.
        num_channels: 2 for OFF and ON, 1 for ON minus OFF.
        response: Value for each change in steps of 1 / `CHANGES_PER_UNIT`, see `unit_response`.
        scene: Where the images lie.

    Returns:
        Shape (B, T, C, H, W), of the type of `response`, owned by the caller; H and W over `scene.pooled`.

    Raises:
        SpecError: Intensities that are not uint8 or have no pixels, or paths, boxes or pooling that do not fit them.

    Example:
        >>> bright_dot = np.zeros((1, 1, 4), np.uint8)
        >>> bright_dot[0, 0, 1] = 255
        >>> one_to_the_right = np.array([[[0, 0], [1, 0]]], np.float32)
        >>> off, on = saccade_frames(bright_dot, one_to_the_right, 1)[0, 0, :, 0].astype(float).round(1)
        >>> off.tolist(), on.tolist()
        ([0.0, 2.3, 0.0, 0.0], [0.0, 0.0, 2.3, 0.0])
    """
    from tmkt_data.kernels import contrast

    _require_images(intensities)
    _require_paths(paths, len(intensities), num_time_bins, num_channels)
    if scene.pooled > 1:
        return _pooled_frames(intensities, (paths, num_time_bins, num_channels), response, scene)
    values = _one_form(unit_response(num_channels) if response is None else response)
    count, height, width = intensities.shape
    motion = motion_of(paths, scene, (height, width))
    margin = math.floor(np.abs(motion.paths).max(initial=0.0)) + 1
    pitch = width + 2 * margin
    rows = max(1, min(height, _STRIP_CELLS // pitch))
    cells = (rows - 1) * pitch + width
    scratch = (
        np.empty((height + 2 * margin) * pitch, np.float32),
        np.empty((height + 2 * margin) * pitch, np.float32),
        np.empty((6, cells), np.float32),
        np.empty(cells, np.uint32),
    )
    out = np.empty((count, num_time_bins, num_channels, height, width), values.dtype)
    contrast.path_frames(
        np.ascontiguousarray(intensities),
        gray_levels(scene.is_negative),
        (motion.paths, motion.boxes, motion.windows),
        values,
        scratch,
        out,
    )
    return out


def _pooled_frames(
    intensities: NDArray[np.uint8],
    motion: tuple[NDArray[np.float32], int, int],
    response: NDArray[Value] | None,
    scene: Scene,
) -> NDArray[Value]:
    """Average changes over squares of cells, rounded to 1 / `CHANGES_PER_UNIT`, before they are looked up."""
    from tmkt_data.kernels import contrast

    paths, num_time_bins, num_channels = motion
    count, height, width = intensities.shape
    side = scene.pooled
    if height % side or width % side:
        raise SpecError(f"intensities: found {height} x {width} cells, expected multiples of {side} to be pooled")
    boxes = _boxes(scene, intensities.shape)
    values = _one_form(unit_response(num_channels) if response is None else response)
    out = np.empty((count, num_time_bins, num_channels, height // side, width // side), values.dtype)
    # One image at a time, whose changes stay in the cache of a core.
    for at in range(count):
        one = Scene(boxes[at : at + 1], scene.is_negative)
        sample = slice(at, at + 1)
        fine = saccade_frames(
            intensities[sample], paths[sample], num_time_bins, num_channels,
            response=change_response(num_channels), scene=one,
        )  # fmt: skip
        planes = fine.reshape(-1, height, width)
        contrast.pooled_frames(planes, values, num_channels == 1, out[at].reshape(-1, *out.shape[-2:]))
    return out


def _one_form(response: NDArray[Any]) -> NDArray[Any]:
    """Return a view that is read-only, whoever made the table: numba compiles a kernel anew, in seconds, for others."""
    view = response.view()
    view.flags.writeable = False
    return view


@cache
def unit_response(num_channels: int) -> NDArray[np.float32]:
    """Return the change of log intensity itself as the value of a frame, in steps of 1 / `CHANGES_PER_UNIT`.

    Args:
        num_channels: 2 for changes from 0 to the largest; 1 for signed ones, the largest negative one first.

    Returns:
        Shape (K,), float32, read-only.
    """
    from tmkt_data.kernels.contrast import CHANGES_PER_UNIT, MAX_CHANGE

    changes = np.arange(0 if num_channels == 2 else -MAX_CHANGE, MAX_CHANGE + 1)
    values: NDArray[np.float32] = (changes / CHANGES_PER_UNIT).astype(np.float32)
    values.flags.writeable = False
    return values


@cache
def change_response(num_channels: int) -> NDArray[np.int16]:
    """Return each change itself, as `unit_response` does, but in steps of 1 / `CHANGES_PER_UNIT`."""
    from tmkt_data.kernels.contrast import CHANGES_PER_UNIT

    changes: NDArray[np.int16] = np.round(unit_response(num_channels) * CHANGES_PER_UNIT).astype(np.int16)
    changes.flags.writeable = False
    return changes


@cache
def gradient_response() -> NDArray[np.int16]:
    """Return each gradient itself, as `change_response(2)` does, as far as they reach: at most log(10) / sqrt(2)."""
    from tmkt_data.kernels.contrast import CHANGES_PER_UNIT

    return change_response(2)[: math.floor(-math.log(BLACK_LEVEL) / math.sqrt(2) * CHANGES_PER_UNIT) + 2]


@cache
def stored_response() -> NDArray[np.uint8]:
    """Return the byte that stands for each change in a cache, 255 sqrt(change / 8), as `unit_response(2)`.

    The root keeps small changes apart: near 0.01, neighboring bytes differ by 3 %.
    """
    stored: NDArray[np.uint8] = np.rint(255 * np.sqrt(unit_response(2) / np.float32(8))).astype(np.uint8)
    stored.flags.writeable = False
    return stored


@cache
def stored_changes() -> NDArray[np.float32]:
    """Return the change that each byte of `stored_response` stands for, shape (256,), float32, read-only."""
    changes: NDArray[np.float32] = (8 * (np.arange(256) / 255) ** 2).astype(np.float32)
    changes.flags.writeable = False
    return changes


@cache
def gray_levels(is_negative: bool) -> NDArray[np.float32]:
    """Return the log intensity of each gray value, or of its negative, shape (256,), float32."""
    values = np.arange(256, dtype=np.uint8)
    shown = values[::-1] if is_negative else values
    levels: NDArray[np.float32] = log_brightness(shown[None], BLACK_LEVEL)[0].astype(np.float32)
    return levels


def _require_images(intensities: NDArray[np.uint8]) -> None:
    if intensities.dtype != np.uint8 or intensities.ndim != 3 or not min(intensities.shape[1:]):
        raise SpecError(
            f"intensities: found {intensities.dtype} of shape {intensities.shape}, expected uint8 of shape (B, H, W) "
            "with one pixel or more"
        )


def _require_paths(paths: NDArray[np.float32], num_images: int, num_time_bins: int, num_channels: int) -> None:
    if num_time_bins < 1 or num_channels not in (1, 2):
        raise SpecError(f"frames: found {num_time_bins} bins of {num_channels} channels, expected 1 or more of 1 or 2")
    fits = paths.ndim == 3 and paths.shape[0] == num_images and paths.shape[2] == 2
    if not fits or paths.shape[1] < 2 or (paths.shape[1] - 1) % num_time_bins or not np.isfinite(paths).all():
        raise SpecError(
            f"paths: found shape {paths.shape}, expected ({num_images}, {num_time_bins} S + 1, 2) of finite "
            "displacements, with S parts in each time bin"
        )


def _boxes(scene: Scene, shape: tuple[int, ...]) -> NDArray[np.int32]:
    count, height, width = shape
    if scene.boxes is None:
        return np.tile(np.array([0, height, 0, width], np.int32), (count, 1))
    boxes = np.ascontiguousarray(scene.boxes, np.int32)
    if boxes.shape != (count, 4):
        raise SpecError(f"boxes: found shape {boxes.shape}, expected ({count}, 4)")
    top, bottom, left, right = boxes.T
    inside = (top >= 0) & (top < bottom) & (bottom <= height) & (left >= 0) & (left < right) & (right <= width)
    if not inside.all():
        wrong = boxes[~inside][0].tolist()
        raise SpecError(f"boxes: found {wrong}, expected rows and columns of a frame of {height} x {width}")
    return boxes


def _windows(boxes: NDArray[np.int32], paths: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.int32]:
    """Return the rows and columns that see some of the box at some time, shape (B, 4), int32.

    An image that reaches the edge of its frame is taken to go on beyond.
    """
    if (boxes == (0, size[0], 0, size[1])).all():
        return boxes
    windows = boxes.copy()
    for axis, (first, last) in enumerate(((2, 3), (0, 1))):
        end = size[1 - axis]
        low = boxes[:, first] + np.floor(paths[:, :, axis].min(axis=1)).astype(np.int32)
        high = boxes[:, last] + np.ceil(paths[:, :, axis].max(axis=1)).astype(np.int32)
        windows[:, first] = np.where(boxes[:, first] == 0, 0, np.clip(low, 0, end))
        windows[:, last] = np.where(boxes[:, last] == end, end, np.clip(high, 0, end))
    return windows
