"""A split on the training device: its stored bytes and the plan of an epoch; equal to reading it on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_data import PairedFrames
from tmkt_train.data.assemble import Assembled, Assembler
from tmkt_train.data.cache import open_frames, selection_split
from tmkt_train.data.plan import Images, SamplePlan, draw_plan
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.data.stored import (
    FrameStore,
    drawable_images,
    read_divisors,
    read_events,
    read_images,
    read_in_blocks,
    read_planes,
    stored_bytes,
)

if TYPE_CHECKING:
    from tmkt_train.recipe.recipe import Recipe
    from tmkt_train.recipe.schema import TrainTable

LARGEST_SHARE = 0.25
"""Share of the free memory of a device that one split may take."""


@dataclass(frozen=True, eq=False, slots=True)
class DeviceFrames:
    """A split whose stored bytes lie on a device.

    Attributes:
        frames: The split.
        device: Where its bytes are.
        store: Recordings in the order of the split, images in that of `image_rows`.
        image_rows: Rows of the images in the cache, ascending, shape (M,), int64.
        assembler: Makes frames of them.
    """

    frames: PairedFrames
    device: torch.device
    store: FrameStore
    image_rows: NDArray[np.int64]
    assembler: Assembler

    def plan(self, indices: NDArray[np.int64], keys: DrawKeys, train: TrainTable | None = None) -> SamplePlan:
        """Make all random draws of some samples, such as an epoch, and copy them to the device asynchronously.

        Args:
            indices: Indices in the split, shape (N,).
            keys: Keys of the samples; the epoch of the split is set.
            train: Augmentation; None for events only, without augmentation.
        """
        images = None
        if train is not None and self.frames.pairing != "none":
            rows = self.frames.image_rows(indices, keys.occurrences)
            images = Images(np.searchsorted(self.image_rows, rows), rows)
        plan = draw_plan(self.frames, (indices, images), self.frames.labels[indices], keys, train)
        return plan._replace(table=copy_ahead(plan.table, self.device))

    def batch(self, plan: SamplePlan) -> Assembled:
        """Return the frames of the samples of a plan, without waiting for the device."""
        return self.assembler.batch(self.store, plan)


class StreamedRead(NamedTuple):
    """The stored bytes of a batch and its plan, on the CPU."""

    store: FrameStore
    plan: SamplePlan


@dataclass(frozen=True, eq=False, slots=True)
class StreamedFrames:
    """A split too large for a device: the stored bytes of each batch are copied to it through pinned memory."""

    frames: PairedFrames
    device: torch.device
    assembler: Assembler

    def read(self, indices: NDArray[np.int64], keys: DrawKeys, train: TrainTable | None = None) -> StreamedRead:
        """Read the stored bytes of a batch and draw its plan, in pinned memory; arguments as in `DeviceFrames.plan`.

        Raises:
            CacheError: A frame was modified after it was written, or cannot be read.
        """
        frames, places = self.frames, np.arange(len(indices))
        has_images = train is not None and frames.pairing != "none"
        rows = frames.image_rows(indices, keys.occurrences) if has_images else None
        images = read_images(frames, rows, keys) if rows is not None else None
        store = FrameStore(
            read_events(frames, indices), *read_planes(frames, indices), read_divisors(frames, indices), images
        )
        shown = None if rows is None else Images(places, rows)
        plan = draw_plan(frames, (places, shown), frames.labels[indices], keys, train)
        return StreamedRead(
            store.each(lambda part: pinned(part, self.device)), plan._replace(table=pinned(plan.table, self.device))
        )

    def batch(self, found: StreamedRead) -> Assembled:
        """Copy what `read` returned to the device and return the frames, without waiting for the device."""
        plan = found.plan._replace(table=found.plan.table.to(self.device, non_blocking=True))
        return self.assembler.batch(copy_store(found.store, self.device), plan)


def place_frames(frames: PairedFrames, device: torch.device) -> PairedFrames | DeviceFrames:
    """Store a split on a GPU if it fits in `LARGEST_SHARE` of the free memory; otherwise, and on a CPU, return it.

    A split whose image frames are drawn anew each time by the CPU cannot be stored.

    Raises:
        CacheError: A frame was modified after it was written, or cannot be read.
    """
    side = frames.image_side
    if device.type != "cuda" or (side is not None and side.is_drawn and not side.is_moved):
        return frames
    return hold_frames(frames, device) if stored_bytes(frames) <= LARGEST_SHARE * free_bytes(device) else frames


def encoding_record(source: PairedFrames | DeviceFrames, device: torch.device) -> dict[str, str]:
    """Return what a run records of who encodes its images, where a GPU trains and its encoder imitates events.

    That is `image_frames` and how they are made; nothing for encoders that only copy or draw intensities.
    """
    frames = source.frames if isinstance(source, DeviceFrames) else source
    is_encoded = frames.image_side is not None and frames.image_side.imitates_events and frames.encoder != "baked"
    if device.type == "cpu" or not is_encoded:
        return {}
    if frames.image_side is not None and frames.image_side.is_moved:
        return {"image_frames": f"{frames.encoder}: encoded on the GPU, batch by batch"}
    how = "once, kept on the GPU" if isinstance(source, DeviceFrames) else "batch by batch"
    return {"image_frames": f"{frames.encoder}: encoded on the CPU, {how}"}


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU, with what torch has reserved and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def data_bytes(recipe: Recipe, cache: Path) -> int:
    """Return how many bytes both splits of a training take on a GPU if it holds them; reads no frames.

    Raises:
        TmktError: The cache cannot be opened, or does not fit the recipe.
    """
    train = open_frames(recipe, cache, "train")
    return stored_bytes(train) + stored_bytes(open_frames(recipe, train.cache, selection_split(recipe)))


def hold_frames(frames: PairedFrames, device: torch.device) -> DeviceFrames:
    """Copy the stored bytes of a split to a device; errors as in `place_frames`."""
    positions, image_rows = np.arange(len(frames)), drawable_images(frames)
    events = read_in_blocks(read_events, frames, positions, device)
    images = read_in_blocks(read_images, frames, image_rows, device) if len(image_rows) else None
    rest = FrameStore(events, *read_planes(frames, positions), read_divisors(frames, positions), images)
    # Copied once and from pageable memory: what torch pins, it keeps.
    store = rest.each(lambda part: part.to(device).contiguous())
    return DeviceFrames(frames, device, store, image_rows, Assembler(frames, device))


def copy_ahead(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to a device, to a GPU through pinned memory and without waiting."""
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor in pinned memory if it is to be copied from the CPU to a GPU."""
    is_copied = tensor.device.type == "cpu" and device.type == "cuda" and torch.cuda.is_available()
    return tensor.pin_memory() if is_copied else tensor


def copy_store(store: FrameStore, device: torch.device) -> FrameStore:
    """Copy every part of a store to a device, channels last in memory."""
    return store.each(lambda part: copy_ahead(part, device).contiguous())
