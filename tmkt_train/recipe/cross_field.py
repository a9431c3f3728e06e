"""Cross-field validation of a recipe: conflicts between settings that are valid on their own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from tmkt_data.errors import SpecError
from tmkt_train.recipe.schema import DataTable, LossTable, MethodTable, MixTable, OptimTable, TrainTable
from tmkt_train.recipe.used_keys import method_uses


def cross_field_problems(tables: Mapping[str, Any]) -> Iterator[str]:
    """Yield conflicts between settings that are valid on their own, one line each: `key: found ..., expected ...`.

    Args:
        tables: Valid tables of a recipe by name; checks that need an absent table are skipped.
    """
    for check in (
        _check_data,
        _check_final,
        _check_optim,
        _check_warmup,
        _check_crop,
        _check_mixing,
        _check_coefficients,
    ):
        names = list(inspect.signature(check).parameters)
        if all(name in tables for name in names):
            yield from check(*(tables[name] for name in names))


def _check_data(data: DataTable) -> Iterator[str]:
    try:
        data.prepare.to_spec()
    except SpecError as error:
        yield f"data.prepare.{error}"
    if data.image_encoding == "baked" and data.prepare.bake == "none":
        yield "data.image_encoding: found 'baked', expected 'repeat' or 'poisson' with data.prepare.bake = 'none'"
    if len(data.camera.corners) == 1:
        yield f"data.camera.corners: found {data.camera.corners[0]} alone, expected two or more, or none"
    if data.camera.rest_us >= data.camera.saccade_us:
        limit = f"less than data.camera.saccade_us = {data.camera.saccade_us}"
        yield f"data.camera.rest_us: found {data.camera.rest_us}, expected {limit}"
    if data.camera.background_rate:
        yield from _check_background(data.camera.background_rate)
    if data.camera.background_rate and data.image_encoding not in ("saccade", "microsaccade"):
        other = f"data.image_encoding = '{data.image_encoding}'"
        yield f"data.camera.background_rate: found {data.camera.background_rate}, expected 0 with {other}"
    if data.event_share < 1 and data.recordings_per_class != "all":
        other = f"data.recordings_per_class = {data.recordings_per_class}"
        yield f"data.event_share: found {data.event_share} with {other}, expected only one of them"
    if data.shrink_validation and data.recordings_per_class != "all":
        other = f"data.recordings_per_class = {data.recordings_per_class}"
        yield f"data.shrink_validation: found true with {other}, expected data.event_share instead"
    if data.image_pool != "split" and data.pairing == "twin":
        yield f"data.image_pool: found '{data.image_pool}', expected 'split' with data.pairing = 'twin'"
    if data.image_share < 1 and data.pairing == "twin":
        yield f"data.image_share: found {data.image_share}, expected 1.0 with data.pairing = 'twin'"


def _check_background(rate: float) -> Iterator[str]:
    # Imported late, with NumPy: most recipes have none.
    from tmkt_data.datasets.cameras import BACKGROUND_RATES

    low, high = BACKGROUND_RATES
    if rate < low:
        yield f"data.camera.background_rate: found {rate}, expected 0 or a number from {low:g} to {high:g}"


def _check_final(train: TrainTable, data: DataTable) -> Iterator[str]:
    if train.final_split == "val" and data.protocol == "kt-paper":
        yield "train.final_split: found 'val', expected 'test' with data.protocol = 'kt-paper', which has no validation"


def _check_optim(optim: OptimTable) -> Iterator[str]:
    for name in ("learning_rate", "second_stage_learning_rate"):
        rate = getattr(optim, name)
        if optim.schedule == "cosine" and rate != "auto" and optim.min_learning_rate > rate:
            limit = f"at most optim.{name} = {rate}"
            yield f"optim.min_learning_rate: found {optim.min_learning_rate}, expected {limit}"
    if not all(0 <= beta < 1 for beta in optim.betas):
        yield f"optim.betas: found {list(optim.betas)}, expected two numbers from 0 to below 1"
    if optim.schedule == "step" and not optim.step_epochs:
        yield "optim.step_epochs: found [], expected the epochs of the steps with optim.schedule = 'step'"


def _check_warmup(optim: OptimTable, train: TrainTable, method: MethodTable) -> Iterator[str]:
    warmup, image_epochs = optim.warmup_epochs, train.image_epochs
    if method_uses(method.name, "train.image_epochs") and warmup and image_epochs != "auto" and image_epochs <= warmup:
        limit = f"more than optim.warmup_epochs = {warmup}; each stage has its own warm-up"
        yield f"train.image_epochs: found {image_epochs}, expected {limit}"
    if warmup and warmup >= train.epochs:
        limit = f"fewer than train.epochs = {train.epochs}, or 0 for no warm-up"
        yield f"optim.warmup_epochs: found {warmup}, expected {limit}"


def _check_crop(train: TrainTable, data: DataTable) -> Iterator[str]:
    if 2 * train.crop_padding > data.prepare.size:
        limit = f"at most half of data.prepare.size = {data.prepare.size}"
        yield f"train.crop_padding: found {train.crop_padding}, expected {limit}"


def _check_mixing(mix: MixTable, data: DataTable, method: MethodTable) -> Iterator[str]:
    if mix.law != "renormalised" or not mix.time_step or not method_uses(method.name, "mix.law"):
        return
    num_time_bins = data.prepare.time_bins
    floor = (num_time_bins + 1) / (2 * num_time_bins)
    if mix.ratio == "by-count":
        yield "mix.ratio: found 'by-count', expected a number with mix.law = 'renormalised', whose ratio has a minimum"
        return
    ratios = {"ratio": mix.ratio}
    if mix.schedule in ("linear", "cubic"):
        ratios["end_ratio"] = mix.end_ratio
    for name, ratio in ratios.items():
        if ratio < floor:
            limit = f"at least {floor:.4g} with mix.law = 'renormalised' and T = {num_time_bins}"
            yield f"mix.{name}: found {ratio}, expected {limit}"


def _check_coefficients(loss: LossTable, method: MethodTable) -> Iterator[str]:
    is_used = method_uses(method.name, "loss.coefficients")
    if is_used and loss.classification == "mean-logits" and loss.coefficients != "off":
        yield (
            f"loss.coefficients: found '{loss.coefficients}', expected 'off' with loss.classification = 'mean-logits', "
            "which has no loss per step to weight"
        )
