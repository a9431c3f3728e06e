"""The folder of a new run: where it lies, and what it must not hold."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from tmkt_train.errors import RunError, command
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.folder import LOCK, RunFolder

_BEFORE_THE_RECIPE = {LOCK, "environment.json"}


def create_run_folder(recipe: Recipe, out: Path | None, environment: Mapping[str, Any]) -> RunFolder:
    """Create the folder of a new run, by default `runs/<recipe>-<method>-seed<seed>`, with a number if that is taken.

    Raises:
        RunError: The folder is not empty, is being created by another process, or cannot be created.
    """
    try:
        folder = RunFolder(_make_numbered(recipe) if out is None else _make_given(out))
        with folder.lock():
            _require_empty(folder)
            folder.write_environment(environment)
            folder.write_recipe(recipe)
    except OSError as error:
        raise RunError(
            f"{out or 'runs'}: the folder cannot be created ({error.strerror or error}); choose another with --out"
        ) from None
    return folder


def require_free(out: Path) -> None:
    """Check that a folder can become that of a new run; creates nothing.

    Raises:
        RunError: It is a file, or not empty.
    """
    _require_no_file(out)
    if out.is_dir():
        # What a killed writer left is removed under the lock, before that check.
        _require_empty(RunFolder(out), but={path.name for path in out.glob(".*.tmp")})


def _make_numbered(recipe: Recipe) -> Path:
    path = first = Path("runs") / f"{recipe.name}-{recipe.method.name}-seed{recipe.seed}"
    number = 1
    while True:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            path = first.with_name(f"{first.name}-{number}")
        else:
            return path


def _make_given(out: Path) -> Path:
    _require_no_file(out)
    out.mkdir(parents=True, exist_ok=True)
    return out


def _require_no_file(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: a file, expected a new folder; choose another with --out")


def _require_empty(folder: RunFolder, but: Set[str] = frozenset()) -> None:
    out = folder.path
    # A process that was killed before it wrote the recipe left no run.
    if {path.name for path in out.iterdir()} <= _BEFORE_THE_RECIPE | but:
        return
    if folder.recipe.is_file() and folder.is_finished:
        raise RunError(f"{out}: holds a finished run; choose another folder with --out")
    if folder.recipe.is_file():
        again = command("tmkt-train", "resume", out)
        raise RunError(f"{out}: holds an unfinished run; resume it with: {again}")
    raise RunError(f"{out}: not empty, expected a new folder; choose another with --out")
