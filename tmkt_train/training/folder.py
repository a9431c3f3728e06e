"""The folder of a run: the only place that names, reads and writes its files."""

from __future__ import annotations

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import TmktError
from tmkt_data.files import write_bytes
from tmkt_data.locks import lock
from tmkt_train.errors import RecipeError, RunError
from tmkt_train.recipe.load import load_recipe, read_tables
from tmkt_train.recipe.recipe import Recipe, recipe_text
from tmkt_train.training.metrics_file import DAMAGED, MetricsFile

Arrays = dict[str, NDArray[Any]]
_Kinds = Mapping[type | tuple[type, ...], tuple[str, ...]]

_AGAIN = "the file is damaged; remove it, and `tmkt-train resume` writes it again"
_ENVIRONMENT: _Kinds = {str: ("cache", "cache_digest", "recipe_digest"), int: ("num_threads",)}
_RESULT: _Kinds = {
    str: ("selected_on", "cache_digest"),
    int: ("num_test", "best_epoch", "epochs", "peak_memory_bytes"),
    (float, type(None)): ("test_accuracy",),
    (int, float): ("wall_s",),
    bool: ("optimistic",),
    list: ("warnings",),
    dict: ("environment",),
}
_ENERGIES = ("synapse_energy_nj", "synapse_dense_energy_nj")
_AXES: dict[str, tuple[str, ...]] = {
    "KK": ("confusion",),
    "K": ("class_names",),
    "L": ("firing_layer", "firing_rate_events", "firing_rate_images"),
    "LT": ("firing_steps_events", "similarity", "similarity_floor"),
    "S": ("synapse_layer", "synapse_spiking", "synapse_macs", "synapse_operations", *_ENERGIES),
    "P2": ("embedding",),
    "2": ("embedding_shares",),
    "P": ("embedding_is_event", "embedding_label"),
    "R": ("replacement_histogram",),
    "E": ("ratio_history",),
    "NQTHW3": ("strips",),
    "N": ("strip_ids", "strip_labels", "strip_predictions"),
}
"""The arrays in diagnostics.npz by their axes; a letter is one length in all of them, a digit is the length itself."""
LOCK = ".lock"


