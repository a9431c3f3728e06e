"""Frames of a batch from stored bytes, in torch alone: gathered, scaled, moved and encoded on any device.

Results equal those of `PairedFrames.read` and `augment` bit for bit. On a GPU only operations that round as on a CPU
are used: integers, comparisons, and sums, products and quotients of tensors. What does not (log1p, sine, division by
a number) is looked up in tables or in the plan, both computed with NumPy. No operation waits for the GPU, and shapes
depend on the number of samples only, so that a CUDA graph can hold all of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_data import PairedFrames
from tmkt_data.images.encode import repeat_frames
from tmkt_data.pairs.event_scale import scale_events
from tmkt_train.data.moved import MovedImages
from tmkt_train.data.plan import (
    COLUMNS,
    COSINE,
    EVENT,
    IMAGE,
    KEY_HIGH,
    KEY_LOW,
    LABEL,
    MIRRORED,
    NUM_COLUMNS,
    ROWS,
    SINE,
    SamplePlan,
)
from tmkt_train.data.stored import FrameStore

_WORD = 0xFFFFFFFF
_HALF_WORD = 0xFFFF


class Assembled(NamedTuple):
    """Frames of a batch, step-major, channels last in memory.

    Attributes:
        image: Shape (T, B, C, H, W), float32; with `repeat` and `gradient` a view of one frame a sample; None without
            images.
        events: Shape (T, B, C, H, W), float32.
        labels: Shape (B,), int64; a view of the plan.
    """

    image: Tensor | None
    events: Tensor
    labels: Tensor


class Assembler:
    """Turn the stored frames of a split into frames of a batch, on the device where they are stored."""

    def __init__(self, frames: PairedFrames, device: torch.device) -> None:
        self._frames = frames
        self._steps = torch.arange(frames.num_time_bins, device=device)
        height, width = frames.size
        row, column = np.mgrid[:height, :width].reshape(2, 1, -1)
        self._row, self._column = _to(row, device), _to(column, device)
        self._y, self._x = _to(row - (height - 1) / 2, device), _to(column - (width - 1) / 2, device)
        stored = frames.cache.arrays["events/frames"].dtype
        has_table = frames.scale == "log1p" and stored != np.float32
        self._log = _to(_log_table(stored), device) if has_table else None
        self._levels = _to(_image_table(frames), device)
        side = frames.image_side
        self._moved = MovedImages(frames, side, device) if side is not None and side.is_moved else None
        self._zero = 0 if frames.image_side is None or not frames.image_side.imitates_events else frames.image_side.zero

    def batch(self, store: FrameStore, plan: SamplePlan) -> Assembled:
        """Return the frames of the samples of a plan."""
        cells, outside = self._source_cells(plan) if plan.moves else (None, None)
        events = self._events(store, plan.table[:, EVENT], cells)
        if outside is not None:
            events = events.masked_fill(outside[None, :, :, None], 0)
        image = self._images(store.images, plan) if plan.with_image and store.images is not None else None
        return Assembled(image, self._to_frames(events), plan.table[:, LABEL])

    def _source_cells(self, plan: SamplePlan) -> tuple[Tensor, Tensor]:
        """Return which cell each cell is taken from, shape (B, P), and whether that lies outside and is zero."""
        height, width = self._frames.size
        down, right, mirrored = (plan.table[:, at : at + 1] for at in (ROWS, COLUMNS, MIRRORED))
        row, column = self._row, self._column
        outside = torch.zeros_like(row, dtype=torch.bool)
        if plan.rotates:
            sine, cosine = (plan.table[:, at : at + 1].view(torch.float64) for at in (SINE, COSINE))
            row = torch.round(self._x * sine + self._y * cosine + (height - 1) / 2).long()
            column = torch.round(self._x * cosine - self._y * sine + (width - 1) / 2).long()
            outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
        row = row + down
        column = torch.where(mirrored != 0, width - 1 - column, column) + right
        outside = outside | (row < 0) | (row >= height) | (column < 0) | (column >= width)
        return row.clamp(0, height - 1) * width + column.clamp(0, width - 1), outside

    def _events(self, store: FrameStore, rows: Tensor, cells: Tensor | None) -> Tensor:
        events = self._scaled(self._pick(store.events, rows, cells))
        if store.planes is not None and store.plane_of is not None:
            which = store.plane_of[rows].long().transpose(0, 1)[:, :, None]
            where = self._row * self._frames.size[1] + self._column if cells is None else cells
            events = torch.where(which > 0, store.planes[which, where[None, :, :, None]], events)
        if store.divisors is not None:
            events = events / store.divisors[rows].transpose(0, 1)
        return events

    def _pick(self, stored: Tensor, rows: Tensor, cells: Tensor | None) -> Tensor:
        """Return some rows of (N, T, P, C) step-major, shape (T, B, P, C), each with its own order of cells."""
        if cells is None:
            return stored[rows[None], self._steps[:, None]]
        return stored[rows[None, :, None], self._steps[:, None, None], cells[None]]

    def _scaled(self, stored: Tensor) -> Tensor:
        """Apply the scales of single cells, whatever the sample."""
        if stored.dtype == torch.float32:
            return stored
        match self._frames.scale:
            case "clip1":
                return stored.float().clamp_(-1, 1)
            case "binary":
                return (stored != 0).float()
            case "log1p" if self._log is not None:
                return self._log[(stored if stored.dtype == torch.uint8 else stored.view(torch.int16)).int()]
            case _:
                return stored.float()

    def _images(self, stored: Tensor, plan: SamplePlan) -> Tensor:
        frames, rows = self._frames, plan.table[:, IMAGE]
        shape = (frames.num_time_bins, len(rows), frames.num_channels, *frames.size)
        match frames.encoder:
            case "baked":
                spikes = self._pick(stored, rows, None)
                imitates = frames.image_side is not None and frames.image_side.imitates_events
                return self._to_frames(self._imitated(spikes) if imitates else self._levels[spikes.int()])
            case "repeat":
                return self._levels[stored[rows].int()].view(1, len(rows), 1, *frames.size).expand(shape)
            case "gradient":
                return self._to_frames(self._imitated(stored[rows][None, :, :, None])).expand(shape)
            case "saccade" | "microsaccade" if self._moved is not None:
                changes = self._moved.changes(stored[rows], plan.table[:, NUM_COLUMNS:])
                return self._to_frames(self._imitated(changes))
            case "gradient-poisson" | "saccade" | "microsaccade":
                return self._to_frames(self._imitated(self._pick(stored, rows, None)))
            case "poisson":
                keys = plan.table[:, KEY_LOW], plan.table[:, KEY_HIGH]
                limits = self._levels[stored[rows].int()]
                return self._to_frames(poisson_spikes(limits, keys, frames.num_time_bins, frames.num_channels))

    def _imitated(self, changes: Tensor) -> Tensor:
        """Turn changes of log intensity, shape (T, B, P, C) or repeated (1, B, P, 1), into values of event frames."""
        values = self._levels[changes.int() + self._zero]
        match self._frames.scale:
            case "max":
                largest = values.abs().amax(dim=(0, 2), keepdim=True)
            case "step-max":
                largest = values.abs().amax(dim=2, keepdim=True)
            case _:
                return values
        return values / largest.clamp_min(1e-12)

    def _to_frames(self, pixels: Tensor) -> Tensor:
        """View (T, B, P, C) as (T, B, C, H, W)."""
        num_steps, num_samples, _, num_channels = pixels.shape
        return pixels.view(num_steps, num_samples, *self._frames.size, num_channels).permute(0, 1, 4, 2, 3)


def poisson_spikes(limits: Tensor, keys: tuple[Tensor, Tensor], num_steps: int, num_channels: int) -> Tensor:
    """Draw spikes equal to those of `tmkt_data.kernels.poisson`.

    Args:
        limits: 16-bit number below which a pixel spikes, shape (B, P), int64, 0 to 65536.
        keys: Low and high word of the key of each sample, each of shape (B,), int64.
        num_steps: Time steps, T.
        num_channels: Channels, C.

    Returns:
        Shape (T, B, P, C), float32, 0 or 1.
    """
    from tmkt_data.kernels.poisson import LANES

    device, num_pixels = limits.device, limits.shape[1]
    num_blocks = -(-num_pixels // (8 * LANES))
    counter = torch.arange(num_blocks * LANES, device=device)
    frame = torch.arange(num_steps * num_channels, device=device).view(num_steps, 1, num_channels, 1)
    low, high = (word.view(1, -1, 1, 1) for word in keys)
    words = random_words(counter, frame, low, high)
    halves = torch.stack([half for word in words for half in (word >> 16, word & _HALF_WORD)], dim=-2)
    # Now (T, B, C, 8, blocks * lanes): pixels of a block lie `LANES` apart.
    halves = halves.view(*halves.shape[:-1], num_blocks, LANES).transpose(-3, -2).flatten(-3)[..., :num_pixels]
    return (halves < limits[None, :, None]).transpose(-2, -1).contiguous().float()


def random_words(x: Tensor, y: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hash four 32-bit words, held in int64, as `tmkt_data.kernels.poisson.random_words` does."""
    x, y, z, w = ((word * 1664525 + 1013904223) & _WORD for word in (x, y, z, w))
    for _ in range(2):
        # The low 32 bits of a product are right although int64 overflows.
        x = (x + y * w) & _WORD
        y = (y + z * x) & _WORD
        z = (z + x * y) & _WORD
        w = (w + y * z) & _WORD
        x, y, z, w = (word ^ (word >> 16) for word in (x, y, z, w))
    return x, y, z, w


def _log_table(stored: np.dtype[Any]) -> NDArray[np.float32]:
    """Return log1p of every value of a stored type: of a byte, or of the bits of a non-negative float16."""
    bits = np.arange(2**15, dtype=np.uint16)
    values = np.arange(256, dtype=np.float32) if stored == np.uint8 else bits.view(np.float16).astype(np.float32)
    with np.errstate(invalid="ignore"):
        return scale_events(values.reshape(1, 1, 1, 1, -1), "log1p").reshape(-1)


def _image_table(frames: PairedFrames) -> NDArray[np.float32] | NDArray[np.int64]:
    """Return the intensity, the spike limit or the value of a frame for each stored number of an image."""
    bytes_ = np.arange(256, dtype=np.uint8)
    if frames.image_side is not None and frames.image_side.imitates_events:
        return frames.image_side.response
    if frames.encoder == "poisson":
        from tmkt_data.kernels.poisson import spike_limits

        limits = np.empty(256, np.uint32)
        spike_limits(bytes_, limits)
        return limits.astype(np.int64)
    if frames.encoder == "baked" and frames.spec.bake != "repeat":
        return bytes_.astype(np.float32)
    return repeat_frames(bytes_[None], 1, 1).reshape(-1)


def _to(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array)).to(device)
