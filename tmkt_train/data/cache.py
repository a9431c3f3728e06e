"""Choose the cache of a recipe, and open its splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data import Cache, CacheInfo, PairedFrames, cache_directory, default_spec, find_caches, read_cache_info
from tmkt_data.datasets.cameras import Camera, camera_for, camera_from, with_background, with_threshold
from tmkt_data.datasets.registry import is_recorded_as_now
from tmkt_data.datasets.splits import SPLIT_CODES
from tmkt_data.errors import TmktError
from tmkt_data.pairs.subsets import draw_classes
from tmkt_data.spec import Split
from tmkt_train.errors import RunError, command
from tmkt_train.recipe.recipe import Recipe


def prepare_command(recipe: Recipe) -> str:
    """Return the command that prepares the cache of a recipe.

    Raises:
        CatalogueError: There is no such dataset.
    """
    options = recipe.data.prepare.to_spec().command_options(default_spec(recipe.data.dataset))
    return command("tmkt-data", "prepare", recipe.data.dataset, *options)


def choose_cache(recipe: Recipe, given: Path | None = None) -> CacheInfo:
    """Return the cache of a recipe: the one that the user gave, otherwise the only prepared one that fits.

    Of simulated recordings, caches of today's camera are taken before those of an earlier one.

    Raises:
        RunError: None fits, or several do; names the command or the option that helps.
        CacheError: The given file is not a readable cache.
        CatalogueError: There is no such dataset.
    """
    if given is not None:
        info = read_cache_info(given)
        problem = _misfit(info, recipe)
        if problem:
            raise RunError(f"{given}: {problem}; make the right one with: {prepare_command(recipe)}")
        return info
    found = find_caches(recipe.data.dataset)
    fitting = [info for info in found if not _misfit(info, recipe)]
    # Where some are of today's simulated camera, those of an earlier one are not what `prepare` makes.
    fitting = [info for info in fitting if is_recorded_as_now(info)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        paths = ", ".join(str(info.path) for info in fitting)
        raise RunError(f"{recipe.name}: found {len(fitting)} caches that fit, {paths}; choose one with --cache FILE")
    if len(found) == 1:
        start = f"{found[0].path}: {_misfit(found[0], recipe)}"
    elif found:
        start = f"{cache_directory()}: none of {len(found)} caches of {recipe.data.dataset} fits {recipe.name}"
    else:
        start = f"{cache_directory()}: no cache of {recipe.data.dataset}"
    raise RunError(f"{start}; make it with: {prepare_command(recipe)}")


def is_found(recipe: Recipe, cache: Path) -> bool:
    """Return whether `cache` is the cache that `choose_cache` finds for a recipe."""
    try:
        return choose_cache(recipe).path.resolve() == cache.resolve()
    except TmktError:
        return False


def _misfit(info: CacheInfo, recipe: Recipe) -> str:
    """Return how a cache differs from what a recipe needs; empty if it fits."""
    if info.dataset != recipe.data.dataset:
        return f"holds {info.dataset}, expected {recipe.data.dataset}"
    needed = recipe.data.prepare.to_spec()
    if needed.bake == "none":
        # Stored spike frames do no harm where they are not read.
        needed = dataclasses.replace(needed, bake=info.spec.bake)
    if recipe.data.image_encoding in ("repeat", "poisson", "gradient", "gradient-poisson"):
        # Intensity at a larger size is not read either.
        needed = dataclasses.replace(needed, image_scale=info.spec.image_scale)
    differences = info.spec.differences(needed)
    return ", ".join(f"{name} is {here}, expected {there}" for name, (here, there) in differences.items())


def open_frames(recipe: Recipe, cache: Path | Cache, split: Split, *, with_images: bool | None = None) -> PairedFrames:
    """Open one split of the cache.

    Args:
        recipe: The recipe.
        cache: The cache, or its file.
        split: The split; the shares of a recipe apply to the training split, that of recordings also to a shrunk
            validation split.
        with_images: Whether to pair the recordings with images; None: in the training split of methods that train
            on images.
    """
    is_training = split == "train"
    is_shrunk = split == "val" and recipe.data.shrink_validation
    per_class = recipe.data.recordings_per_class
    cache = cache if isinstance(cache, Cache) else Cache(cache)
    has_images = is_training and recipe.needs_images if with_images is None else with_images
    return PairedFrames(
        cache,
        split=split,
        pairing=recipe.data.pairing if has_images else "none",
        seed=recipe.seed,
        encoder=recipe.data.image_encoding,
        camera=_camera(recipe, cache) if has_images else None,
        protocol=recipe.data.protocol,
        scale=recipe.data.event_scale,
        per_class=per_class if is_training and per_class != "all" else None,
        event_share=recipe.data.event_share if is_training or is_shrunk else 1.0,
        image_share=recipe.data.image_share if is_training else 1.0,
        image_pool=recipe.data.image_pool if is_training and recipe.needs_images else "split",
        keep_classes=None if not recipe.data.held_out_classes else _classes(recipe, cache)[0],
    )


def _camera(recipe: Recipe, cache: Cache) -> Camera | None:
    """Return the camera that a recipe describes; None for that of the dataset."""
    values = recipe.data.camera.model_dump()
    if values["threshold"] == "default":
        values["threshold"] = None
    if values["corners"]:
        return camera_from(values)
    if values["threshold"] is None and not values["background_rate"]:
        return None
    known = camera_for(recipe.data.image_encoding, cache.info.dataset, cache.spec)
    return with_background(with_threshold(known, values["threshold"]), values["background_rate"])


def open_training(recipe: Recipe, cache: Path) -> tuple[PairedFrames, PairedFrames]:
    """Open the training split of a cache, and the split that is evaluated after each epoch.

    Raises:
        TmktError: The cache does not hold what the recipe asks for, such as classes enough to hold some out.
    """
    frames = open_frames(recipe, cache, "train")
    return frames, open_frames(recipe, frames.cache, selection_split(recipe))


def open_held_out(recipe: Recipe, cache: Cache) -> Iterator[PairedFrames]:
    """Open every split of the cache with the recordings of the held-out classes only, without images."""
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
                keep_classes=held_out,
            )


def _classes(recipe: Recipe, cache: Cache) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels that are trained on and those that are held out, of the classes that have recordings."""
    present = np.unique(cache.tables["events/label"]).astype(np.int64)
    chosen = draw_classes(len(present), recipe.data.held_out_classes, seed=recipe.data.prepare.split_seed)
    held_out = present[chosen]
    return np.setdiff1d(present, held_out), held_out


def selection_split(recipe: Recipe) -> Split:
    """Return the split that is evaluated after each epoch; the KT paper has no validation split and takes test."""
    return "val" if recipe.has_validation else "test"