class RunFolder:
    """The files of one run.

    Attributes:
        path: The folder.
        recipe: The resolved recipe; written last when a run is created, so it marks a run that can be resumed.
        environment: The environment of the run: versions, device, cache.
        metrics: One JSON object per finished epoch.
        last: The checkpoint to resume from.
        last_previous: The one before it, in case that is damaged; removed when the run is finished.
        best: The selected weights.
        best_previous: The ones before, which belong to `last_previous`; removed when the run is finished.
        evaluations: What was done of an evaluation when the run was stopped; removed when the run is finished.
        result: The result; it marks a finished run.
        diagnostics: Arrays of the final evaluation, for the report.
        report: The report.
        predictions: The predicted class of each test recording, as CSV.
        curves: Folder of the event file of TensorBoard.
        few_shot: The few-shot accuracies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.toml"
        self.environment = path / "environment.json"
        self.metrics = MetricsFile(path / "metrics.jsonl")
        self.last = path / "last.pt"
        self.last_previous = path / "last.previous.pt"
        self.best = path / "best.pt"
        self.best_previous = path / "best.previous.pt"
        self.evaluations = path / "evaluations.pt"
        self.result = path / "result.json"
        self.diagnostics = path / "diagnostics.npz"
        self.report = path / "report.html"
        self.predictions = path / "predictions.csv"
        self.curves = path / "tensorboard"
        self.few_shot = path / "few_shot.json"

    @property
    def is_finished(self) -> bool:
        """Whether the run has a result."""
        return self.result.is_file()

    @property
    def is_complete(self) -> bool:
        """Whether the run has a result, and its diagnostics or the reason why there are none."""
        if not self.is_finished or self.diagnostics.is_file():
            return self.is_finished
        try:
            return any(str(text).startswith(self.diagnostics.name) for text in self.read_result()["warnings"])
        except RunError:
            # Told by who reads the result.
            return True

    def read_recipe(self) -> Recipe:
        """Read and validate the recipe of the run.

        Raises:
            RunError: The folder holds no run.
            RecipeError: The file is not a valid recipe.
        """
        self._require_run()
        return load_recipe(self.recipe)

    def read_recipe_tables(self) -> dict[str, Any]:
        """Read the tables of the recipe without validation, also of a version with other keys.

        Raises:
            RunError: The folder holds no run, or the file is damaged.
        """
        self._require_run()
        try:
            return read_tables(self.recipe)
        except RecipeError as error:
            raise RunError(str(error)) from None

    def read_environment(self) -> dict[str, Any]:
        """Read the environment of the run.

        Raises:
            RunError: It is missing or damaged, or a required value is missing.
        """
        return _read_json(self.environment, _ENVIRONMENT)

    def read_result(self) -> dict[str, Any]:
        """Read the result; `best_epoch` counts from 0.

        Raises:
            RunError: It is missing or damaged, or a required value is missing.
        """
        return _read_json(self.result, _RESULT)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the resolved recipe; this marks the run as one that can be resumed."""
        _write(self.recipe, recipe_text(recipe).encode())

    def write_environment(self, values: Mapping[str, Any]) -> None:
        """Write the environment."""
        _write_json(self.environment, values)

    def write_result(self, values: Mapping[str, Any]) -> None:
        """Write the result; this marks the run as finished."""
        _write_json(self.result, values)

    def write_predictions(self, rows: Iterable[Sequence[object]]) -> None:
        """Write sample id, class and predicted class of the recordings of the final evaluation."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("id", "class", "predicted"), *rows])
        _write(self.predictions, text.getvalue().encode())

    def write_few_shot(self, values: Mapping[str, Any]) -> None:
        """Write the few-shot accuracies."""
        _write_json(self.few_shot, values)

    def drop_unneeded(self) -> None:
        """Remove the older checkpoints and stopped evaluations, once nothing is to be resumed any more."""
        for path in self._unneeded():
            with suppress(OSError):
                path.unlink()

    def remove_leftovers(self) -> None:
        """Remove what a process that died at the end of a complete run has left: older checkpoints, its lock."""
        if any(path.exists() for path in (*self._unneeded(), self.path / LOCK)):
            with suppress(TmktError), self.lock():
                self.drop_unneeded()

    def _unneeded(self) -> tuple[Path, ...]:
        return self.last_previous, self.best_previous, self.evaluations

    def write_diagnostics(self, arrays: Arrays) -> None:
        """Write the arrays of the final evaluation."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        _write(self.diagnostics, buffer.getbuffer())

    def read_diagnostics(self) -> Arrays:
        """Read the arrays of the final evaluation; empty if the file is missing.

        Raises:
            RunError: The file is damaged, or an array has another shape than the others imply.
        """
        if not self.diagnostics.is_file():
            return {}
        try:
            with self.diagnostics.open("rb") as file, zipfile.ZipFile(file):
                file.seek(0)
                stored = np.load(file, allow_pickle=False)
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(f"{self.diagnostics}: {error}, expected arrays; {_AGAIN}") from None
        _check_shapes(self.diagnostics, arrays)
        return arrays

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder, so that no other process trains in it.

        Raises:
            RunError: Another process is training in it.
        """
        busy = RunError(f"{self.path}: another process is training here; wait for it to end")
        with lock(self.path / LOCK, busy):
            self._remove_left()
            yield

    def _remove_left(self) -> None:
        """Remove what a process that was killed while writing has left of the files that are written under the lock."""
        files = (self.recipe, self.environment, self.metrics.path, self.result, self.diagnostics, self.predictions)
        for path in (*files, self.last, self.best, *self._unneeded()):
            for left in self.path.glob(f".{path.name}.*tmp"):
                left.unlink()

    def _require_run(self) -> None:
        if not self.recipe.is_file():
            found = "no recipe.toml" if self.path.is_dir() else "no such folder"
            raise RunError(f"{self.path}: {found}, expected a run folder; give one that `tmkt-train` created")


def _read_json(path: Path, kinds: _Kinds) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({getattr(error, 'strerror', '') or error}); {DAMAGED}") from None
    if not isinstance(values, dict):
        raise RunError(f"{path}: found {type(values).__name__}, expected a JSON object; {DAMAGED}")
    for kind, keys in kinds.items():
        for key in keys:
            if not isinstance(values.get(key), kind):
                raise RunError(f"{path}: found {values.get(key)!r} as {key}, expected another type; {DAMAGED}")
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    _write(path, (json.dumps(values, indent=2) + "\n").encode())


def _write(path: Path, data: bytes | memoryview) -> None:
    write_bytes(path, data, sync="name", error=RunError)


def _check_shapes(path: Path, arrays: Arrays) -> None:
    lengths = {"2": 2, "3": 3}
    for name, axes in ((name, axes) for axes, names in _AXES.items() for name in names if name in arrays):
        shape = arrays[name].shape
        if len(axes) != len(shape) or any(lengths.setdefault(a, n) != n for a, n in zip(axes, shape, strict=True)):
            expected = " x ".join(str(lengths.get(axis, axis)) for axis in axes)
            raise RunError(f"{path}: {name} has shape {shape}, expected {expected}; {_AGAIN}")
