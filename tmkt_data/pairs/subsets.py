"""Draw class-balanced subsets of recordings or images."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.random_keys import Purpose, uids_of, uniform
from tmkt_data.sample_ids import Ids, bytes_of

_RECORDINGS, _IMAGES, _CLASSES, _POOL = 2, 3, 4, 5
"""Last word of each draw key; 1 is used by the splits."""


def keep_recordings(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    ids: Ids,
    *,
    seed: int,
    per_class: int | None = None,
    share: float = 1.0,
) -> NDArray[np.int64]:
    """Draw a subset of the recordings of each class by seed; smaller subsets are contained in larger ones.

    Args:
        rows: Rows of the event side to choose from, ascending, shape (N,).
        labels: Class of every row of that side.
        ids: Sample id of every row of that side.
        seed: Seed of the draw.
        per_class: Number of each class, or all if it has fewer; None: use `share`.
        share: Share of each class, rounded, at least one.

    Returns:
        The rows that are kept, ascending.

    Raises:
        SpecError: Both are given, or a value is out of range.
    """
    if per_class is not None and per_class < 1:
        raise SpecError(f"recordings per class: found {per_class}, expected 1 or more, or None for all")
    _check_share("event share", share)
    if per_class is not None and share < 1:
        raise SpecError(f"event share: found {share} with {per_class} recordings per class; give only one of them")
    if per_class is None:
        return _keep_share(rows, labels, ids, seed, _RECORDINGS, share)
    return _keep(rows, labels, ids, seed, _RECORDINGS, np.full(labels.max(initial=0) + 1, per_class))


def keep_images(
    rows: NDArray[np.int64], labels: NDArray[np.int64], ids: Ids, *, seed: int, share: float
) -> NDArray[np.int64]:
    """Draw a share of the images of each class; arguments, result and errors as in `keep_recordings`."""
    _check_share("image share", share)
    return _keep_share(rows, labels, ids, seed, _IMAGES, share)


def draw_images(
    rows: NDArray[np.int64], labels: NDArray[np.int64], ids: Ids, counts: NDArray[np.int64], *, seed: int
) -> NDArray[np.int64]:
    """Draw `counts[c]` images of each class c by seed, or all if it has fewer; rows are ascending."""
    return _keep(rows, labels, ids, seed, _POOL, counts)


def draw_classes(num_classes: int, count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw classes to hold out; smaller draws are contained in larger ones.

    Returns:
        Labels, ascending, shape (count,).

    Raises:
        SpecError: The count is below 0 or leaves fewer than two classes.

    Example:
        >>> draw_classes(10, 3, seed=0).tolist() == draw_classes(10, 9, seed=0).tolist()
        Traceback (most recent call last):
        tmkt_data.errors.SpecError: held-out classes: found 9 of 10, expected 0 to 8
        >>> set(draw_classes(10, 3, seed=0)) < set(draw_classes(10, 8, seed=0))
        True
    """
    if count and not 0 <= count <= num_classes - 2:
        raise SpecError(f"held-out classes: found {count} of {num_classes}, expected 0 to {num_classes - 2}")
    draws = uniform(seed, 0, np.arange(num_classes, dtype=np.uint64), 0, Purpose.SPLIT, _CLASSES)
    return np.sort(np.argsort(draws, kind="stable")[:count])


def _check_share(name: str, share: Any) -> None:
    is_number = isinstance(share, Real)
    if not is_number or not 0 < share <= 1:
        found, kind = (str(share), "") if is_number else (repr(share), "a number ")
        raise SpecError(f"{name}: found {found}, expected {kind}above 0 and at most 1")


def _keep_share(
    rows: NDArray[np.int64], labels: NDArray[np.int64], ids: Ids, seed: int, draw: int, share: float
) -> NDArray[np.int64]:
    if share == 1:
        return rows
    counts = np.bincount(labels[rows], minlength=1)
    return _keep(rows, labels, ids, seed, draw, np.array([max(1, round(share * n)) for n in counts.tolist()]))


def _keep(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    ids: Ids,
    seed: int,
    draw: int,
    counts: NDArray[np.int64],
) -> NDArray[np.int64]:
    if not len(rows):
        return rows
    uids = uids_of(bytes_of(ids)[rows])
    order = rows[np.argsort(uniform(seed, 0, uids, 0, Purpose.SPLIT, draw), kind="stable")]
    kept = [order[labels[order] == label][: counts[label]] for label in np.unique(labels[rows]).tolist()]
    return np.sort(np.concatenate(kept))
