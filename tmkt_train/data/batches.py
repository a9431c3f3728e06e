"""From paired frames to tensors on the device; the one place that turns `[B, T]` into `[T, B]`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_data import PairedFrames
from tmkt_train.choices import Sampler
from tmkt_train.data.augmentation import Augmentation
from tmkt_train.data.sampling import batch_slices, epoch_order

Item = TypeVar("Item")
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, step-major, on the device of the training.

    Attributes:
        image: Image frames, shape (T, B, C, H, W), float32 in [0, 1]; None without an image stream.
        events: Event frames, same shape, float32; cropped in training.
        labels: Classes, shape (B,), int64.
        indices: Positions in the split, shape (B,), int64, on the CPU.
        uids: Numbers of the samples, shape (B,), uint64.
        occurrences: Earlier draws of the same sample in the epoch, shape (B,), int64.
        epoch: Epoch of the draws.
    """

    image: Tensor | None
    events: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    uids: NDArray[np.uint64]
    occurrences: NDArray[np.int64]
    epoch: int

    def __len__(self) -> int:
        return len(self.indices)


def training_batches(
    frames: PairedFrames,
    *,
    seed: int,
    epoch: int,
    sampler: Sampler,
    batch_size: int,
    drop_last: bool,
    augmentation: Augmentation,
    with_images: bool,
    device: torch.device,
    first: int = 0,
    num_draws: int | None = None,
) -> Generator[Batch, None, None]:
    """Yield the batches of a training epoch, one read ahead in a thread.

    Order, pairs and crops are pure functions of seed, epoch and sample, so starting at batch `first` gives
    exactly what remains of the epoch.

    Args:
        frames: Training part; its epoch is set.
        seed: Seed of the run.
        epoch: Epoch, from 0.
        sampler: How samples are drawn.
        batch_size: Samples per batch.
        drop_last: Whether to leave out a last batch that is not full.
        augmentation: What is done to event frames.
        with_images: Whether the method has an image stream.
        device: Where the tensors go.
        first: Number of the first batch.
        num_draws: Samples in the epoch; None for as many as the part has.
    """
    frames.set_epoch(epoch)
    order = epoch_order(frames.uids, frames.labels, seed=seed, epoch=epoch, sampler=sampler, num_draws=num_draws)

    def read(part: slice) -> Batch:
        indices, occurrences = order.indices[part], order.occurrences[part]
        found = frames.read(indices, occurrences)
        uids = frames.uids[indices]
        events = augmentation.apply(found.events, seed=seed, epoch=epoch, uids=uids, occurrences=occurrences)
        return Batch(
            image=_to_steps(found.image) if with_images else None,
            events=_to_steps(events),
            labels=torch.from_numpy(np.ascontiguousarray(found.labels, dtype=np.int64)),
            indices=indices,
            uids=uids,
            occurrences=occurrences,
            epoch=epoch,
        )

    slices = batch_slices(len(order.indices), batch_size, drop_last=drop_last, first=first)
    with closing(read_ahead(read, slices)) as batches:
        for batch in batches:
            yield _to_device(batch, device)


def evaluation_batches(frames: PairedFrames, *, batch_size: int, device: torch.device) -> Generator[Batch, None, None]:
    """Yield the events of every sample once, in the order of the split and without augmentation."""

    def read(part: slice) -> Batch:
        indices = np.arange(part.start, part.stop)
        found = frames.read(indices)
        return Batch(
            image=None,
            events=_to_steps(found.events),
            labels=torch.from_numpy(np.ascontiguousarray(found.labels, dtype=np.int64)),
            indices=indices,
            uids=frames.uids[indices],
            occurrences=np.zeros(len(indices), dtype=np.int64),
            epoch=0,
        )

    slices = batch_slices(len(frames), batch_size, drop_last=False)
    with closing(read_ahead(read, slices)) as batches:
        for batch in batches:
            yield _to_device(batch, device)


def read_ahead(read: Callable[[Item], Read], items: Iterable[Item]) -> Generator[Read, None, None]:
    """Yield `read(item)` for each item, reading the next one in a thread while the caller works on this one.

    An error in `read` is raised where its result would have been yielded. The thread ends with the iteration,
    also when the caller stops early.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as pool:
        waiting: Future[Read] | None = None
        for item in items:
            following = pool.submit(read, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _to_steps(frames: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.swapaxes(frames, 0, 1), dtype=np.float32))


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return replace(
        batch,
        image=None if batch.image is None else batch.image.to(device, non_blocking=True),
        events=batch.events.to(device, non_blocking=True),
        labels=batch.labels.to(device, non_blocking=True),
    )
