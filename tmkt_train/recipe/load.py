"""Recipe files: where they lie, reading them with overrides, and writing a resolved one."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from tmkt_train.errors import RecipeError
from tmkt_train.recipe.explain import explain
from tmkt_train.recipe.overrides import apply_overrides, parse_toml
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.schema import Table

_MAX_BYTES = 1_000_000


class RecipeEntry(NamedTuple):
    """One line of the list of recipes; `problem` says why a file is no recipe."""

    name: str
    title: str
    dataset: str
    path: Path
    problem: str = ""


def recipe_folders() -> list[Path]:
    """Return the folders that are searched for a recipe: here, in the package, in the checkout."""
    packaged = Path(str(resources.files("tmkt_train").joinpath("recipes")))
    checkout = Path(__file__).resolve().parents[2] / "recipes"
    folders = [Path("recipes"), packaged, checkout]
    seen: dict[Path, Path] = {}
    for folder in folders:
        if folder.is_dir():
            seen.setdefault(folder.resolve(), folder)
    return list(seen.values())


def find_recipe(name_or_path: str) -> Path:
    """Return the file of a recipe: a path as given, otherwise by name from `recipe_folders`.

    Raises:
        RecipeError: There is no such file.
    """
    given = Path(name_or_path)
    if given.is_file():
        return given
    if given.suffix == ".toml" or len(given.parts) != 1:
        raise RecipeError(f"{name_or_path}: no such recipe file; see `tmkt-train recipes`")
    for folder in recipe_folders():
        path = folder / f"{name_or_path}.toml"
        if path.is_file():
            return path
    names = sorted({path.stem for path in _recipe_paths()})
    near = difflib.get_close_matches(name_or_path, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"
    raise RecipeError(f"{name_or_path}: no recipe of this name; {hint}")


def _recipe_paths() -> Iterator[Path]:
    taken: set[str] = set()
    for folder in recipe_folders():
        for path in sorted(folder.glob("*.toml")):
            if path.stem not in taken:
                taken.add(path.stem)
                yield path


def list_recipes() -> list[RecipeEntry]:
    """List every recipe that can be named, with the dataset it needs."""
    entries: list[RecipeEntry] = []
    for path in _recipe_paths():
        try:
            recipe = load_recipe(path)
            entries.append(RecipeEntry(path.stem, recipe.title, recipe.data.dataset, path))
        except RecipeError as error:
            entries.append(RecipeEntry(path.stem, "", "", path, problem=error.problems[0]))
    return entries


def families(entries: Sequence[RecipeEntry]) -> list[tuple[RecipeEntry, list[RecipeEntry]]]:
    """Group recipes with those whose name they begin, such as `scnn_nmnist` with `scnn_nmnist_kt`.

    A recipe that is broken stands by itself.
    """
    names = {entry.name for entry in entries if not entry.problem}
    found: dict[str, tuple[RecipeEntry, list[RecipeEntry]]] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        bases = [name for name in names if entry.name.startswith(f"{name}_")]
        base = min(bases, key=len, default=None) if not entry.problem else None
        if base is None:
            found[entry.name] = (entry, [])
        else:
            found[base][1].append(entry)
    return list(found.values())


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe file over the one that it extends, put the settings over both, and check everything.

    Args:
        path: TOML file. With `extends = "other"` at the top, its keys go over those of another recipe: a name, or a
            path beside the file. One level: that recipe extends nothing.
        settings: `key=value` texts, see `overrides.apply_overrides`.

    Raises:
        RecipeError: A file cannot be read, is no TOML, or holds mistakes; lists all of them.
    """
    written = _extended(path, read_tables(path))
    tables, keys, problems = apply_overrides(written, settings)
    try:
        recipe = Recipe.model_validate(tables)
    except ValidationError as error:
        raise RecipeError([*problems, *explain(error, tables, str(path), keys, written)]) from None
    if problems:
        raise RecipeError(problems)
    return recipe


def _extended(path: Path, tables: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of a recipe with what they extend below them.

    Raises:
        RecipeError: What is extended is missing, or extends something itself.
    """
    if "extends" not in tables:
        return tables
    given = tables["extends"]
    if not isinstance(given, str) or not given:
        raise RecipeError(f"{path}: extends: found {given!r}, expected the name or the path of a recipe")
    beside = path.parent / (given if given.endswith(".toml") else f"{given}.toml")
    try:
        base = beside if beside.is_file() else find_recipe(given)
    except RecipeError as error:
        raise RecipeError([f"{path}: extends: {problem}" for problem in error.problems]) from None
    below = read_tables(base)
    if "extends" in below:
        raise RecipeError(
            f"{path}: extends {given}, which extends {below['extends']!r}; expected one level, so extend that one"
        )
    return _merge(below, {key: value for key, value in tables.items() if key != "extends"})


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def read_tables(path: Path) -> dict[str, Any]:
    """Read a TOML file as it is, without checking that it is a recipe.

    Raises:
        RecipeError: The file cannot be read, or is no TOML.
    """
    try:
        num_bytes = path.stat().st_size
        if num_bytes > _MAX_BYTES:
            raise RecipeError(f"{path}: {num_bytes:,} bytes, expected a recipe of at most {_MAX_BYTES:,}")
        # Some editors on Windows put a byte order mark first.
        return parse_toml(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: no valid TOML: {error}") from None


def recipe_text(recipe: Recipe) -> str:
    """Write a recipe out as TOML with every key; `load_recipe` gives the same recipe back."""
    return "\n".join(_table_lines(recipe, "")) + "\n"


def _table_lines(table: Table, prefix: str) -> Iterator[str]:
    nested: list[tuple[str, Table]] = []
    for name in type(table).model_fields:
        value = getattr(table, name)
        if isinstance(value, Table):
            nested.append((f"{prefix}{name}", value))
        else:
            yield f"{name} = {toml_value(value)}"
    for name, below in nested:
        yield ""
        yield f"[{name}]"
        yield from _table_lines(below, f"{name}.")


def toml_value(value: object) -> str:
    """Write one value as TOML.

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
