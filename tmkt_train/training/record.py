"""A run folder as one record for the report; everything except the recipe may be missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tmkt_data.files import decode_text
from tmkt_train.training.folder import Arrays, RunFolder

Record = Mapping[str, Any]
_NOTHING: Record = {}


@dataclass(frozen=True)
class RunRecord:
    """One run, as read from its files: the tables of the resolved recipe and its text, one record per finished epoch.

    `environment` and `diagnostics` are empty if their file is missing; `result` is None for an unfinished run. `is_cut`
    says that a truncated last line of the metrics was ignored.
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
        """Return a value of the run as text: from the result, otherwise from the recipe table that has the key."""
        value = (self.result or _NOTHING).get(key)
        if value is None:
            value = next((v for path, v in flatten(self.recipe) if path.rpartition(".")[2] == key), None)
        return None if value is None or isinstance(value, (dict, list)) else str(value)

    def number(self, key: str) -> float | None:
        """Return a number of the result; None if it is missing or not a number."""
        return number(self.result or _NOTHING, key)

    @property
    def is_optimistic(self) -> bool:
        """Whether the test accuracy is optimistic, or will be once the run is finished."""
        return (self.result or _NOTHING).get("optimistic") is True or self.selects_on_test

    @property
    def selects_on_test(self) -> bool:
        """Whether the best epoch is selected on the test split."""
        if self.text("select") == "last":
            return False
        return self.text("selected_on") == "test" or self.text("protocol") == "kt-paper"

    @property
    def num_lost_epochs(self) -> int:
        """Number of epochs of a finished run that have no metrics."""
        return max(0, int(self.number("epochs") or 0) - len(self.epochs))

    @property
    def final_split(self) -> str:
        """The split of the evaluation after training: test or validation."""
        return "validation" if self.text("final_split") == "val" else "test"

    def epoch_text(self, key: str) -> str | None:
        """Return an epoch of the result, stored from 0, as `n of N` counted from 1."""
        epoch, planned = self.number(key), self.text("epochs")
        if epoch is None or not math.isfinite(epoch):
            return None
        return f"{epoch + 1:,.0f} of {planned}" if planned else f"{epoch + 1:,.0f}"

    def column(self, key: str, inner: str | None = None) -> list[float]:
        """Return one value per epoch, NaN if it is missing; `inner` is a key inside the record at `key`."""
        values: list[float] = []
        for epoch in self.epochs:
            record, name = (epoch.get(key), inner) if inner else (epoch, key)
            value = number(record, name) if isinstance(record, Mapping) else None
            values.append(math.nan if value is None else value)
        return values

    @property
    def title(self) -> str:
        """The name of the recipe."""
        return str(self.recipe.get("name", self.path.name))

    @property
    def method(self) -> str:
        """The name of the method."""
        table = self.recipe.get("method")
        return str(table.get("name")) if isinstance(table, Mapping) else "method unknown"

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; their labels if the names are missing."""
        names = [str(name) for name in self.diagnostics.get("class_names", np.empty(0, str))]
        confusion = self.diagnostics.get("confusion")
        return names or [str(i) for i in range(0 if confusion is None else len(confusion))]


def number(record: Record, key: str) -> float | None:
    """Return the number at a key; None where there is none."""
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


def differing_keys(records: Sequence[Record]) -> list[str]:
    """Return the dotted keys that records do not have in common with one value, in the order in which they appear."""
    flat = [dict(flatten(record)) for record in records]
    missing = object()
    keys = dict.fromkeys(key for values in flat for key in values)
    return [key for key in keys if any(values.get(key, missing) != flat[0].get(key, missing) for values in flat[1:])]


def read_run(path: Path) -> RunRecord:
    """Read a run folder; it must contain `recipe.toml`, other files are read if they exist.

    Raises:
        RunError: The folder is not a run, or one of its files is damaged.
    """
    folder = RunFolder(path)
    recipe = folder.read_recipe_tables()
    epochs, is_cut = folder.metrics.read()
    return RunRecord(
        path=path,
        recipe=recipe,
        recipe_text=decode_text(folder.recipe.read_bytes()),
        environment=folder.read_environment() if folder.environment.is_file() else {},
        epochs=tuple(epochs),
        result=folder.read_result() if folder.is_finished else None,
        diagnostics=folder.read_diagnostics(),
        is_cut=is_cut,
    )
