"""What a run folder holds, read once and checked; everything but the recipe may be absent."""

from __future__ import annotations

import json
import math
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_train.errors import RunError

Record = Mapping[str, object]
Arrays = Mapping[str, NDArray[np.generic]]

_DIMENSIONS = {
    "confusion": 2,
    "class_names": 1,
    "firing_layer": 1,
    "firing_rate_events": 1,
    "firing_rate_images": 1,
    "firing_steps_events": 2,
    "synapse_layer": 1,
    "synapse_spiking": 1,
    "synapse_macs": 1,
    "synapse_operations": 1,
    "synapse_energy_nj": 1,
    "synapse_dense_energy_nj": 1,
    "similarity": 2,
    "similarity_floor": 2,
    "embedding": 2,
    "embedding_shares": 1,
    "embedding_is_event": 1,
    "embedding_label": 1,
    "replacement_histogram": 1,
    "ratio_history": 1,
    "strips": 6,
    "strip_ids": 1,
    "strip_labels": 1,
    "strip_predictions": 1,
}
_NOTHING: Record = {}


@dataclass(frozen=True)
class RunRecord:
    """One run as its files tell it.

    Attributes:
        path: The folder.
        recipe: The resolved recipe.
        recipe_text: The same, as written.
        environment: Versions and machine; empty where the file is absent.
        epochs: One record per finished epoch.
        result: The result; None where the run did not come to its end.
        diagnostics: Arrays of the evaluation; empty where the file is absent.
        is_cut: Whether the last line of the metrics was cut while being written, and left out here.
    """

    path: Path
    recipe: Record
    recipe_text: str
    environment: Record
    epochs: tuple[Record, ...]
    result: Record | None
    diagnostics: Arrays
    is_cut: bool

    def text(self, key: str) -> str | None:
        """Give a fact of the run as text: of the result, else of the recipe, wherever it stands there."""
        value = (self.result or _NOTHING).get(key)
        if value is None:
            value = next((v for path, v in flatten(self.recipe) if path.rpartition(".")[2] == key), None)
        return None if value is None or isinstance(value, (dict, list)) else str(value)

    def number(self, key: str) -> float | None:
        """Give a number of the result, None where it is absent or no number."""
        return number(self.result or _NOTHING, key)

    @property
    def is_optimistic(self) -> bool:
        """Whether the test accuracy is optimistic, of an unfinished run as well."""
        return (self.result or _NOTHING).get("optimistic") is True or self.selects_on_test

    @property
    def selects_on_test(self) -> bool:
        """Whether the best epoch is chosen on the test samples."""
        return self.text("selected_on") == "test" or self.text("protocol") == "kt-paper"

    def epoch_text(self, key: str) -> str | None:
        """Give an epoch of the result, which counts from 0, as `n of N` counted from 1."""
        epoch, planned = self.number(key), self.text("epochs")
        if epoch is None or not math.isfinite(epoch):
            return None
        return f"{epoch + 1:,.0f} of {planned}" if planned else f"{epoch + 1:,.0f}"

    def column(self, key: str, inner: str | None = None) -> list[float]:
        """Give one value per epoch, NaN where it is absent; `inner` names a key inside a record at `key`."""
        values: list[float] = []
        for epoch in self.epochs:
            record, name = (epoch.get(key), inner) if inner else (epoch, key)
            value = number(record, name) if isinstance(record, Mapping) else None
            values.append(math.nan if value is None else value)
        return values

    @property
    def title(self) -> str:
        """The name of the recipe, or of the folder where the recipe has none."""
        result = self.result or _NOTHING
        name = result.get("recipe") or self.recipe.get("recipe") or self.recipe.get("name")
        return name if isinstance(name, str) else self.path.name

    @property
    def method(self) -> str:
        """The name of the method, wherever the recipe has it."""
        found = self.text("method")
        table = self.recipe.get("method")
        if found is None and isinstance(table, Mapping):
            found = next((v for v in (table.get("name"), table.get("kind")) if isinstance(v, str)), None)
        return found or "method unknown"

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, their numbers where names are absent."""
        names = [str(n) for n in self.diagnostics.get("class_names", np.empty(0, str))]
        confusion = self.diagnostics.get("confusion")
        return names or [str(i) for i in range(0 if confusion is None else len(confusion))]


def number(record: Record, key: str) -> float | None:
    """Give the number at a key, None where there is none."""
    value = record.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def flatten(record: Record, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield dotted keys and values, plain values of a table before its tables.

    Example:
        >>> list(flatten({"a": {"b": 1}, "c": 2}))
        [('c', 2), ('a.b', 1)]
    """
    for key, value in record.items():
        if not isinstance(value, Mapping):
            yield prefix + key, value
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")


