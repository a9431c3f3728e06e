"""Which images may accompany a recording, and the draw: a pure function of seed, epoch and sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import PairingError, SpecError
from tmkt_data.pairs.subsets import draw_images
from tmkt_data.random_keys import Purpose, uniform
from tmkt_data.spec import ImagePool, Pairing

PAIRINGS: tuple[Pairing, ...] = get_args(Pairing)


@dataclass(frozen=True)
class ImagePools:
    """The images that may be drawn, class by class.

    Attributes:
        rows: Rows of the image side, grouped by class and in id order within it, shape (P,), int64.
        start: Shape (K + 1,), int64; class c owns `rows[start[c]:start[c + 1]]`.
    """

    rows: NDArray[np.int64]
    start: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.int64], rows: NDArray[np.int64], num_classes: int) -> ImagePools:
        """Group the allowed images by class.

        Args:
            labels: Class of each image, shape (M,).
            rows: Rows of the images that may be drawn, ascending.
            num_classes: Classes of the dataset, K.
        """
        order = np.argsort(labels[rows], kind="stable")
        counts = np.bincount(labels[rows], minlength=num_classes)
        return cls(rows[order].astype(np.int64, copy=False), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    def sizes(self) -> NDArray[np.int64]:
        """Return the number of images of each class, shape (K,), int64."""
        return np.diff(self.start)


def draw_same_class(
    pools: ImagePools,
    labels: NDArray[np.int64],
    uids: NDArray[np.uint64],
    occurrences: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
) -> NDArray[np.int64]:
    """Draw an image of the same class for each recording, uniformly over the pool of its class.

    Args:
        pools: Images that may be drawn; no class that occurs in `labels` may be empty.
        labels: Class of each recording, shape (B,).
        uids: Number of each recording, see `random_keys.sample_uid`, shape (B,), uint64.
        occurrences: How often each was drawn earlier in this epoch, shape (B,).
        seed: Seed of the run.
        epoch: Epoch.

    Returns:
        Rows of the image side, shape (B,), int64.

    Source: He et al., AAAI 2024; there drawn from one global generator, here from a keyed one.
    """
    sizes = pools.sizes()[labels]
    draws = uniform(seed, epoch, uids, occurrences, Purpose.PAIR, 1)
    return pools.rows[pools.start[labels] + np.minimum((draws * sizes).astype(np.int64), sizes - 1)]


def require_images(
    pools: ImagePools, labels: NDArray[np.int64], class_names: Sequence[str], *, place: str, split: str
) -> None:
    """Check that every class with recordings has an image to draw.

    Raises:
        PairingError: A class has none.
    """
    empty = np.unique(labels[pools.sizes()[labels] == 0])
    if len(empty):
        names = ", ".join(class_names[label] for label in empty[:5])
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        raise PairingError(
            f"{place}: {split} has recordings of {names}{more} and no image of that class to draw; "
            "add images and prepare again, or train event-only"
        )


def require_twins(twins: NDArray[np.int64], ids: Sequence[str], *, place: str, split: str) -> None:
    """Check that every recording has its own image.

    Raises:
        PairingError: A recording has none.
    """
    missing = np.flatnonzero(twins < 0)
    if len(missing):
        raise PairingError(
            f"{place}: {len(missing)} of {len(ids)} recordings of {split} have no twin image, such as "
            f"{ids[missing[0]]}; use pairing 'same-class'"
        )


IMAGE_POOLS: tuple[ImagePool, ...] = get_args(ImagePool)


def choose_images(
    pool: ImagePool,
    in_split: NDArray[np.bool_],
    labels: NDArray[np.int64],
    ids: tuple[str, ...],
    *,
    seed: int,
    classes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Choose the images that may be drawn.

    Args:
        pool: `split`: those of the part; `all`: every image, also those of held-out recordings; `shuffled-prefix`: as
            many of each class as the part has, drawn over all of the class, as "the first 90 %" of a listing in
            arbitrary order takes them.
        in_split: Whether an image belongs to the part, shape (M,).
        labels: Class of each image, shape (M,).
        ids: Sample id of each image.
        seed: Seed of the draw.
        classes: Labels that take part.

    Returns:
        Rows of the image side, ascending, int64.

    Raises:
        SpecError: An unknown pool.

    Source: the listing order of the KT reference (He et al., AAAI 2024), which nothing sorts.
    """
    match pool:
        case "split":
            return np.flatnonzero(in_split)
        case "all":
            return np.flatnonzero(np.isin(labels, classes))
        case "shuffled-prefix":
            counts = np.bincount(labels[in_split], minlength=int(labels.max(initial=0)) + 1)
            return draw_images(np.flatnonzero(np.isin(labels, classes)), labels, ids, counts, seed=seed)
        case _:
            raise SpecError(f"image pool: found {pool!r}, expected one of {', '.join(IMAGE_POOLS)}")
