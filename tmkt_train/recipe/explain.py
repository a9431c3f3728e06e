"""Explain the mistakes in a recipe: one line each, with file, table and key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from pydantic import ValidationError

from tmkt_train.recipe.cross_field import cross_field_problems
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.schema import Table

_NAMES = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "true or false"}
_NO_BOUND = 1e15


class Layer(NamedTuple):
    """The tables of one file, or of one variant in it, as written.

    `place` is the prefix of its keys in messages: `x.toml: `, or `x.toml: variants.kt.`.
    """

    place: str
    tables: Mapping[str, Any]
    variant: str = ""

    def holds(self, path: Sequence[str]) -> bool:
        """Return whether the key at `path` is written here."""
        return len(_existing_path(path, self.tables)) == len(path)


def explain(
    error: ValidationError, tables: dict[str, Any], layers: Sequence[Layer], overridden: Sequence[str] = ()
) -> list[str]:
    """Turn the errors of a validation into lines `place: key: found ..., expected ...`, in the order of the recipe.

    The tables were merged from `layers`, lowest first; the dotted keys `overridden` came from `--set`. Cross-field
    problems are included if the tables involved are valid.
    """
    accepted = accepted_values()
    lines: dict[str, str] = {}
    for item in error.errors(include_url=False):
        if item["type"] == "value_error":
            # The cross-field checks of a recipe without other mistakes; found again below.
            continue
        is_missing = item["type"] == "missing" and isinstance(item["loc"][-1], str)
        path = [str(step) for step in item["loc"]] if is_missing else _existing_path(item["loc"], tables)
        key = ".".join(path)
        place = _place(path, layers, overridden)
        if item["type"] == "extra_forbidden":
            place = next((layer.place for layer in layers if layer.holds(path)), "--set ")
            text = _unknown(path, accepted, is_setting=place == "--set ")
        else:
            text = f"found {'nothing' if is_missing else _shown(path, tables)}, expected {accepted[key]}"
        lines.setdefault(key, f"{place}{key}: {text}")
    for text in cross_field_problems(_valid_tables(tables)):
        key = text.partition(":")[0].partition(",")[0]
        lines.setdefault(key, f"{_place(key.split('.'), layers, overridden)}{text}")
    return list(lines.values())


def _valid_tables(tables: Mapping[str, Any]) -> dict[str, Table]:
    """Validate each table separately and return the valid ones."""
    valid: dict[str, Table] = {}
    for name, field in Recipe.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, Table):
            with suppress(ValidationError):
                valid[name] = model.model_validate(tables.get(name, {}))
    return valid


def _place(path: Sequence[str], layers: Sequence[Layer], overridden: Sequence[str]) -> str:
    """Return where a key was set: `--set`, otherwise the topmost layer with it, otherwise the file."""
    if any(path[: len(name.split("."))] == name.split(".") for name in overridden):
        return "--set "
    file = [layer for layer in layers if not layer.variant][-1]
    return next((layer.place for layer in reversed(layers) if layer.holds(path)), file.place)


def _existing_path(loc: Sequence[str | int], tables: Mapping[str, Any]) -> list[str]:
    """Drop the branch names of unions and the indices of lists from an error's location."""
    path: list[str] = []
    value: Any = tables
    for step in loc:
        if not isinstance(value, dict) or step not in value:
            break
        path.append(str(step))
        value = value[step]
    return path


def _shown(path: Sequence[str], tables: dict[str, Any]) -> str:
    value: Any = tables
    for step in path:
        value = value[step]
    if isinstance(value, bool):
        return str(value).lower()
    text = "a table" if isinstance(value, dict) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def accepted_values() -> dict[str, str]:
    """Describe the accepted values of each dotted key of a recipe; the empty key is the recipe itself."""
    root = Recipe.model_json_schema()
    return dict(_accepted("", root, root))


def _accepted(key: str, schema: dict[str, Any], root: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    yield key, _expected(schema)
    for name, below in schema.get("properties", {}).items():
        yield from _accepted(f"{key}.{name}" if key else name, below, root)


def _expected(schema: dict[str, Any]) -> str:
    if schema.get("expected"):
        return str(schema["expected"])
    if "anyOf" in schema:
        return " or ".join(_expected(option) for option in schema["anyOf"])
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(map(repr, schema['enum']))}"
    match schema.get("type"):
        case "object":
            return f"a table with {', '.join(schema['properties'])}"
        case "array":
            return f"a list of {schema['minItems']} numbers" if "minItems" in schema else "a list of numbers"
        case "string" if schema.get("minLength"):
            return "a text that is not empty"
        case kind:
            return _NAMES[str(kind)] + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum", -_NO_BOUND), schema.get("maximum", _NO_BOUND)
    if "exclusiveMinimum" in schema:
        limit = f" and at most {high:g}" if high < _NO_BOUND else ""
        return f" above {schema['exclusiveMinimum']:g}{limit}"
    if low <= -_NO_BOUND:
        return ""
    return f" from {low:.12g} to {high:.12g}" if high < _NO_BOUND else f" of {low:g} or more"


def _unknown(path: Sequence[str], accepted: Mapping[str, str], *, is_setting: bool) -> str:
    above = ".".join(path[:-1])
    known = [key.rpartition(".")[2] for key in accepted if key and key.rpartition(".")[0] == above]
    near = near_keys(".".join(path), accepted)
    if not is_setting:
        # In a file, the table is written above the key.
        near = [key.removeprefix(f"{above}.") for key in near]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"found an unknown key, expected one of {', '.join(known)}{hint}"


def near_keys(unknown: str, known: Iterable[str]) -> list[str]:
    """Return the dotted keys of a recipe that an unknown one may stand for.

    These are all keys whose last part is the same; without any, the nearest key of its table; without that, the keys
    whose last part is nearest.

    Example:
        >>> near_keys("epochs", ["train.epochs"]), near_keys("train.epoch", ["train", "train.epochs"])
        (['train.epochs'], ['train.epochs'])
    """
    table, _, name = unknown.rpartition(".")
    by_name: dict[str, list[str]] = {}
    for key in filter(None, known):
        by_name.setdefault(key.rpartition(".")[2], []).append(key)
    if name in by_name:
        return by_name[name]
    of_table = [last for last, keys in by_name.items() if any(key.rpartition(".")[0] == table for key in keys)]
    for near in difflib.get_close_matches(name, of_table, n=1):
        return [f"{table}.{near}" if table else near]
    for near in difflib.get_close_matches(name, by_name, n=1):
        return by_name[near]
    return []