def read_run(path: Path) -> RunRecord:
    """Read a run folder.

    Args:
        path: The folder; it must hold `recipe.toml`, the rest is read where it is there.

    Returns:
        What the files say.

    Raises:
        RunError: The folder is no run, or one of its files is damaged.
    """
    recipe_file = path / "recipe.toml"
    if not recipe_file.is_file():
        found = "no recipe.toml" if path.is_dir() else "no such folder"
        raise RunError(f"{path}: {found}, expected the folder of a run; give the folder that training wrote")
    recipe_text = _text(recipe_file)
    try:
        recipe = tomllib.loads(recipe_text)
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"{recipe_file}: {error}, expected TOML; the file is damaged") from None
    epochs, is_cut = _read_metrics(path / "metrics.jsonl")
    return RunRecord(
        path=path,
        recipe=recipe,
        recipe_text=recipe_text,
        environment=_read_json(path / "environment.json") or {},
        epochs=epochs,
        result=_read_json(path / "result.json"),
        diagnostics=_read_arrays(path / "diagnostics.npz"),
        is_cut=is_cut,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: {error}, expected UTF-8 text; the file is damaged") from None


def _parse(text: str, place: str) -> Record:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise RunError(f"{place}: {error}, expected JSON; the file is damaged") from None
    if not isinstance(value, dict):
        raise RunError(f"{place}: found {type(value).__name__}, expected a JSON object; the file is damaged")
    return value


def _read_json(path: Path) -> Record | None:
    return _parse(_text(path), str(path)) if path.is_file() else None


def _read_metrics(path: Path) -> tuple[tuple[Record, ...], bool]:
    """Read the records; a last line that was cut while being written is left out."""
    if not path.is_file():
        return (), False
    *lines, rest = _text(path).split("\n")
    records = [_parse(line, f"{path}:{i}") for i, line in enumerate(lines, 1) if line.strip()]
    try:
        records += [_parse(rest, f"{path}:{len(lines) + 1}")] if rest.strip() else []
    except RunError:
        return tuple(records), True
    return tuple(records), False


def _read_arrays(path: Path) -> Arrays:
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file, zipfile.ZipFile(file):
            file.seek(0)
            stored = np.load(file, allow_pickle=False)
            arrays = {name: stored[name] for name in stored.files}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise RunError(f"{path}: {error}, expected arrays; the file is damaged") from None
    for name, dimensions in _DIMENSIONS.items():
        if name in arrays and arrays[name].ndim != dimensions:
            raise RunError(_shape_error(path, name, arrays[name], f"{dimensions} dimensions"))
    _check_lengths(path, arrays)
    return arrays


def _check_lengths(path: Path, arrays: Arrays) -> None:
    if (confusion := arrays.get("confusion")) is not None and confusion.shape[0] != confusion.shape[1]:
        raise RunError(_shape_error(path, "confusion", confusion, "as many columns as rows"))
    if (strips := arrays.get("strips")) is not None and strips.shape[-1] != 3:
        raise RunError(_shape_error(path, "strips", strips, "three color channels at the end"))
    for first, second in (
        ("confusion", "class_names"),
        ("firing_layer", "firing_rate_events"),
        ("firing_layer", "firing_rate_images"),
        ("firing_layer", "firing_steps_events"),
        ("firing_layer", "similarity"),
        ("firing_layer", "similarity_floor"),
        ("synapse_layer", "synapse_spiking"),
        ("synapse_layer", "synapse_macs"),
        ("synapse_layer", "synapse_operations"),
        ("synapse_layer", "synapse_energy_nj"),
        ("synapse_layer", "synapse_dense_energy_nj"),
        ("embedding", "embedding_is_event"),
        ("embedding", "embedding_label"),
        ("strips", "strip_ids"),
        ("strips", "strip_labels"),
        ("strips", "strip_predictions"),
    ):
        if first in arrays and second in arrays and len(arrays[first]) != len(arrays[second]):
            raise RunError(_shape_error(path, second, arrays[second], f"length {len(arrays[first])} as {first}"))


def _shape_error(path: Path, name: str, array: NDArray[np.generic], expected: str) -> str:
    return f"{path}: {name} has shape {array.shape}, expected {expected}; the file is damaged"
