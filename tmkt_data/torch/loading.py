"""Batches of pairs as tensors, read in one piece, in an order that is a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tmkt_data.errors import SpecError
from tmkt_data.pairs.arguments import require_count
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.pairs.samples import PairedBatch, PairedSample
from tmkt_data.random_keys import shuffled

_OWN_PARTS = {"dataset", "sampler", "batch_sampler", "collate_fn"}


class PairedTensors(NamedTuple):
    """A batch of pairs.

    Attributes:
        image: Frames of the images, [T, B, C, H, W] or [B, T, C, H, W].
        events: Frames of the recordings, the same shape.
        label: Classes, [B], int64.
        position: Indices of the recordings in the split, [B], int64.
        image_index: Rows of the images in the cache, [B], int64; -1 with pairing `none`.
        epoch: Epoch that images and spikes were drawn for, [B], int64.
    """

    image: Tensor
    events: Tensor
    label: Tensor
    position: Tensor
    image_index: Tensor
    epoch: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> PairedTensors:
        """Copy all tensors to a device."""
        return PairedTensors(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


class EpochBatches(Sampler[list[int]]):
    """Batches of indices in an order that is a pure function of seed and epoch, for `DataLoader(batch_sampler=...)`.

    Every epoch shows each recording once. The order follows `frames.set_epoch`, and depends neither on torch's random
    state nor on the number of workers.

    Args:
        frames: The pairs.
        batch_size: Samples in a batch, 1 or more.
        shuffle: Draw an order for each epoch; otherwise that of the split.
        drop_last: Leave out the last batch if it is smaller.

    Raises:
        SpecError: The batch size is below 1, or not a whole number.
    """

    def __init__(self, frames: PairedFrames, batch_size: int, *, shuffle: bool = True, drop_last: bool = False) -> None:
        if require_count("batch size", batch_size) < 1:
            raise SpecError(f"batch size: found {batch_size}, expected 1 or more")
        self.frames, self.batch_size, self.shuffle, self.drop_last = frames, batch_size, shuffle, drop_last

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the frames, as Lightning and loops for `DistributedSampler` do before each pass."""
        self.frames.set_epoch(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.frames), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        frames = self.frames
        order = shuffled(frames.uids, frames.seed, frames.epoch) if self.shuffle else np.arange(len(frames))
        for first in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[first : first + self.batch_size].tolist()


class _Batches(Dataset[Any]):
    """Whole batches by lists of indices, so that a batch is read at once and copied nowhere."""

    def __init__(self, frames: PairedFrames, *, time_first: bool) -> None:
        self.frames, self.time_first = frames, time_first

    def __getitem__(self, indices: list[int]) -> PairedBatch:
        return self.frames.read(indices, time_first=self.time_first, writable=True)


def collate_pairs(samples: PairedBatch | Sequence[PairedSample]) -> PairedTensors:
    """Make a batch of tensors from samples, [B, T, C, H, W], or from a batch of `PairedFrames.read`, without a copy."""
    if isinstance(samples, PairedBatch):
        epochs = np.full(len(samples.label), samples.epoch)
        return PairedTensors._make(map(_tensor, (*samples[:-1], epochs)))
    columns = zip(*samples, strict=True)
    return PairedTensors._make(_tensor(np.stack(column)) for column in columns)


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def pair_loader(
    frames: PairedFrames,
    batch_size: int,
    *,
    shuffle: bool = True,
    drop_last: bool = False,
    time_first: bool = True,
    **options: Any,
) -> DataLoader[PairedTensors]:
    """Make a loader of pairs: batches are read in one piece, in the order of `EpochBatches`.

    Call `frames.set_epoch` before each pass. Transforms of the samples are not applied; apply them to the batch.

    Args:
        frames: The pairs.
        batch_size: Samples in a batch.
        shuffle: Draw an order for each epoch.
        drop_last: Leave out the last batch if it is smaller.
        time_first: Frames as [T, B, C, H, W]; otherwise [B, T, C, H, W].
        options: Further arguments of `DataLoader`: `num_workers`, `persistent_workers`, `pin_memory`, ...

    Raises:
        SpecError: The batch size is below 1 or not a whole number, the samples have transforms, an option would replace
            what this loader is made of, or the pairs are in another dataset, such as `Subset`.

    Example:
        >>> loader = pair_loader(frames, 120, num_workers=2, persistent_workers=True)  # doctest: +SKIP
        >>> for epoch in range(100):  # doctest: +SKIP
        ...     frames.set_epoch(epoch)
        ...     for batch in loader:
        ...         image, events = batch.image, batch.events  # [T, B, C, H, W]
    """
    _require_own_parts(frames, options)
    if frames.transform or frames.target_transform or frames.transforms:
        raise SpecError(
            "pair_loader: found transforms, expected none; apply them to batches, or use a plain DataLoader"
        )
    batches = EpochBatches(frames, batch_size, shuffle=shuffle, drop_last=drop_last)
    # batch_size=None: the sampler gives whole batches, and the dataset reads them.
    return DataLoader(
        _Batches(frames, time_first=time_first), sampler=batches, batch_size=None, collate_fn=collate_pairs, **options
    )


def _require_own_parts(frames: object, options: Mapping[str, Any]) -> None:
    if not isinstance(frames, PairedFrames):
        raise SpecError(
            f"pair_loader: found a {type(frames).__name__}, expected PairedFrames; choose recordings by its per_class, "
            "event_share or keep_classes, or use DataLoader(..., collate_fn=collate_pairs)"
        )
    if taken := sorted(_OWN_PARTS & options.keys()):
        raise SpecError(
            f"pair_loader: found {', '.join(taken)}, expected none, as it has its own; use "
            "DataLoader(frames, ..., collate_fn=collate_pairs)"
        )
