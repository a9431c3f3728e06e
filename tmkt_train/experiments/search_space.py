"""Search space of a sweep: keys of the recipe over a range or a list of values, such as `mix.ratio=0.1:0.9`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from tmkt_train.errors import RecipeError, RunError
from tmkt_train.experiments.plan import WORDS
from tmkt_train.recipe.explain import near_keys
from tmkt_train.recipe.load import RecipePath, load_recipe, split_setting
from tmkt_train.recipe.recipe import Recipe, flat_items, toml_value
from tmkt_train.recipe.schema import Table

Value = bool | int | float | str

_RECORDINGS = ("dataset", "protocol", "shrink_validation", "held_out_classes")
_SPLITS = ("class_set", "split_seed", "val_share", "test_share", "duplicates")
_FIXED = {
    "seed": "give --seeds instead",
    **dict.fromkeys(WORDS, "it only names the recipe"),
    **dict.fromkeys(
        (*(f"data.{name}" for name in _RECORDINGS), *(f"data.prepare.{name}" for name in _SPLITS)),
        "it changes the validation split, so the values cannot be compared",
    ),
}


@dataclass(frozen=True)
class Range:
    """Integers or floats from `low` to `high`, on a linear or logarithmic scale."""

    key: str
    low: float
    high: float
    is_log: bool
    is_whole: bool

    def __str__(self) -> str:
        low, high = self.ends
        return f"{self.key}={low}:{high}" + (":log" if self.is_log else "")

    @property
    def ends(self) -> tuple[Value, ...]:
        """The lowest and the highest value."""
        return self.rounded(self.low), self.rounded(self.high)

    def rounded(self, value: float) -> Value:
        """Round to an integer, or to four significant digits; the ends stay exact."""
        if self.is_whole:
            return round(value)
        return float(value) if value in (self.low, self.high) else min(max(float(f"{value:.4g}"), self.low), self.high)

    def grid(self, num: int) -> list[Value]:
        """Return `num` evenly spaced values, 2 or more, including both ends; integers may give fewer.

        Example:
            >>> Range("mix.ratio", 0.1, 0.9, is_log=False, is_whole=False).grid(5)
            [0.1, 0.3, 0.5, 0.7, 0.9]
            >>> Range("loss.modality", 0.01, 1.0, is_log=True, is_whole=False).grid(3)
            [0.01, 0.1, 1.0]
        """
        space = np.geomspace if self.is_log else np.linspace
        return list(dict.fromkeys(self.rounded(value) for value in space(self.low, self.high, num).tolist()))


@dataclass(frozen=True)
class Choices:
    """Values in the order given."""

    key: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.key}={','.join(map(str, self.values))}"

    @property
    def ends(self) -> tuple[Value, ...]:
        """All values."""
        return self.values

    def rounded(self, value: Value) -> Value:
        """Return the value itself."""
        return value

    def grid(self, num: int) -> list[Value]:  # noqa: ARG002 - as that of a range
        """Return all values."""
        return list(self.values)


Dimension = Range | Choices


def parse_dimensions(texts: Sequence[str], source: RecipePath, settings: Sequence[str]) -> tuple[Dimension, ...]:
    """Parse the varied keys of a sweep and their values, and validate them against the recipe with its settings.

    `texts` are `KEY=LOW:HIGH`, `KEY=LOW:HIGH:log` or `KEY=VALUE,VALUE`.

    Raises:
        RunError: A key is unknown, unused by the method, duplicate or cannot be varied; a range is empty or does not
            fit the type of the key.
        RecipeError: The recipe is invalid, or does not accept a value.
    """
    recipe = load_recipe(source, settings)
    dimensions = tuple(_parse(text, recipe) for text in texts)
    keys = [dimension.key for dimension in dimensions]
    fixed = [split_setting(setting)[0] for setting in settings]
    for key in keys:
        if keys.count(key) > 1:
            raise RunError(f"--over {key}: found twice, expected each key once")
        if key in fixed:
            raise RunError(f"--over {key}: also found in --set, expected only one of them")
    for dimension in dimensions:
        _require_accepted(dimension, source, settings)
    _require_used(dimensions, recipe, source, settings)
    return dimensions


def setting_of(key: str, value: Value) -> str:
    """Format a value as `key=value`.

    Example:
        >>> setting_of("mix.ratio", 0.5), setting_of("mix.schedule", "linear"), setting_of("train.flip", True)
        ('mix.ratio=0.5', 'mix.schedule=linear', 'train.flip=true')
    """
    return f"{key}={value if isinstance(value, str) else toml_value(value)}"


def _parse(text: str, recipe: Recipe) -> Dimension:
    key, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not key or not given:
        raise RunError(f"--over {text}: expected KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=VALUE,VALUE")
    _require_known(key, recipe)
    if key == "data.event_share" and recipe.data.shrink_validation:
        raise RunError(f"--over {key}: cannot be varied with data.shrink_validation = true; {_FIXED['data.protocol']}")
    if key in _FIXED:
        raise RunError(f"--over {key}: cannot be varied; {_FIXED[key]}")
    return _parse_range(key, given) if ":" in given else _parse_choices(key, given)


def _require_known(key: str, recipe: Recipe) -> None:
    keys = [name for name, _, _ in flat_items(recipe)]
    if key not in keys:
        near = near_keys(key, keys)
        hint = f"did you mean {' or '.join(near)}?" if near else "`tmkt-train check` lists the keys"
        raise RunError(f"--over {key}: not a key of the recipe; {hint}")


def _parse_range(key: str, given: str) -> Range:
    parts = [part.strip() for part in given.split(":")]
    kind = _number_kind(key)
    if kind is None:
        raise RunError(f"--over {key}={given}: found a range, expected values: {key}=VALUE,VALUE")
    if len(parts) > 3 or (len(parts) == 3 and parts[2] != "log"):
        raise RunError(f"--over {key}={given}: expected LOW:HIGH or LOW:HIGH:log")
    try:
        low, high = (float(part) for part in parts[:2])
    except ValueError:
        raise RunError(f"--over {key}={given}: expected two numbers, LOW:HIGH") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise RunError(f"--over {key}={given}: found an empty range, expected LOW below HIGH")
    if kind is int and not (low.is_integer() and high.is_integer()):
        raise RunError(f"--over {key}={given}: expected whole numbers")
    is_log = len(parts) == 3
    if is_log and low <= 0:
        raise RunError(f"--over {key}={given}: found LOW = {parts[0]}, expected it above 0 for a logarithmic range")
    return Range(key, low, high, is_log, kind is int)


def _parse_choices(key: str, given: str) -> Choices:
    values: list[Value] = []
    for word in given.split(","):
        try:
            value = split_setting(f"{key}={word}")[1]
        except RecipeError:
            value = None
        if not isinstance(value, (bool, int, float, str)):
            raise RunError(f"--over {key}={given}: found {word!r}, expected values such as 1,2,3 or words")
        if value in values:
            raise RunError(f"--over {key}={given}: found {word.strip()} twice, expected each value once")
        values.append(value)
    if len(values) < 2:
        raise RunError(f"--over {key}={given}: found one value, expected two or more, or a range LOW:HIGH")
    return Choices(key, tuple(values))


def _number_kind(key: str) -> type[int] | type[float] | None:
    table: Any = Recipe
    *parents, name = key.split(".")
    for parent in parents:
        table = table.model_fields[parent].annotation
    fields = table.model_fields if issubclass(table, Table) else {}
    kinds = set(_types(fields[name].annotation))
    return float if float in kinds else int if int in kinds else None


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    # The arguments of a Literal are values, and bool is no number here.
    for below in get_args(annotation):
        yield from _types(below)


def _require_accepted(dimension: Dimension, source: RecipePath, settings: Sequence[str]) -> None:
    for value in dimension.ends:
        try:
            load_recipe(source, [*settings, setting_of(dimension.key, value)])
        except RecipeError as error:
            raise RecipeError([text.replace("--set ", "--over ", 1) for text in error.problems]) from None


def _require_used(dimensions: Sequence[Dimension], recipe: Recipe, source: RecipePath, settings: Sequence[str]) -> None:
    varied = next((dimension.ends for dimension in dimensions if dimension.key == "method.name"), None)
    methods = [recipe]
    if varied is not None:
        methods = [load_recipe(source, [*settings, setting_of("method.name", value)]) for value in varied]
    for dimension in dimensions:
        if not any(method.uses(dimension.key) for method in methods):
            names = ", ".join(dict.fromkeys(method.method.name for method in methods))
            raise RunError(f"--over {dimension.key}: {names} does not use it; vary another key, or set method.name")
