"""Which samples an epoch shows, in which order, and the keys of their random draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tmkt_data.random_keys import Purpose, shuffled, uniform
from tmkt_train.choices import Sampler


class DrawKeys(NamedTuple):
    """Keys of the random draws of B samples; see `tmkt_data.random_keys`.

    Attributes:
        seed: Seed of the run, 0 or more.
        epoch: Epoch, from 0.
        uids: Numbers of the samples, shape (B,), uint64; see `tmkt_data.random_keys.sample_uid`.
        occurrences: Earlier draws of the same sample in the epoch, shape (B,), int64.
    """

    seed: int
    epoch: int
    uids: NDArray[np.uint64]
    occurrences: NDArray[np.int64]

    def part(self, samples: slice) -> DrawKeys:
        """Return the keys of some of the samples."""
        return self._replace(uids=self.uids[samples], occurrences=self.occurrences[samples])

    def uniform(self, purpose: Purpose, k: ArrayLike) -> NDArray[np.float64]:
        """Draw numbers in [0, 1): one per sample, shape (B,), for a number k; shape (B, K) for K of them."""
        steps = np.asarray(k)
        shape = (-1, *(1 for _ in steps.shape))
        return uniform(self.seed, self.epoch, self.uids.reshape(shape), self.occurrences.reshape(shape), purpose, steps)


class EpochOrder(NamedTuple):
    """The draws of one epoch.

    Attributes:
        indices: Indices into the split, shape (N,), int64.
        occurrences: Earlier draws of the same sample in this epoch, shape (N,), int64.
    """

    indices: NDArray[np.int64]
    occurrences: NDArray[np.int64]


def epoch_order(
    uids: NDArray[np.uint64],
    labels: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    sampler: Sampler,
    num_draws: int | None = None,
) -> EpochOrder:
    """Draw the samples of one epoch.

    `class-balanced` draws with replacement: all classes are equally likely, and so are the samples of a class.
    `shuffled` shows each sample once before any is shown again, in another order each time. Draws depend on the
    numbers of the samples, not on their indices, so listing the same samples in another order changes nothing.

    Args:
        uids: Numbers of the samples, shape (N,), uint64.
        labels: Classes of the samples, shape (N,), int64.
        seed: Seed of the run.
        epoch: Epoch, from 0.
        sampler: How samples are drawn.
        num_draws: Draws of the epoch; None for N.

    Returns:
        The order.

    Example:
        >>> uids, labels = np.arange(4, dtype=np.uint64), np.array([0, 0, 1, 1])
        >>> order = epoch_order(uids, labels, seed=0, epoch=0, sampler="shuffled")
        >>> sorted(order.indices.tolist()), order.occurrences.tolist()
        ([0, 1, 2, 3], [0, 0, 0, 0])
    """
    wanted = len(uids) if num_draws is None else num_draws
    match sampler:
        case "shuffled":
            rounds = -(-wanted // max(1, len(uids)))
            orders = [shuffled(uids, seed, epoch, turn) for turn in range(rounds)]
            indices = np.concatenate([np.empty(0, np.int64), *orders])[:wanted].astype(np.int64)
        case "class-balanced":
            indices = _draw_balanced(uids, labels, seed, epoch, wanted)
    return EpochOrder(indices, count_earlier(indices))


def _draw_balanced(
    uids: NDArray[np.uint64], labels: NDArray[np.int64], seed: int, epoch: int, num_draws: int
) -> NDArray[np.int64]:
    draws = np.arange(num_draws)
    by_class = np.lexsort((uids, labels))
    classes, sizes = np.unique(labels, return_counts=True)
    starts = np.cumsum(sizes) - sizes
    picked = (uniform(seed, epoch, 0, draws, Purpose.SAMPLER, 1) * len(classes)).astype(np.int64)
    within = (uniform(seed, epoch, 0, draws, Purpose.SAMPLER, 2) * sizes[picked]).astype(np.int64)
    balanced: NDArray[np.int64] = by_class[starts[picked] + within].astype(np.int64)
    return balanced


def count_earlier(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count, for each entry, how often its value occurs earlier in the array.

    Example:
        >>> count_earlier(np.array([5, 3, 5, 5, 3])).tolist()
        [0, 0, 1, 2, 1]
    """
    order = np.argsort(indices, kind="stable")
    values = indices[order]
    counts = np.empty(len(indices), dtype=np.int64)
    counts[order] = np.arange(len(values)) - np.searchsorted(values, values)
    return counts


def count_batches(num_samples: int, batch_size: int, *, drop_last: bool) -> int:
    """Count the batches of an epoch.

    Example:
        >>> count_batches(10, 4, drop_last=False), count_batches(10, 4, drop_last=True)
        (3, 2)
    """
    return num_samples // batch_size if drop_last else -(-num_samples // batch_size)


def rank_sizes(num_samples: int, num_ranks: int) -> list[int]:
    """Divide the samples of a batch over ranks; the first ranks get one more where the division leaves a rest.

    Example:
        >>> rank_sizes(8, 2), rank_sizes(5, 3)
        ([4, 4], [2, 2, 1])
    """
    each, rest = divmod(num_samples, num_ranks)
    return [each + (rank < rest) for rank in range(num_ranks)]


def rank_slice(rows: slice, rank: int, num_ranks: int) -> slice:
    """Return the part of the slice of a batch that one of several ranks trains on, from 0.

    Example:
        >>> rank_slice(slice(10, 15), 1, 3)
        slice(12, 14, None)
    """
    sizes = rank_sizes(rows.stop - rows.start, num_ranks)
    first = rows.start + sum(sizes[:rank])
    return slice(first, first + sizes[rank])


def batch_slices(num_samples: int, batch_size: int, *, drop_last: bool, first: int = 0) -> Iterator[slice]:
    """Yield the slice of each batch in the order of an epoch, from batch `first` on."""
    for batch in range(first, count_batches(num_samples, batch_size, drop_last=drop_last)):
        yield slice(batch * batch_size, min((batch + 1) * batch_size, num_samples))
