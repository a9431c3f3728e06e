"""The folder of a run: its name, its files, and the lock of the one process that writes in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tmkt_data.files import lock, write_bytes
from tmkt_train.errors import RunError, command
from tmkt_train.recipe.load import load_recipe
from tmkt_train.recipe.recipe import Recipe, recipe_text
from tmkt_train.training.metrics import MetricsFile

_NUMBER = (int, float)
_Kinds = Mapping[str, type | tuple[type, ...]]
_ENVIRONMENT: _Kinds = {"cache": str, "cache_digest": str, "num_threads": int}
_RESULT: _Kinds = {
    "test_accuracy": float,
    "num_test": int,
    "best_epoch": int,
    "epochs": int,
    "optimistic": bool,
    "selected_on": str,
    "cache_digest": str,
    "wall_s": _NUMBER,
    "peak_memory_bytes": int,
    "warnings": list,
    "environment": dict,
}
_LOCK = ".lock"
_BEFORE_THE_RECIPE = {_LOCK, "environment.json"}


class RunFolder:
    """The files of one run.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The weights that were selected."""
        return self.path / "best.pt"

    @property
    def diagnostics(self) -> Path:
        """The arrays of the final evaluation."""
        return self.path / "diagnostics.npz"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def metrics(self) -> MetricsFile:
        """The file of metrics."""
        return MetricsFile(self.path / "metrics.jsonl")

    @property
    def is_finished(self) -> bool:
        """Whether the run has a result."""
        return (self.path / "result.json").is_file()

    def load_recipe(self) -> Recipe:
        """Read the recipe of the run.

        Raises:
            RunError: The folder holds no run.
            RecipeError: The recipe was changed into no recipe.
        """
        if not self.recipe.is_file():
            found = "no recipe.toml in it" if self.path.is_dir() else "no such folder"
            raise RunError(f"{self.path}: {found}, expected the folder of a run; see `tmkt-train recipe --help`")
        return load_recipe(self.recipe)

    def environment(self) -> dict[str, Any]:
        """Read the environment that the run was started in.

        Raises:
            RunError: It is missing, damaged, or lacks what every run has.
        """
        return self._read("environment.json", _ENVIRONMENT)

    def result(self) -> dict[str, Any]:
        """Read the result; `best_epoch` in it counts from 0.

        Raises:
            RunError: It is missing, damaged, or lacks what every result has.
        """
        return self._read("result.json", _RESULT)

    def write_environment(self, values: Mapping[str, Any]) -> None:
        """Write the environment."""
        self._write("environment.json", values)

    def write_result(self, values: Mapping[str, Any]) -> None:
        """Write the result."""
        self._write("result.json", values)

    def _read(self, name: str, expected: _Kinds) -> dict[str, Any]:
        path = self.path / name
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path}: cannot be read ({error}); the run is not whole, start it anew") from None
        if not isinstance(values, dict):
            raise RunError(f"{path}: found no table, expected one; the run is not whole, start it anew")
        for key, kind in expected.items():
            if not isinstance(values.get(key), kind):
                raise RunError(f"{path}: found {values.get(key)!r} as {key}; the run is not whole, start it anew")
        return values

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(values, indent=2) + "\n"
        write_bytes(self.path / name, text.encode(), sync="name", error=RunError)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in this folder for as long as the context lasts.

        Raises:
            RunError: Another process does.
        """
        busy = RunError(f"{self.path}: another process is training here; wait for it to end")
        with lock(self.path / _LOCK, busy):
            for left in self.path.glob(".*.tmp"):
                # A process that was killed while it wrote a file left this.
                left.unlink()
            yield


def cache_of(environment: Mapping[str, Any]) -> Path:
    """Return the cache that a run was started with.

    Raises:
        RunError: It is not there any more.
    """
    path = Path(str(environment["cache"]))
    if not path.is_file():
        raise RunError(f"{path}: the cache of this run is not there; say where it lies now with --cache FILE")
    return path


def create_run_folder(recipe: Recipe, out: Path | None, environment: Mapping[str, Any]) -> RunFolder:
    """Make the folder of a new run; the recipe is written last and marks a run that can be gone on with.

    Args:
        recipe: The resolved recipe.
        out: Folder to make; None for `runs/<recipe>-<method>-seed<seed>`, with a number where that is taken.
        environment: What the run is started in.

    Raises:
        RunError: The folder holds something already, is being made by another process, or cannot be made.
    """
    try:
        folder = RunFolder(_make_numbered(recipe) if out is None else _make_given(out))
        with folder.lock():
            _require_empty(folder)
            folder.write_environment(environment)
            write_bytes(folder.recipe, recipe_text(recipe).encode(), sync="name", error=RunError)
    except OSError as error:
        raise RunError(f"{out or 'runs'}: the folder cannot be made ({error}); choose another with --out") from None
    return folder


def _make_numbered(recipe: Recipe) -> Path:
    stem = f"{recipe.name}-{recipe.method.name}-seed{recipe.seed}"
    number = 1
    while True:
        path = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return path


def _make_given(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: a file, expected a new folder; choose another with --out")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _require_empty(folder: RunFolder) -> None:
    out = folder.path
    # What a process left that was killed before it wrote the recipe is no run.
    if {path.name for path in out.iterdir()} <= _BEFORE_THE_RECIPE:
        return
    if folder.recipe.is_file() and folder.is_finished:
        raise RunError(f"{out}: holds a finished run; choose another folder with --out")
    if folder.recipe.is_file():
        again = command("tmkt-train", "resume", out)
        raise RunError(f"{out}: holds an unfinished run; go on with: {again}")
    raise RunError(f"{out}: not empty, expected a new folder; choose another with --out")
