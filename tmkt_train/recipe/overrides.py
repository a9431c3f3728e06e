"""Settings from the command line, `--set train.epochs=3`, put over the tables of a recipe."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from tmkt_train.errors import RecipeError

_BARE_WORD = re.compile(r"[A-Za-z0-9_./:+ -]*")
_MAX_DEPTH = 20
_TOO_DEEP = f"tables or lists more than {_MAX_DEPTH} deep, expected those of a recipe"
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def parse_toml(text: str, place: str) -> dict[str, Any]:
    """Parse TOML of a sane size.

    Args:
        text: TOML.
        place: Where it stands, for messages.

    Raises:
        RecipeError: Integers beyond the 64 bits of TOML, or tables and lists in each other beyond reason.
        TOMLDecodeError: It is no TOML.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        # Python refuses to read integers of some thousand digits.
        raise RecipeError(f"{place}: found a huge integer, expected at most 64 bits") from None
    except RecursionError:
        raise RecipeError(f"{place}: {_TOO_DEEP}") from None
    _check_values(tables, place, 0)
    return tables


def _check_values(value: object, place: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise RecipeError(f"{place}: {_TOO_DEEP}")
    if isinstance(value, (dict, list)):
        for below in value.values() if isinstance(value, dict) else value:
            _check_values(below, place, depth + 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise RecipeError(f"{place}: found a huge integer, expected at most 64 bits")


def split_setting(setting: str) -> tuple[str, Any]:
    """Split `key=value`; the value is TOML, and a bare word that is no TOML stands for itself.

    Raises:
        RecipeError: No `=`, no key, or a value that is neither.

    Example:
        >>> split_setting("mix.ratio=0.8"), split_setting("method.name=event-only")
        (('mix.ratio', 0.8), ('method.name', 'event-only'))
    """
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
        raise RecipeError(f"--set {setting}: expected KEY=VALUE, such as train.epochs=3")
    try:
        parsed = parse_toml(f"value = {text.strip()}", f"--set {key}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    if set(parsed) == {"value"}:
        return key, parsed["value"]
    if text.strip() and _BARE_WORD.fullmatch(text):
        return key, text.strip()
    raise RecipeError(f"--set {key}: found {text!r}, expected a TOML value such as 3, 0.5, true or a word")


def apply_overrides(
    tables: dict[str, Any], settings: Sequence[str]
) -> tuple[dict[str, Any], tuple[str, ...], list[str]]:
    """Put settings over the tables of a recipe; later ones win.

    Args:
        tables: Parsed TOML; not changed.
        settings: `key=value` texts with dotted keys.

    Returns:
        New tables; the keys that were set; a line for each setting that is left out because it cannot be split,
        or goes through a value that is no table.

    Example:
        >>> apply_overrides({"train": {"epochs": 9}}, ["train.epochs=3"])
        ({'train': {'epochs': 3}}, ('train.epochs',), [])
    """
    result = deepcopy(tables)
    problems: list[str] = []
    keys: list[str] = []
    for setting in settings:
        try:
            key, value = split_setting(setting)
            _put(result, key, value)
            keys.append(key)
        except RecipeError as error:
            problems += error.problems
    return result, tuple(keys), problems


def _put(tables: dict[str, Any], key: str, value: object) -> None:
    *parents, name = key.split(".")
    table = tables
    for depth, parent in enumerate(parents, start=1):
        below = table.setdefault(parent, {})
        if not isinstance(below, dict):
            raise RecipeError(f"--set {key}: {'.'.join(parents[:depth])} is a value, expected a table")
        table = below
    if isinstance(table.get(name), dict) and not isinstance(value, dict):
        raise RecipeError(f"--set {key}: found {value!r}, expected a key inside this table, such as {key}.NAME=VALUE")
    table[name] = value
