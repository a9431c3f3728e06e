"""Settings of a recipe that are fine by themselves and not together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tmkt_data.errors import SpecError

if TYPE_CHECKING:
    from tmkt_train.recipe import Recipe


def contradictions(recipe: Recipe) -> Iterator[str]:
    """Yield what contradicts what, one line each: `key: found ..., expected ...`."""
    try:
        recipe.data.prepare.to_spec()
    except SpecError as error:
        yield f"data.prepare.{error}"
    if recipe.data.image_encoding == "baked" and recipe.data.prepare.bake == "none":
        yield "data.image_encoding: found 'baked', expected another one while data.prepare.bake = 'none'"
    optim, train = recipe.optim, recipe.train
    if optim.schedule == "cosine" and optim.min_learning_rate > optim.learning_rate:
        yield (
            f"optim.min_learning_rate: found {optim.min_learning_rate}, "
            f"expected at most optim.learning_rate = {optim.learning_rate}"
        )
    if optim.warmup_epochs and optim.warmup_epochs >= train.epochs:
        yield (
            f"optim.warmup_epochs: found {optim.warmup_epochs}, expected fewer than train.epochs = "
            f"{train.epochs}, or 0 for no warm-up"
        )
    if not all(0 <= beta < 1 for beta in optim.betas):
        yield f"optim.betas: found {list(optim.betas)}, expected two numbers from 0 to below 1"
    if 2 * train.crop_padding > recipe.data.prepare.size:
        yield (
            f"train.crop_padding: found {train.crop_padding}, expected at most half of data.prepare.size = "
            f"{recipe.data.prepare.size}"
        )
    yield from _mix_contradictions(recipe)


def _mix_contradictions(recipe: Recipe) -> Iterator[str]:
    steps = recipe.data.prepare.time_bins
    floor = (steps + 1) / (2 * steps)
    if recipe.mix.law != "renormalised" or not recipe.needs_images:
        return
    ratios = {"ratio": recipe.mix.ratio}
    if recipe.mix.schedule != "constant":
        ratios["end_ratio"] = recipe.mix.end_ratio
    for key, ratio in ratios.items():
        if ratio < floor:
            yield (
                f"mix.{key}: found {ratio}, expected at least {floor:.4g} with mix.law = 'renormalised' and T = {steps}"
            )
