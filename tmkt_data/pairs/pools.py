"""Choose and draw images for recordings, as a pure function of seed, epoch and sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import PairingError, SpecError
from tmkt_data.pairs.subsets import draw_images
from tmkt_data.random_keys import Purpose, uniform
from tmkt_data.sample_ids import Ids
from tmkt_data.spec import ImagePool, Pairing

PAIRINGS: tuple[Pairing, ...] = get_args(Pairing)


@dataclass(frozen=True)
class ImagePools:
    """Images that may be drawn, grouped by class.

    Attributes:
        rows: Rows of the image side, grouped by class and sorted by id within each, shape (P,), int64.
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
        pools: Images that may be drawn, at least one for each class in `labels`.
        labels: Class of each recording, shape (B,).
        uids: Hash of each recording id, see `random_keys.sample_uid`, shape (B,), uint64.
        occurrences: Number of earlier draws of each in this epoch, shape (B,).
        seed: Seed of the run.
        epoch: Epoch.

    Returns:
        Rows of the image side, shape (B,), int64.

    Source: He et al., AAAI 2024; drawn from a keyed generator instead of a global one.
    """
    sizes = pools.sizes()[labels]
    draws = uniform(seed, epoch, uids, occurrences, Purpose.PAIR, 1)
    return pools.rows[pools.start[labels] + np.minimum((draws * sizes).astype(np.int64), sizes - 1)]


def require_images(
    pools: ImagePools, labels: NDArray[np.int64], class_names: Sequence[str], *, place: str, split: str
) -> None:
    """Check that every class with recordings has images to draw.

    Raises:
        PairingError: A class has no images.
    """
    empty = np.unique(labels[pools.sizes()[labels] == 0])
    if len(empty):
        names = ", ".join(class_names[label] for label in empty[:5])
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        raise PairingError(
            f"{place}: {split} has recordings of {names}{more} but no images of that class; "
            "add images and prepare again, or train event-only"
        )


def require_twins(twins: NDArray[np.int64], ids: Sequence[str], *, place: str, split: str) -> None:
    """Check that every recording has a twin image.

    Raises:
        PairingError: A recording has no twin.
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
    ids: Ids,
    *,
    seed: int,
    classes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Choose the images that may be drawn.

    Args:
        pool: `split`: images of the split; `all`: every image, including those of held-out recordings;
            `shuffled-prefix`: as many of each class as the split has, drawn from the whole class, like "the first 90 %"
            of an unsorted directory listing.
        in_split: Whether each image belongs to the split, shape (M,).
        labels: Class of each image, shape (M,).
        ids: Sample id of each image.
        seed: Seed of the draw.
        classes: Labels to include.

    Returns:
        Rows of the image side, ascending, int64.

    Raises:
        SpecError: Unknown pool.

    Source: the unsorted directory listing of the KT reference (He et al., AAAI 2024).
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
