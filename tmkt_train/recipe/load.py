"""Find and read recipe files: variants, `extends`, and overrides."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from tmkt_data.files import decode_text
from tmkt_train.errors import RecipeError
from tmkt_train.recipe.explain import Layer, explain
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.warmup import fit_warmup

_MAX_BYTES = 1_000_000
_MAX_DEPTH = 20
_TOO_DEEP = f"tables or lists nested too deeply, expected at most {_MAX_DEPTH} levels"
_BARE_WORD = re.compile(r"[\w./:+ -]*")
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_VARIANT = re.compile(r"[A-Za-z0-9_-]+")


class RecipePath(NamedTuple):
    """A recipe file, or one variant in it: `my.toml` or `my.toml:kt`."""

    file: Path
    variant: str = ""

    @property
    def name(self) -> str:
        """Name of the recipe in a recipe folder: that of the file, with the variant appended."""
        return f"{self.file.stem}_{self.variant}" if self.variant else self.file.stem

    def __str__(self) -> str:
        return f"{self.file}:{self.variant}" if self.variant else str(self.file)


def recipe_folders() -> list[Path]:
    """Return the existing recipe folders in search order: `./recipes`, the installed package, the checkout."""
    packaged = Path(str(resources.files("tmkt_train").joinpath("recipes")))
    checkout = Path(__file__).resolve().parents[2] / "recipes"
    seen: dict[Path, Path] = {}
    for folder in (Path("recipes"), packaged, checkout):
        if folder.is_dir():
            seen.setdefault(folder.resolve(), folder)
    return list(seen.values())


def find_recipe(name_or_path: str) -> RecipePath:
    """Return a recipe by path, `my.toml` or `my.toml:VARIANT`, otherwise by name from `recipe_folders`.

    Raises:
        RecipeError: There is no such file or name.
    """
    found = _at(name_or_path)
    if found:
        return found
    given = Path(name_or_path)
    if given.suffix.startswith(".toml") or len(given.parts) != 1:
        raise RecipeError(f"{name_or_path}: no such recipe file; see `tmkt-train recipes`")
    known = _named(recipe_folders())
    if name_or_path in known:
        return known[name_or_path]
    systems = [path for path in known.values() if not path.variant and name_or_path.startswith(f"{path.name}_")]
    if systems:
        system = max(systems, key=lambda path: len(path.name))
        variants = _variants(system.file, read_tables(system.file))
        hint = f"{system.name} has the variants {', '.join(variants)}" if variants else f"{system.name} has no variants"
    else:
        near = difflib.get_close_matches(name_or_path, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "see `tmkt-train recipes`"
    raise RecipeError(f"{name_or_path}: no recipe of this name; {hint}")


def _at(path: str) -> RecipePath | None:
    file, colon, variant = path.rpartition(":")
    if Path(path).is_file():
        return RecipePath(Path(path))
    return RecipePath(Path(file), variant) if colon and Path(file).is_file() else None


def _named(folders: Sequence[Path]) -> dict[str, RecipePath]:
    """Return every recipe of some folders by name; earlier folders come first, and a file before a variant."""
    known: dict[str, RecipePath] = {}
    for folder in folders:
        files = sorted(folder.glob("*.toml"))
        paths = [RecipePath(file) for file in files]
        for file in files:
            with suppress(RecipeError):
                paths += [RecipePath(file, variant) for variant in _variants(file, read_tables(file))]
        for path in paths:
            known.setdefault(path.name, path)
    return known


def recipe_names() -> list[str]:
    """Return the names of all recipes of the recipe folders, sorted; invalid ones included."""
    return sorted(_named(recipe_folders()))


def list_recipes() -> Iterator[tuple[RecipePath, Recipe | RecipeError]]:
    """Yield every recipe of the recipe folders, or its error; variants follow their file."""
    for path in sorted(_named(recipe_folders()).values(), key=lambda path: (path.file.stem, path.variant != "")):
        try:
            yield path, load_recipe(path)
        except RecipeError as error:
            yield path, error


class LoadedRecipe(NamedTuple):
    """A recipe, and what overriding some of its settings changed in others, one line each."""

    recipe: Recipe
    notes: tuple[str, ...] = ()


def load_recipe(source: Path | RecipePath, settings: Sequence[str] = ()) -> Recipe:
    """Return the recipe that `load_noted` reads."""
    return load_noted(source, settings).recipe


def load_noted(source: Path | RecipePath, settings: Sequence[str] = ()) -> LoadedRecipe:
    """Read a recipe, merge it over the one that it extends, apply overrides, and validate the result.

    Args:
        source: TOML file, or a variant in one. The tables of `[variants.NAME]` override those of the file. With
            `extends = "other"` at the top, the file overrides another recipe: a name, or a path relative to the file.
            That recipe must not extend another one.
        settings: `key=value` overrides, see `apply_overrides`. Fewer epochs shorten the
            warm-up, see `fit_warmup`.

    Raises:
        RecipeError: A file cannot be read, is not valid TOML, or is invalid; lists all mistakes.
    """
    layers = _read_layers(source if isinstance(source, RecipePath) else RecipePath(source))
    merged: dict[str, Any] = {}
    for layer in layers:
        name = merged.get("name")
        merged = _merge(merged, layer.tables)
        if layer.variant and isinstance(name, str):
            merged["name"] = layer.tables.get("name", f"{name}_{layer.variant}")
    tables, keys, problems = apply_overrides(merged, settings)
    tables, note = fit_warmup(tables, keys)
    try:
        recipe = Recipe.model_validate(tables)
    except ValidationError as error:
        raise RecipeError([*problems, *explain(error, tables, layers, keys)]) from None
    if problems:
        raise RecipeError(problems)
    return LoadedRecipe(recipe, (note,) if note else ())


def _read_layers(path: RecipePath) -> list[Layer]:
    file, variant = path
    tables = read_tables(file)
    variants = _variants(file, tables)
    below = _read_extended(file, tables["extends"]) if "extends" in tables else []
    own = {key: value for key, value in tables.items() if key not in ("extends", "variants")}
    layers = [*below, Layer(f"{file}: ", own)]
    if not variant:
        return layers
    if variant not in variants:
        raise RecipeError(f"{file}: no variant {variant}; it has {', '.join(variants) or 'none'}")
    return [*layers, Layer(f"{file}: variants.{variant}.", variants[variant], variant)]


def _variants(file: Path, tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    variants = tables.get("variants", {})
    if not isinstance(variants, dict):
        raise RecipeError(f"{file}: variants: found {variants!r}, expected tables such as [variants.kt]")
    for name, table in variants.items():
        if not _VARIANT.fullmatch(name):
            raise RecipeError(f"{file}: variants: found the name {name!r}, expected letters, digits, _ and -")
        if not isinstance(table, dict):
            raise RecipeError(f"{file}: variants.{name}: found {table!r}, expected a table")
    return variants


def _read_extended(file: Path, given: object) -> list[Layer]:
    if not isinstance(given, str) or not given:
        raise RecipeError(f"{file}: extends: found {given!r}, expected the name or the path of a recipe")
    beside = str(file.parent / given)
    try:
        base = _at(beside) or _at(f"{beside}.toml") or _named([file.parent]).get(given) or find_recipe(given)
        further = read_tables(base.file).get("extends")
        if further is None:
            return _read_layers(base)
    except RecipeError as error:
        raise RecipeError([f"{file}: extends: {problem}" for problem in error.problems]) from None
    raise RecipeError(f"{file}: extends {given}, which extends {further!r}; expected one level, so extend {further!r}")


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def read_tables(path: Path) -> dict[str, Any]:
    """Read a TOML file without validating it as a recipe.

    Raises:
        RecipeError: The file cannot be read, or is not valid TOML.
    """
    try:
        num_bytes = path.stat().st_size
        if num_bytes > _MAX_BYTES:
            raise RecipeError(f"{path}: {num_bytes:,} bytes, expected a recipe of at most {_MAX_BYTES:,}")
        return parse_toml(decode_text(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({getattr(error, 'strerror', '') or error})") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from None


def recipe_digest(tables: Mapping[str, Any]) -> str:
    """Return a digest of the settings of a recipe; comments, order and spacing do not change it.

    Example:
        >>> recipe_digest({"a": 1, "b": 2}) == recipe_digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(tables, sort_keys=True, default=str).encode()).hexdigest()[:16]


def parse_toml(text: str, place: str) -> dict[str, Any]:
    """Parse TOML; `place` names its location in messages.

    Raises:
        RecipeError: Integers beyond the 64 bits of TOML, or tables and lists nested too deeply.
        TOMLDecodeError: The text is not valid TOML.
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
    """Split `key=value`; the value is TOML, and a bare word needs no quotes.

    Raises:
        RecipeError: No `=`, no key, or a value that is neither TOML nor a bare word.

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


def apply_overrides(tables: dict[str, Any], settings: Sequence[str]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Apply `key=value` overrides to a copy of the tables of a recipe; later ones win.

    Returns:
        The new tables; the overridden keys; one line for each override that was skipped because it cannot be parsed,
        or leads through a value that is not a table.

    Example:
        >>> apply_overrides({"train": {"epochs": 9}}, ["train.epochs=3"])
        ({'train': {'epochs': 3}}, ['train.epochs'], [])
    """
    result = deepcopy(tables)
    keys: list[str] = []
    problems: list[str] = []
    for setting in settings:
        try:
            key, value = split_setting(setting)
            _put(result, key, value)
            keys.append(key)
        except RecipeError as error:
            problems += error.problems
    return result, keys, problems


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
