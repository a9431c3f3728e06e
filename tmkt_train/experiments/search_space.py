"""What a sweep varies: keys of the recipe over a range or a list of values, `mix.ratio=0.1:0.9` on the command line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from tmkt_train.errors import RecipeError, RunError
from tmkt_train.experiments.plan import WORDS
from tmkt_train.recipe.load import RecipePath, load_recipe, split_setting
from tmkt_train.recipe.recipe import Recipe, flat_items, toml_value
from tmkt_train.recipe.schema import Table

Value = bool | int | float | str

_SPLITS = ("class_set", "split_seed", "val_share", "test_share")
_FIXED = {
    "seed": "give --seeds instead",
    **dict.fromkeys(WORDS, "it only names the recipe"),
    **dict.fromkeys(
        ("data.dataset", "data.protocol", *(f"data.prepare.{name}" for name in _SPLITS)),
        "it changes the validation part, so that the values could not be compared",
    ),
}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, whole or not, evenly or on a logarithmic scale."""

    key: str
    low: float
    high: float
    is_log: bool
    is_whole: bool

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that every other lies between."""
        return self.at(0.0), self.at(1.0)

    def at(self, part: float) -> Value:
        """Give the value at a part of the way from low to high, in [0, 1]."""
        if part in (0, 1):
            end = self.high if part else self.low
            return int(end) if self.is_whole else end
        if self.is_log:
            return self.rounded(self.low * (self.high / self.low) ** part)
        return self.rounded(self.low + (self.high - self.low) * part)

    def rounded(self, value: float) -> Value:
        """Round to a whole number, or to four digits that count, inside the range."""
        if self.is_whole:
            return round(value)
        return min(max(float(f"{value:.4g}"), self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """Values in the order given."""

    key: str
    values: tuple[Value, ...]

    @property
    def ends(self) -> tuple[Value, ...]:
        """All values: none lies between two others."""
        return self.values


Dimension = Range | Choices


def parse_dimensions(texts: Sequence[str], source: RecipePath, settings: Sequence[str]) -> tuple[Dimension, ...]:
    """Read what a sweep varies, and check it against the recipe.

    Args:
        texts: `KEY=LOW:HIGH`, `KEY=LOW:HIGH:log` or `KEY=VALUE,VALUE`, one or more.
        source: Recipe, as it was found.
        settings: `key=value` texts that go over the file.

    Raises:
        RunError: A key that is unknown, unused by the method, named twice or not to be varied; a range that is empty
            or of another kind than the key.
        RecipeError: The recipe, or a value that it does not accept.
    """
    recipe = load_recipe(source, settings)
    dimensions = tuple(_parse(text, recipe) for text in texts)
    keys = [dimension.key for dimension in dimensions]
    fixed = [split_setting(setting)[0] for setting in settings]
    for key in keys:
        if keys.count(key) > 1:
            raise RunError(f"--over {key}: found twice, expected each key once")
        if key in fixed:
            raise RunError(f"--over {key}: found in --set as well, expected one of the two")
    for dimension in dimensions:
        _require_accepted(dimension, source, settings)
    _require_used(dimensions, recipe, source, settings)
    return dimensions


def setting_of(key: str, value: Value) -> str:
    """Write a value as `key=value`.

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
    if key in _FIXED:
        raise RunError(f"--over {key}: cannot be varied; {_FIXED[key]}")
    return _parse_range(key, given) if ":" in given else _parse_choices(key, given)


def _require_known(key: str, recipe: Recipe) -> None:
    keys = [name for name, _, _ in flat_items(recipe)]
    if key not in keys:
        leaves = {name.rpartition(".")[2]: name for name in reversed(keys)}
        near = difflib.get_close_matches(key, [*keys, *leaves], n=1)
        hint = f"did you mean {leaves.get(near[0], near[0])}?" if near else "`tmkt-train check` lists the keys"
        raise RunError(f"--over {key}: no key of the recipe; {hint}")


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
    """Say which numbers a key takes: float, whole ones, or none at all."""
    table: Any = Recipe
    *parents, name = key.split(".")
    for parent in parents:
        table = table.model_fields[parent].annotation
    fields = table.model_fields if issubclass(table, Table) else {}
    kinds = set(_types(fields[name].annotation))
    return float if float in kinds else int if int in kinds else None


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    # A Literal's arguments are values, and bool is no number here.
    for below in get_args(annotation):
        yield from _types(below)


def _require_accepted(dimension: Dimension, source: RecipePath, settings: Sequence[str]) -> None:
    """Refuse values that make no recipe.

    Raises:
        RecipeError: One does.
    """
    for value in dimension.ends:
        try:
            load_recipe(source, [*settings, setting_of(dimension.key, value)])
        except RecipeError as error:
            raise RecipeError([text.replace("--set ", "--over ", 1) for text in error.problems]) from None


def _require_used(dimensions: Sequence[Dimension], recipe: Recipe, source: RecipePath, settings: Sequence[str]) -> None:
    """Refuse keys that none of the methods looks at.

    Raises:
        RunError: There is one.
    """
    varied = next((dimension.ends for dimension in dimensions if dimension.key == "method.name"), None)
    methods = [recipe]
    if varied is not None:
        methods = [load_recipe(source, [*settings, setting_of("method.name", value)]) for value in varied]
    for dimension in dimensions:
        if not any(method.uses(dimension.key) for method in methods):
            names = ", ".join(dict.fromkeys(method.method.name for method in methods))
            raise RunError(f"--over {dimension.key}: {names} does not use it; vary another key, or set method.name")
