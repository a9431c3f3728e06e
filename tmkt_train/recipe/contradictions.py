"""Settings of a recipe that are fine by themselves and not together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from tmkt_data.errors import SpecError

if TYPE_CHECKING:
    from tmkt_train.recipe.recipe import Recipe
    from tmkt_train.recipe.schema import DataTable, LossTable, MethodTable, MixTable, OptimTable, TrainTable


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


def _steps(optim: OptimTable) -> Iterator[str]:
    if optim.schedule == "step" and not optim.step_epochs:
        yield "optim.step_epochs: found [], expected the epochs of the steps with optim.schedule = 'step'"


def _warmup(optim: OptimTable, train: TrainTable, method: MethodTable) -> Iterator[str]:
    image_epochs = train.image_epochs
    warms_up = method.name == "fine-tune" and optim.warmup_epochs > 0
    if warms_up and image_epochs != "auto" and image_epochs <= optim.warmup_epochs:
        yield (
            f"train.image_epochs: found {image_epochs}, expected more than optim.warmup_epochs = "
            f"{optim.warmup_epochs}; each stage warms up by itself"
        )
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
    if mix.law != "renormalised" or not mix.time_step or method.name not in ("kt+tsm", "tmkt"):
        return
    if mix.ratio == "by-count":
        yield "mix.ratio: found 'by-count', expected a number with mix.law = 'renormalised', which has a floor"
        return
    ratios = {"ratio": mix.ratio}
    if mix.schedule in ("linear", "cubic"):
        ratios["end_ratio"] = mix.end_ratio
    for key, ratio in ratios.items():
        if ratio < floor:
            yield (
                f"mix.{key}: found {ratio}, expected at least {floor:.4g} with mix.law = 'renormalised' and T = {steps}"
            )


def _kept(data: DataTable) -> Iterator[str]:
    if data.event_share < 1 and data.recordings_per_class != "all":
        yield (
            f"data.event_share: found {data.event_share} beside data.recordings_per_class = "
            f"{data.recordings_per_class}, expected one of the two"
        )
    if data.image_pool != "split" and data.pairing == "twin":
        yield f"data.image_pool: found '{data.image_pool}', expected 'split' with data.pairing = 'twin'"
    if data.image_share < 1 and data.pairing == "twin":
        yield f"data.image_share: found {data.image_share}, expected 1.0 with data.pairing = 'twin'"


def _coefficients(loss: LossTable, method: MethodTable) -> Iterator[str]:
    two_streams = method.name in ("kt", "kt+tsm", "tmkt")
    if two_streams and loss.classification == "mean-logits" and loss.coefficients != "off":
        yield (
            f"loss.coefficients: found '{loss.coefficients}', expected 'off' with loss.classification = 'mean-logits', "
            "which has no loss per step to weigh"
        )


_CHECKS: tuple[tuple[Callable[..., Iterator[str]], tuple[str, ...]], ...] = (
    (_cache, ("data",)),
    (_kept, ("data",)),
    (_rates, ("optim",)),
    (_steps, ("optim",)),
    (_warmup, ("optim", "train", "method")),
    (_crop, ("train", "data")),
    (_mixing, ("mix", "data", "method")),
    (_coefficients, ("loss", "method")),
)


def doubts(recipe: Recipe) -> Iterator[str]:
    """Yield what is allowed and hardly meant, one line each."""
    if recipe.has_two_streams and recipe.loss.alignment == 0 and recipe.loss.coefficients == "learned":
        yield (
            "loss.alignment is 0 while loss.coefficients are learned: they balance nothing and only take weight "
            "from the event loss; set loss.coefficients=off"
        )
