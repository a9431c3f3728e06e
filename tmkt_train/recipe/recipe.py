"""The recipe: all settings of one experiment as one frozen model, with cross-field validation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from tmkt_train.choices import SelectedOn, SlideSchedule
from tmkt_train.recipe.cross_field import cross_field_problems
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
from tmkt_train.recipe.used_keys import method_uses

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
