"""Settings of a recipe that are fine by themselves and not together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from tmkt_data.errors import SpecError

if TYPE_CHECKING:
    from tmkt_train.recipe import DataTable, MethodTable, MixTable, OptimTable, Recipe, TrainTable


def contradictions(tables: Mapping[str, object]) -> Iterator[str]:
    """Yield what contradicts what, one line each: `key: found ..., expected ...`.

    Args:
        tables: The validated tables of a recipe by name; what needs a table that is absent is passed over.
    """
    for check, names in _CHECKS:
        if all(name in tables for name in names):
            yield from check(*(tables[name] for name in names))


def _cache(data: DataTable) -> Iterator[str]:
    try:
        data.prepare.to_spec()
    except SpecError as error:
        yield f"data.prepare.{error}"
    if data.image_encoding == "baked" and data.prepare.bake == "none":
        yield "data.image_encoding: found 'baked', expected another one while data.prepare.bake = 'none'"


def _rates(optim: OptimTable) -> Iterator[str]:
    if optim.schedule == "cosine" and optim.min_learning_rate > optim.learning_rate:
        yield (
            f"optim.min_learning_rate: found {optim.min_learning_rate}, "
            f"expected at most optim.learning_rate = {optim.learning_rate}"
        )
    if not all(0 <= beta < 1 for beta in optim.betas):
        yield f"optim.betas: found {list(optim.betas)}, expected two numbers from 0 to below 1"


def _warmup(optim: OptimTable, train: TrainTable) -> Iterator[str]:
    if optim.warmup_epochs and optim.warmup_epochs >= train.epochs:
        yield (
            f"optim.warmup_epochs: found {optim.warmup_epochs}, expected fewer than train.epochs = "
            f"{train.epochs}, or 0 for no warm-up"
        )


def _crop(train: TrainTable, data: DataTable) -> Iterator[str]:
    if 2 * train.crop_padding > data.prepare.size:
        yield (
            f"train.crop_padding: found {train.crop_padding}, expected at most half of data.prepare.size = "
            f"{data.prepare.size}"
        )


def _mixing(mix: MixTable, data: DataTable, method: MethodTable) -> Iterator[str]:
    steps = data.prepare.time_bins
    floor = (steps + 1) / (2 * steps)
    if mix.law != "renormalised" or method.name == "event-only":
        return
    ratios = {"ratio": mix.ratio}
    if mix.schedule != "constant":
        ratios["end_ratio"] = mix.end_ratio
    for key, ratio in ratios.items():
        if ratio < floor:
            yield (
                f"mix.{key}: found {ratio}, expected at least {floor:.4g} with mix.law = 'renormalised' and T = {steps}"
            )


_CHECKS: tuple[tuple[Callable[..., Iterator[str]], tuple[str, ...]], ...] = (
    (_cache, ("data",)),
    (_rates, ("optim",)),
    (_warmup, ("optim", "train")),
    (_crop, ("train", "data")),
    (_mixing, ("mix", "data", "method")),
)


def doubts(recipe: Recipe) -> Iterator[str]:
    """Yield what is allowed and hardly meant, one line each."""
    if recipe.needs_images and recipe.loss.alignment == 0 and recipe.loss.coefficients == "learned":
        yield (
            "loss.alignment is 0 while loss.coefficients are learned: they balance nothing and only take weight "
            "from the event loss; set loss.coefficients=off"
        )
