"""What is wrong with a recipe, in words: one line for each mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from tmkt_train.recipe.contradictions import contradictions
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.schema import Table

_NAMES = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "true or false"}


def explain(
    error: ValidationError,
    tables: dict[str, Any],
    place: str,
    overridden: Sequence[str] = (),
    written: Mapping[str, Any] | None = None,
) -> list[str]:
    """Turn the errors of a validation into lines `place: key: found ..., expected ...`.

    Contradictions are among them wherever the tables that they are about are valid by themselves.

    Args:
        error: What pydantic found.
        tables: The tables that were validated.
        place: Name of the file.
        overridden: Dotted keys that came from `--set`; their lines start with `--set` instead of the file.
        written: The tables of the file before `--set`; None where nothing was set.

    Returns:
        One line for each mistake, in the order of the recipe.
    """
    schema = Recipe.model_json_schema()
    lines: dict[str, str] = {}
    for item in error.errors(include_url=False):
        if item["type"] == "value_error":
            # The contradictions of a recipe without other mistakes; found again below.
            continue
        missing = item["type"] == "missing" and isinstance(item["loc"][-1], str)
        path = _existing_path(item["loc"], tables, missing=missing)
        key = ".".join(path)
        if item["type"] == "extra_forbidden":
            text = _explain_unknown(path, schema)
            if written is not None and len(_existing_path(tuple(path), written, missing=False)) < len(path):
                lines.setdefault(key, f"--set {key}: {text}")
        elif missing:
            text = f"found nothing, expected {_expected(_schema_at(schema, path), schema)}"
        else:
            wanted = _expected(_schema_at(schema, path), schema)
            text = f"found {_shown(_value_at(tables, path))}, expected {wanted}"
        lines.setdefault(key, f"{_source(key, place, overridden)}{key}: {text}")
    for text in contradictions(_valid_tables(tables)):
        key = text.partition(":")[0]
        lines.setdefault(key, f"{_source(key, place, overridden)}{text}")
    return list(lines.values())


def _valid_tables(tables: Mapping[str, Any]) -> dict[str, object]:
    """Validate each table by itself and return those that are valid."""
    valid: dict[str, object] = {}
    for name, field in Recipe.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, Table):
            with suppress(ValidationError):
                valid[name] = model.model_validate(tables.get(name, {}))
    return valid


def _source(key: str, place: str, overridden: Sequence[str]) -> str:
    is_set = any(key == name or key.startswith(f"{name}.") for name in overridden)
    return "--set " if is_set else f"{place}: "


def _existing_path(loc: tuple[str | int, ...], tables: Mapping[str, Any], *, missing: bool) -> list[str]:
    """Cut the branch names of unions and the positions in lists off an error's location."""
    path: list[str] = []
    value: Any = tables
    for step in loc:
        if not isinstance(value, dict) or (step not in value and not missing):
            break
        path.append(str(step))
        value = value.get(step)
    return path


def _value_at(tables: dict[str, Any], path: Sequence[str]) -> object:
    value: Any = tables
    for step in path:
        value = value[step]
    return value


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _schema_at(root: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    schema = root
    for step in path:
        schema = _resolve(schema, root).get("properties", {}).get(step, {})
    return _resolve(schema, root)


def _expected(schema: dict[str, Any], root: dict[str, Any]) -> str:
    """Say what a JSON schema accepts."""
    schema = _resolve(schema, root)
    if "anyOf" in schema:
        bounds: dict[str, Any] = {key: schema[key] for key in ("minimum", "maximum") if key in schema}
        return " or ".join(_expected({**bounds, **option}, root) for option in schema["anyOf"])
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return _one_of(schema["enum"])
    match schema.get("type"):
        case "object":
            return f"a table with {_list_words(schema.get('properties', {}))}"
        case "array":
            return f"a list of {schema.get('minItems', 'some')} numbers"
        case "string" if "pattern" in schema:
            return "letters, digits, and . _ + - after the first"
        case "string" if schema.get("minLength"):
            return "a text that is not empty"
        case kind:
            return _NAMES.get(str(kind), "another value") + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}" if high < 1e15 else f" of {low:g} or more"
    if low is not None:
        return f" of {low:g} or more"
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']:g}"
    return ""


def _one_of(values: Sequence[Any]) -> str:
    return f"one of {', '.join(repr(value) for value in values)}" if len(values) > 1 else repr(values[0])


def _list_words(words: Iterable[object]) -> str:
    return ", ".join(str(word) for word in words)


def _explain_unknown(path: Sequence[str], root: dict[str, Any]) -> str:
    known = list(_schema_at(root, path[:-1]).get("properties", {}))
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"found an unknown key, expected one of {_list_words(known)}{hint}"
