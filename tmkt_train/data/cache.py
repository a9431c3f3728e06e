"""From a recipe to the parts of a cache that it trains on, chooses by and tests on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data import Cache, PairedFrames
from tmkt_data.datasets.splits import SPLIT_CODES
from tmkt_data.pairs.subsets import draw_classes
from tmkt_data.spec import Split
from tmkt_train.recipe.recipe import Recipe


def open_frames(recipe: Recipe, cache: Path | Cache, split: Split, *, with_images: bool | None = None) -> PairedFrames:
    """Open one part of the cache.

    Args:
        recipe: The recipe.
        cache: The cache, or its file.
        split: The part; only the training part keeps to the shares of a recipe.
        with_images: Whether there are images beside the recordings; None: in the training part of methods
            that have an image stream.
    """
    is_training = split == "train"
    per_class = recipe.data.recordings_per_class
    cache = cache if isinstance(cache, Cache) else Cache(cache)
    has_images = is_training and recipe.needs_images if with_images is None else with_images
    return PairedFrames(
        cache,
        split=split,
        pairing=recipe.data.pairing if has_images else "none",
        seed=recipe.seed,
        encoder=recipe.data.image_encoding,
        protocol=recipe.data.protocol,
        scale=recipe.data.event_scale,
        per_class=per_class if is_training and per_class != "all" else None,
        event_share=recipe.data.event_share if is_training else 1.0,
        image_share=recipe.data.image_share if is_training else 1.0,
        image_pool=recipe.data.image_pool if is_training and recipe.needs_images else "split",
        classes=None if not recipe.data.held_out_classes else _classes(recipe, cache)[0],
    )


def open_held_out(recipe: Recipe, cache: Cache) -> Iterator[PairedFrames]:
    """Open every part of the cache with the recordings of the held-out classes alone, without images."""
    for split in get_args(Split):
        code = SPLIT_CODES[split]
        held_out = _classes(recipe, cache)[1]
        of_split = cache.splits("events", recipe.data.protocol) == code
        if (of_split & np.isin(cache.tables["events/label"], held_out)).any():
            yield PairedFrames(
                cache,
                split=split,
                pairing="none",
                seed=recipe.seed,
                protocol=recipe.data.protocol,
                scale=recipe.data.event_scale,
                classes=held_out,
            )


def _classes(recipe: Recipe, cache: Cache) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels that are trained on and those that are held out, of the classes that have recordings."""
    present = np.unique(cache.tables["events/label"]).astype(np.int64)
    chosen = draw_classes(len(present), recipe.data.held_out_classes, seed=recipe.data.prepare.split_seed)
    held_out = present[chosen]
    return np.setdiff1d(present, held_out), held_out


def selection_split(recipe: Recipe) -> Split:
    """Return the part that chooses the epoch; the paper of KT has no validation part and takes test."""
    return "test" if recipe.selects_on_test else "val"
