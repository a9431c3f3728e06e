"""From paired frames to tensors on the device; the only place that turns `[B, T]` into `[T, B]`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_data import PairedFrames
from tmkt_data.pairs.paired_frames import PairedBatch
from tmkt_train.data.augmentation import augment
from tmkt_train.data.sampling import DrawKeys, batch_slices, epoch_order

if TYPE_CHECKING:
    from tmkt_train.recipe.schema import TrainTable

Item = TypeVar("Item")
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, step-major, on the training device.

    Attributes:
        image: Image frames, shape (T, B, C, H, W), float32 in [0, 1]; None without an image side.
        events: Event frames, same shape, float32; augmented in training.
        labels: Classes, shape (B,), int64.
        indices: Indices into the split, shape (B,), int64, on the CPU.
        keys: Keys of the random draws of the samples.
    """

    image: Tensor | None
    events: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    keys: DrawKeys

    def __len__(self) -> int:
        return len(self.indices)


class EpochPlan(NamedTuple):
    """Which batches of which epoch are read.

    Attributes:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        num_draws: Samples in the epoch; None for as many as the split has.
        first_batch: Number of the first batch, from 0.
    """

    seed: int
    epoch: int
    num_draws: int | None = None
    first_batch: int = 0


def training_batches(
    frames: PairedFrames, train: TrainTable, plan: EpochPlan, device: torch.device
) -> Generator[Batch, None, None]:
    """Yield the batches of a training epoch.

    Order, pairs and augmentation are pure functions of seed, epoch and sample, so starting at batch `first_batch`
    gives exactly what remains of the epoch.

    Args:
        frames: Training split; its epoch is set. With pairing `none`, the batches have no images.
        train: Sampler, batch size and augmentation.
        plan: The epoch.
        device: Where the tensors go.
    """
    seed, epoch = plan.seed, plan.epoch
    frames.set_epoch(epoch)
    order = epoch_order(
        frames.uids, frames.labels, seed=seed, epoch=epoch, sampler=train.sampler, num_draws=plan.num_draws
    )

    def read(rows: slice) -> Batch:
        indices, occurrences = order.indices[rows], order.occurrences[rows]
        keys = DrawKeys(seed, epoch, frames.uids[indices], occurrences)
        found = frames.read(indices, occurrences)
        events = augment(found.events, keys, crop_padding=train.crop_padding, flip=train.flip, rotation=train.rotation)
        return _to_batch(found._replace(events=events), keys, with_image=frames.pairing != "none")

    slices = batch_slices(len(order.indices), train.batch_size, drop_last=train.drop_last, first=plan.first_batch)
    return _batches_on(device, read, slices)


def evaluation_batches(frames: PairedFrames, *, batch_size: int, device: torch.device) -> Generator[Batch, None, None]:
    """Yield the events of every sample once, in the order of the split and without augmentation."""

    def read(rows: slice) -> Batch:
        found = frames.read(np.arange(rows.start, rows.stop))
        keys = DrawKeys(frames.seed, 0, frames.uids[found.indices], np.zeros_like(found.indices))
        return _to_batch(found, keys, with_image=False)

    return _batches_on(device, read, batch_slices(len(frames), batch_size, drop_last=False))


def _to_batch(found: PairedBatch, keys: DrawKeys, *, with_image: bool) -> Batch:
    return Batch(
        image=_to_steps(found.image) if with_image else None,
        events=_to_steps(found.events),
        labels=torch.from_numpy(np.ascontiguousarray(found.labels, dtype=np.int64)),
        indices=found.indices,
        keys=keys,
    )


def _to_steps(frames: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.swapaxes(frames, 0, 1), dtype=np.float32))


def _batches_on(
    device: torch.device, read: Callable[[slice], Batch], slices: Iterable[slice]
) -> Generator[Batch, None, None]:
    with closing(read_ahead(read, slices)) as batches:
        for batch in batches:
            yield replace(
                batch,
                image=None if batch.image is None else batch.image.to(device, non_blocking=True),
                events=batch.events.to(device, non_blocking=True),
                labels=batch.labels.to(device, non_blocking=True),
            )


def read_ahead(read: Callable[[Item], Read], items: Iterable[Item]) -> Generator[Read, None, None]:
    """Yield `read(item)` for each item, reading the next one in a thread while the caller works on this one.

    An error in `read` is raised where its result would have been yielded. The thread ends with the iteration, also
    if the caller stops early.
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
