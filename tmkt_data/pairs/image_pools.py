"""Which images a training part may draw from: its own, or, to measure what a leak is worth, more than that."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.pairs.subsets import draw_images
from tmkt_data.spec import ImagePool

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
