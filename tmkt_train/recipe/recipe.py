"""The recipe: all settings of one experiment as one frozen model, with cross-field validation."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from tmkt_data.errors import SpecError
from tmkt_train.choices import SelectedOn, SlideSchedule
from tmkt_train.recipe.schema import (
    MAX_SEED,
    DataTable,
    LossTable,
    MethodTable,
    MixTable,
    ModelTable,
    OptimTable,
    Table,
    TrainTable,
    key,
    meaning,
    remark,
)

_IMAGES = ("data.pairing", "data.image_encoding", "data.image_share", "data.image_pool", "data.camera")
_TWO_STREAMS = (
    "mix.slide",
    "model.separate_heads",
    "model.eval_statistics",
    "loss.alignment",
    "loss.cka",
    "loss.coefficient",
    "loss.distillation",
    "loss.temperature",
)
_MIXUP = ("mix.time_step", "mix.ratio", "mix.end_ratio", "mix.schedule", "mix.law")
_PERCEPTION = ("loss.modality", "loss.ratio")
_TWO_STAGES = ("train.image_epochs", "optim.second_stage_learning_rate")
_AUGMENTATION = ("train.crop_padding", "train.flip", "train.rotation")
_UNUSED: dict[str, tuple[str, ...]] = {
    "event-only": (*_IMAGES, *_TWO_STREAMS, *_MIXUP, *_PERCEPTION, *_TWO_STAGES),
    "images-only": (*_TWO_STREAMS, *_MIXUP, *_PERCEPTION, *_TWO_STAGES, *_AUGMENTATION),
    "fine-tune": (*_TWO_STREAMS, *_MIXUP, *_PERCEPTION),
    "kt": (*_MIXUP, *_PERCEPTION),
    "kt+tsm": _PERCEPTION,
    "tmkt": (),
}
"""Prefixes of the keys that a method does not use."""
_OF_OUR_NETWORKS = ("model.batch_norm", "model.eval_statistics", "model.surrogate", "model.separate_heads")
_UNUSED_BY_OPTIMIZER = {"adamw": ("optim.momentum",), "adam": ("optim.momentum",), "sgd": ("optim.betas",)}


class Recipe(Table):
    """One experiment.

    Example:
        >>> recipe = Recipe.model_validate({
        ...     "name": "tiny", "title": "A tiny one", "data": {"dataset": "digits"},
        ...     "model": {"backbone": "scnn"}, "method": {"name": "event-only"},
        ...     "optim": {"learning_rate": 0.001, "warmup_epochs": 0},
        ...     "train": {"epochs": 1, "batch_size": 8},
        ... })
        >>> recipe.needs_images, recipe.data.prepare.time_bins
        (False, 10)
    """

    name: str = key(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", expected="letters, digits, and . _ + - after the first")
    """Short name; names run folders."""
    title: str = key(min_length=1)
    """One line for lists and reports."""
    description: str = key("")
    """What the recipe is for and where its numbers come from."""
    seed: int = key(42, "KT: one of its three", ge=0, le=MAX_SEED)
    """Seed of weights, sample order, pairs, mixing and crops."""
    data: DataTable
    model: ModelTable
    method: MethodTable
    mix: MixTable = Field(default_factory=MixTable)
    loss: LossTable = Field(default_factory=LossTable)
    optim: OptimTable
    train: TrainTable

    @model_validator(mode="after")
    def _check_fields_together(self) -> Recipe:
        problems = list(cross_field_problems({name: getattr(self, name) for name in type(self).model_fields}))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def needs_images(self) -> bool:
        """Whether the method trains on images at all."""
        return self.method.name != "event-only"

    @property
    def has_two_streams(self) -> bool:
        """Whether an image stream runs alongside the event stream."""
        return self.method.name in ("kt", "kt+tsm", "tmkt")

    @property
    def image_epochs(self) -> int:
        """Epochs on images only, before those of the method; 0 for `images-only`, whose method they are."""
        if not self.uses("train.image_epochs"):
            return 0
        if self.train.image_epochs != "auto":
            return self.train.image_epochs
        return self.train.epochs if self.method.name == "fine-tune" else 0

    @property
    def num_epochs(self) -> int:
        """Total number of epochs."""
        return self.image_epochs + self.train.epochs

    @property
    def mixes_time_steps(self) -> bool:
        """Whether single time steps of the image stream are replaced."""
        return self.mix.time_step and self.uses("mix.time_step")

    @property
    def slide(self) -> SlideSchedule:
        """The schedule of sliding, with `auto` resolved."""
        if not self.uses("mix.slide"):
            return "off"
        if self.mix.slide != "auto":
            return self.mix.slide
        return "off" if self.method.name == "tmkt" else "cubic"

    @property
    def has_validation(self) -> bool:
        """Whether the protocol has a validation split; without one, each epoch is evaluated on the test split."""
        return self.data.protocol != "kt-paper"

    @property
    def selected_on(self) -> SelectedOn:
        """The split that selects the epoch."""
        if self.train.select == "last":
            return "none"
        return "val" if self.has_validation else "test"

    @property
    def selects_on_test(self) -> bool:
        """Whether the epoch is selected on the test split, which makes the test accuracy optimistic."""
        return self.selected_on == "test"

    @property
    def leaks(self) -> bool:
        """Whether training may draw images of held-out recordings, which makes the test accuracy optimistic."""
        return self.data.image_pool != "split" and self.needs_images

    @property
    def optimism(self) -> str:
        """Why the test accuracy is optimistic; empty if it is not."""
        reasons = []
        if self.selects_on_test:
            reasons.append("the epoch is selected on test")
        if self.leaks:
            reasons.append("images of held-out recordings are within reach of training")
        return ", and ".join(reasons)

    def uses(self, key: str) -> bool:
        """Return whether this recipe uses the dotted `key`; event-only has no image stream to mix or align."""
        return not self.unused_by(key)

    def unused_by(self, key: str) -> Literal["method", "network", "optimizer"] | None:
        """Return what leaves the dotted `key` unused; None if it is used."""
        if not method_uses(self.method.name, key):
            return "method"
        if self.model.is_imported and key.startswith(_OF_OUR_NETWORKS):
            return "network"
        return "optimizer" if key.startswith(_UNUSED_BY_OPTIMIZER[self.optim.name]) else None

    def warnings(self) -> Iterator[str]:
        """Yield settings that are valid but probably not intended, one line each."""
        if self.has_two_streams and self.loss.alignment == 0 and self.loss.coefficients == "learned":
            yield (
                "loss.alignment is 0 but loss.coefficients is learned: with nothing to balance, they only reduce the "
                "weight of the event loss; set loss.coefficients=off"
            )
        rate = self.optim.second_stage_learning_rate
        if rate != "auto" and self.uses("train.image_epochs") and not self.image_epochs:
            yield (
                f"optim.second_stage_learning_rate is {rate} but there is one stage only: train.image_epochs = 'auto' "
                f"is none in {self.method.name}; set train.image_epochs"
            )


def method_uses(name: str, key: str) -> bool:
    """Return whether the method `name` uses the dotted `key`; a name that is no method uses all of them."""
    return not key.startswith(_UNUSED.get(name, ()))


def flat_items(table: Table, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield every setting as `(dotted key, value, meaning)`, in the order of the tables.

    The meaning ends with "(inferred)" if the TMKT papers leave the setting open.
    """
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, Table):
            yield from flat_items(value, f"{prefix}{name}.")
        else:
            mark = " (inferred)" if "inferred" in remark(field, "source") else ""
            yield f"{prefix}{name}", value, meaning(field) + mark


def inferred_choices(recipe: Recipe) -> list[str]:
    """List the settings that the method uses and the TMKT papers leave open: `mix.schedule = "constant"`."""
    items = ((name, value) for name, value, text in flat_items(recipe) if text.endswith("(inferred)"))
    return [f"{name} = {toml_value(value)}" for name, value in items if recipe.uses(name)]


def recipe_text(recipe: Recipe) -> str:
    """Format a recipe as TOML with every key; `load_recipe` reads it back."""
    lines: list[str] = []
    table = ""
    for dotted, value, _ in flat_items(recipe):
        above, _, name = dotted.rpartition(".")
        if above != table:
            lines += ["", f"[{above}]"]
            table = above
        lines.append(f"{name} = {toml_value(value)}")
    return "\n".join(lines) + "\n"


def toml_value(value: object) -> str:
    """Format one value as TOML.

    Example:
        >>> toml_value(True), toml_value("a word"), toml_value((0.9, 1))
        ('true', '"a word"', '[0.9, 1]')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # DEL is the one character that JSON leaves bare in a text and TOML does not.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    return repr(value)


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
