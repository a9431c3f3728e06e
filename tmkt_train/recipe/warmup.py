"""A warm-up that fits a training that `--set` made shorter, so that a trial of one epoch needs one setting."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tmkt_train.recipe.schema import OptimTable
from tmkt_train.recipe.used_keys import method_uses

_WARMUP = "optim.warmup_epochs"
_LENGTHS = ("train.epochs", "train.image_epochs")


def fit_warmup(tables: Mapping[str, Any], overridden: Collection[str]) -> tuple[dict[str, Any], str]:
    """Shorten the warm-up to fewer epochs than each overridden length of training; tables need not be valid.

    A warm-up that was overridden itself is left as it is.

    Returns:
        The tables, and what was changed as one line; empty if nothing was.

    Example:
        >>> fit_warmup({"train": {"epochs": 1}, "optim": {"warmup_epochs": 5}}, ["train.epochs"])
        ({'train': {'epochs': 1}, 'optim': {'warmup_epochs': 0}}, 'optim.warmup_epochs is 0, not 5: train.epochs is 1')
    """
    optim, method = tables.get("optim"), tables.get("method")
    if _WARMUP in overridden or not isinstance(optim, dict):
        return dict(tables), ""
    warmup = optim.get("warmup_epochs", OptimTable.model_fields["warmup_epochs"].default)
    name = method.get("name") if isinstance(method, dict) else None
    lengths = {
        key: _value(tables, key) for key in _LENGTHS if key in overridden and method_uses(str(name), key)
    }  # fmt: skip
    known = {key: length for key, length in lengths.items() if type(length) is int and length >= 1}
    if not known or type(warmup) is not int:
        return dict(tables), ""
    shortest = min(known, key=lambda key: known[key])
    if warmup < known[shortest]:
        return dict(tables), ""
    fitted = known[shortest] - 1
    note = f"{_WARMUP} is {fitted}, not {warmup}: {shortest} is {known[shortest]}"
    return {**tables, "optim": {**optim, "warmup_epochs": fitted}}, note


def _value(tables: Mapping[str, Any], key: str) -> object:
    table, _, name = key.partition(".")
    below = tables.get(table)
    return below.get(name) if isinstance(below, dict) else None
