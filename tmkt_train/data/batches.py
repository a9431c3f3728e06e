"""From paired frames to tensors on the device; the only place that turns `[B, T]` into `[T, B]`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_data import PairedFrames
from tmkt_data.pairs.samples import PairedBatch
from tmkt_train.data.assemble import Assembler
from tmkt_train.data.augmentation import augment
from tmkt_train.data.device import DeviceFrames, StreamedFrames, StreamedRead
from tmkt_train.data.sampling import DrawKeys, batch_slices, epoch_order, rank_slice

if TYPE_CHECKING:
    from tmkt_train.recipe.schema import TrainTable

Item = TypeVar("Item")
Read = TypeVar("Read")

STREAM_DEPTH = 3
"""Batches read ahead of a GPU, in pinned memory."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, step-major, on the training device.

    Attributes:
        image: Image frames, shape (T, B, C, H, W), float32 in [0, 1]; None without an image side.
        events: Event frames, same shape, float32; augmented in training.
        labels: Classes, shape (B,), int64.
        indices: Indices into the split, shape (B,), int64, on the CPU.
        keys: Keys of the random draws of the samples.
        num_others: Samples of the same batch that other ranks train on.
    """

    image: Tensor | None
    events: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    keys: DrawKeys
    num_others: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def global_size(self) -> int:
        """Number of samples of the batch over all ranks."""
        return len(self) + self.num_others


class EpochPlan(NamedTuple):
    """The batches of an epoch to read, from `first_batch` on.

    Epochs and batches count from 0; `num_draws` is None for as many samples as the split has. Of each batch, rank
    `rank` of `num_ranks` reads its part.
    """

    seed: int
    epoch: int
    num_draws: int | None = None
    first_batch: int = 0
    rank: int = 0
    num_ranks: int = 1


class Draws(NamedTuple):
    """The samples of an epoch in their order: indices in the split, shape (N,), int64, and their keys.

    `train` is their augmentation; None for events alone, as they are.
    """

    indices: NDArray[np.int64]
    keys: DrawKeys
    train: TrainTable | None = None

    def part(self, samples: slice) -> Draws:
        """Return some of the samples."""
        return self._replace(indices=self.indices[samples], keys=self.keys.part(samples))


def training_batches(
    frames: PairedFrames | DeviceFrames, train: TrainTable, plan: EpochPlan, device: torch.device
) -> Generator[Batch, None, None]:
    """Yield the batches of a training epoch.

    Order, pairs and augmentation are pure functions of seed, epoch and sample, so starting at batch `first_batch`
    gives exactly what remains of the epoch. Frames are the same bit for bit wherever they are made.

    Args:
        frames: Training split, see `device.place_frames`; its epoch is set. With pairing `none`, the batches have no
            images.
        train: Sampler, batch size and augmentation.
        plan: The epoch.
        device: Where the tensors go.
    """
    split = frames.frames if isinstance(frames, DeviceFrames) else frames
    draws = epoch_draws(split, train, plan)
    slices = batch_slices(len(draws.indices), train.batch_size, drop_last=train.drop_last, first=plan.first_batch)
    if plan.num_ranks > 1:
        return _batches_of_rank(frames, draws, list(slices), plan, device)
    return _batches_of(frames, draws, slices, device)


def _batches_of_rank(
    frames: PairedFrames | DeviceFrames, draws: Draws, slices: list[slice], plan: EpochPlan, device: torch.device
) -> Generator[Batch, None, None]:
    own = (rank_slice(rows, plan.rank, plan.num_ranks) for rows in slices)
    with closing(_batches_of(frames, draws, own, device)) as batches:
        for rows, batch in zip(slices, batches, strict=True):
            yield replace(batch, num_others=rows.stop - rows.start - len(batch))


def _batches_of(
    frames: PairedFrames | DeviceFrames, draws: Draws, slices: Iterable[slice], device: torch.device
) -> Generator[Batch, None, None]:
    if isinstance(frames, DeviceFrames) or device.type != "cpu":
        return _batches_on(device, frames, draws, slices)

    def read(rows: slice) -> Batch:
        indices, keys, train = draws.part(rows)
        found = frames.read(indices, keys.occurrences)
        if train is not None:
            crop, flip, rotation = train.crop_padding, train.flip, train.rotation
            found = found._replace(events=augment(found.events, keys, crop_padding=crop, flip=flip, rotation=rotation))
        return _to_batch(found, keys, with_image=train is not None and frames.pairing != "none")

    return read_ahead(read, slices)


def epoch_draws(frames: PairedFrames, train: TrainTable, plan: EpochPlan) -> Draws:
    """Draw the samples of a whole training epoch, and set the epoch of the split."""
    frames.set_epoch(plan.epoch)
    order = epoch_order(
        frames.uids,
        frames.labels,
        seed=plan.seed,
        epoch=plan.epoch,
        sampler=train.sampler,
        num_draws=plan.num_draws,
    )
    keys = DrawKeys(plan.seed, plan.epoch, frames.uids[order.indices], order.occurrences)
    return Draws(order.indices, keys, train)


def evaluation_batches(
    frames: PairedFrames | DeviceFrames, *, batch_size: int, device: torch.device, first: int = 0, every: int = 1
) -> Generator[Batch, None, None]:
    """Yield the events of every sample once, in the order of the split, not augmented.

    From batch `first` on, one batch of each `every` is yielded.
    """
    split = frames.frames if isinstance(frames, DeviceFrames) else frames
    indices = np.arange(len(split))
    keys = DrawKeys(split.seed, 0, split.uids, np.zeros_like(indices))
    slices = islice(batch_slices(len(split), batch_size, drop_last=False, first=first), 0, None, every)
    return _batches_of(frames, Draws(indices, keys), slices, device)


def _batches_on(
    device: torch.device, frames: PairedFrames | DeviceFrames, draws: Draws, slices: Iterable[slice]
) -> Generator[Batch, None, None]:
    if isinstance(frames, DeviceFrames):
        return _held_batches(frames, draws, slices)
    return _streamed_batches(StreamedFrames(frames, device, Assembler(frames, device)), draws, slices)


def _held_batches(frames: DeviceFrames, draws: Draws, slices: Iterable[slice]) -> Generator[Batch, None, None]:
    plan = frames.plan(*draws)
    for rows in slices:
        yield Batch(*frames.batch(plan.part(rows)), draws.indices[rows], draws.keys.part(rows))


def _streamed_batches(frames: StreamedFrames, draws: Draws, slices: Iterable[slice]) -> Generator[Batch, None, None]:
    def read(rows: slice) -> tuple[Draws, StreamedRead]:
        here = draws.part(rows)
        return here, frames.read(*here)

    with closing(read_ahead(read, slices, depth=STREAM_DEPTH)) as found:
        for here, stored in found:
            yield Batch(*frames.batch(stored), here.indices, here.keys)


def _to_batch(found: PairedBatch, keys: DrawKeys, *, with_image: bool) -> Batch:
    return Batch(
        image=_to_steps(found.image) if with_image else None,
        events=_to_steps(found.events),
        labels=torch.from_numpy(np.ascontiguousarray(found.label, dtype=np.int64)),
        indices=found.position,
        keys=keys,
    )


def _to_steps(frames: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.swapaxes(frames, 0, 1), dtype=np.float32))


def read_ahead(read: Callable[[Item], Read], items: Iterable[Item], *, depth: int = 1) -> Generator[Read, None, None]:
    """Yield `read(item)` for each item, reading up to `depth` next ones in a thread while the caller works on this one.

    An error in `read` is raised where its result would have been yielded. The thread ends with the iteration, also if
    the caller stops early.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as pool:
        waiting: deque[Future[Read]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
