"""Stored frames of a split as tensors, read through the checks of the cache and not converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_data import PairedFrames
from tmkt_data.pairs.event_scale import event_divisors, scale_events
from tmkt_data.simulate.saccade import NO_KEYS, DrawnKeys
from tmkt_train.data.sampling import DrawKeys

_BLOCK_BYTES = 1 << 25
"""Bytes of float32 frames that are read at once while a split is copied."""


class FrameStore(NamedTuple):
    """Stored frames of N recordings and M images, all on one device; P = H W pixels, channels last.

    Attributes:
        events: Shape (N, T, P, C), as the cache stores them: uint8 or float16, or float32 that are scaled already.
        planes: Planes of a step and channel with a count above 255, shape (K + 1, P), float32, scaled unless there are
            divisors; None where there are none.
        plane_of: Index of the plane that replaces a stored one, shape (N, T, C), int32; 0 for none.
        divisors: What frames are divided by, shape (N, T or 1, 1, C), float32; None for other scales.
        images: Intensities, shape (M, P), or baked spikes, shape (M, T, P, C); uint8. For `saccade` and `microsaccade`,
            intensities at the largest size that the cache keeps; with background activity changes of log intensity,
            shape (M, T, P, C), int32. Of `gradient` changes, (M, P), and of `gradient-poisson` counts, (M, T, P, C);
            int16. None without images.
    """

    events: Tensor
    planes: Tensor | None = None
    plane_of: Tensor | None = None
    divisors: Tensor | None = None
    images: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> FrameStore:
        """Return a store with every tensor changed."""
        return FrameStore(change(self.events), *(None if part is None else change(part) for part in self[1:]))


def read_in_blocks(
    read: Callable[[PairedFrames, NDArray[np.int64]], Tensor],
    frames: PairedFrames,
    rows: NDArray[np.int64],
    device: torch.device,
) -> Tensor:
    """Read rows block by block into one tensor on a device, channels last in memory."""
    held = None
    for start, part in _blocks(frames, rows):
        block = read(frames, part)
        if held is None:
            held = torch.empty((len(rows), *block.shape[1:]), dtype=block.dtype, device=device)
        held[start : start + len(part)] = block.to(device)
    if held is None:
        raise ValueError("no rows to hold, expected one or more")
    return held


def stored_bytes(frames: PairedFrames) -> int:
    """Return how many bytes a split takes on a device; reads no frames."""
    cache, (height, width) = frames.cache, frames.size
    num_planes = len(_overflowing(frames, np.arange(len(frames)))[0])
    per_step = frames.num_time_bins * frames.num_channels
    total = len(frames) * _row_bytes(frames, "events/frames")
    if num_planes:
        total += 4 * ((num_planes + 1) * height * width + len(frames) * per_step)
    if frames.scale in ("max", "step-max") and cache.arrays["events/frames"].dtype != np.float32:
        total += 4 * len(frames) * (per_step if frames.scale == "step-max" else frames.num_channels)
    return total + (len(drawable_images(frames)) * _image_bytes(frames) if frames.pairing != "none" else 0)


def _image_bytes(frames: PairedFrames) -> int:
    """Return the bytes of one image in a store."""
    if frames.encoder == "baked":
        return _row_bytes(frames, "images/spikes")
    pixels = _row_bytes(frames, "images/frames")
    if frames.image_side is not None and frames.image_side.is_moved:
        return pixels * frames.spec.image_scale**2
    match frames.encoder:
        case "gradient":
            return 2 * pixels
        case "gradient-poisson" | "saccade" | "microsaccade":
            return 2 * pixels * frames.num_time_bins * frames.num_channels
        case _:
            return pixels


def _row_bytes(frames: PairedFrames, name: str) -> int:
    array = frames.cache.arrays[name]
    return int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize


def drawable_images(frames: PairedFrames) -> NDArray[np.int64]:
    """Return the images that may accompany a recording of a split: rows of the cache, ascending, shape (M,)."""
    match frames.pairing:
        case "none":
            return np.empty(0, np.int64)
        case "twin":
            return np.unique(frames.twins)
        case "same-class":
            start = frames.pools.start
            parts = [frames.pools.rows[start[label] : start[label + 1]] for label in np.unique(frames.labels)]
            return np.unique(np.concatenate(parts))


def _blocks(frames: PairedFrames, rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the rows in blocks, each with the number of those before it."""
    size = max(1, _BLOCK_BYTES // (4 * _row_bytes(frames, "events/frames")))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


def read_events(frames: PairedFrames, positions: NDArray[np.int64]) -> Tensor:
    """Read stored event frames, shape (B, T, P, C) as a view of what the cache holds; see `FrameStore.events`."""
    stored = frames.cache.arrays["events/frames"]
    rows = frames.rows[positions]
    found = stored.rows(rows)
    if stored.dtype == np.float32:
        found = scale_events(frames.cache.event_frames(rows), frames.scale)
    return torch.from_numpy(found).flatten(-2).transpose(-2, -1)


def read_images(frames: PairedFrames, rows: NDArray[np.int64], keys: DrawKeys | None = None) -> Tensor:
    """Read stored images, baked spikes, or what an encoder that imitates events makes; see `FrameStore.images`.

    The epoch of the split is set; `rows` are those of the cache, shape (B,). Encoders that draw
    do so by `keys`.
    """
    side = frames.image_side
    if frames.encoder == "baked":
        return torch.from_numpy(frames.cache.image_spikes(rows)).flatten(-2).transpose(-2, -1)
    if side is not None and side.is_moved:
        return torch.from_numpy(frames.cache.finest_frames(rows)).flatten(-2)
    if side is not None and side.imitates_events:
        words = NO_KEYS if keys is None else DrawnKeys(frames.seed, frames.epoch, keys.uids, keys.occurrences)
        changes = torch.from_numpy(side.changes(rows, words)).flatten(-2)
        return changes[:, 0, 0] if frames.encoder == "gradient" else changes.transpose(-2, -1)
    return torch.from_numpy(frames.cache.image_frames(rows)).flatten(-2)


def read_planes(frames: PairedFrames, positions: NDArray[np.int64]) -> tuple[Tensor | None, Tensor | None]:
    """Read the planes with counts above 255, and which they replace; see `FrameStore.planes` and `plane_of`."""
    at, plane = _overflowing(frames, positions)
    if not len(at):
        return None, None
    num_bins, num_channels, (height, width) = frames.num_time_bins, frames.num_channels, frames.size
    plane_of = np.zeros((len(positions), num_bins * num_channels), np.int32)
    plane_of[at, plane] = np.arange(1, len(at) + 1)
    planes = np.zeros((len(at) + 1, height * width), np.float32)
    for _, part in _blocks(frames, np.unique(at)):
        wide = frames.cache.event_frames(frames.rows[positions[part]])
        if frames.scale not in ("max", "step-max"):
            scale_events(wide, frames.scale)
        kept = plane_of[part]
        planes[kept[kept > 0]] = wide.reshape(*kept.shape, -1)[kept > 0]
    shape = (len(positions), num_bins, num_channels)
    return torch.from_numpy(planes), torch.from_numpy(plane_of.reshape(shape))


def _overflowing(frames: PairedFrames, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which planes of which samples hold counts above 255: places in `positions`, and t C + c."""
    tables, rows = frames.cache.tables, frames.rows[positions]
    start = tables["events/overflow_start"]
    counts = start[rows + 1] - start[rows]
    at = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    cells = tables["events/overflow_cell"][np.repeat(start[rows], counts) + within]
    per_step = frames.num_time_bins * frames.num_channels
    return np.divmod(np.unique(at * per_step + cells // (frames.size[0] * frames.size[1])), per_step)


def read_divisors(frames: PairedFrames, positions: NDArray[np.int64]) -> Tensor | None:
    """Compute what the scale of a split divides by; see `FrameStore.divisors`."""
    if frames.scale not in ("max", "step-max") or frames.cache.arrays["events/frames"].dtype == np.float32:
        return None
    parts = [
        event_divisors(frames.cache.event_frames(frames.rows[part]), frames.scale)[..., 0].swapaxes(-2, -1)
        for _, part in _blocks(frames, positions)
    ]
    return torch.from_numpy(np.concatenate(parts))
