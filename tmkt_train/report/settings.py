"""Settings of a run, how it was started, and names and values of its records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import ValidationError

from tmkt_train.recipe.recipe import Recipe, flat_items
from tmkt_train.report.numbers import decimal, percent
from tmkt_train.training.record import RunRecord, flatten

_SHARES = (
    *("alignment.own_is_best", "twin_share", "label_agreement"),
    *(f"alignment.own_above_class.{name}" for name in ("mean", "low", "high")),
)
_NAMES = {
    "num_reachable_heldout": "held-out twins within reach of training",
    "num_with_twin": "recordings with a twin",
    "twin_share": "share of pairs that are twins",
    "pool_size": "images in the pools",
    "smallest_pool": "images in the smallest pool",
    "alignment.num_recordings": "alignment: recordings compared",
    "alignment.own": "alignment with the own image",
    "alignment.own_as_cached": "alignment with the own image as cached, unshifted",
    "alignment.own_is_best": "recordings that align best with their own image",
    "alignment.same_class": "alignment with images of the class",
    "alignment.other_class": "alignment with images of other classes",
    "alignment.own_above_class.mean": "other images of the class that align worse than the own one",
    "alignment.own_above_class.low": "the same, from (99 % interval)",
    "alignment.own_above_class.high": "the same, to (99 % interval)",
    "duplicates.recordings": "val and test recordings with a copy in an earlier split",
    "duplicates.images": "val and test images with a copy in an earlier split",
    "duplicates.examples": "examples of these copies",
    "duplicates.repeated_recordings": "recordings with the content of another one",
    "duplicates.repeated_images": "images with the content of another one",
    "verdicts": "problems of these pairs",
}


class Setting(NamedTuple):
    """A setting of the recipe: key, value as text, meaning (empty if unknown), whether the method uses it."""

    key: str
    value: str
    meaning: str
    is_used: bool


def facts(record: object) -> list[tuple[str, str]]:
    """Return names and values of a record as text, without those that are None; nothing for anything else."""
    items = flatten(record) if isinstance(record, Mapping) else ()
    return [(_words(key), _value(key, value)) for key, value in items if value is not None]


def _words(key: str) -> str:
    return _NAMES.get(key) or key.replace("num_", "number of ").replace("_", " ").replace(".", ": ")


def _value(key: str, value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return (percent(value) if key in _SHARES else decimal(value, 5)) or "NaN"
        case list():
            texts = [_text_of(item) for item in value]
            return "; ".join(texts) or "none"
    return value if isinstance(value, str) else json_text(value)


def _text_of(item: object) -> str:
    """Return an item of a list as text; a verdict of a pair report as it was printed."""
    match item:
        case {"severity": str(severity), "text": str(text)}:
            return f"{severity}: {text}"
    return item if isinstance(item, str) else json_text(item)


def json_text(value: object, indent: int | None = None) -> str:
    """Return a value as JSON."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


class Started(NamedTuple):
    """How a run was started; "" where that is unknown."""

    date: str
    host: str
    command: str
    commit: str


def started(run: RunRecord) -> Started | None:
    """Return how a run was started; None for runs of earlier versions."""
    record = run.environment.get("started")
    if not isinstance(record, Mapping):
        return None
    date, host, command, commit = (str(record.get(name, "")) for name in ("date", "host", "command", "commit"))
    return Started(date.replace("T", " ")[:16], host, command, commit)


def environment_facts(run: RunRecord) -> list[tuple[str, str]]:
    """Return names and values of the environment."""
    return facts({name: value for name, value in run.environment.items() if name != "started"})


def settings(run: RunRecord) -> list[Setting]:
    """Return all settings of the recipe; without meanings if another version of tmkt wrote it."""
    try:
        model = Recipe.model_validate(run.recipe)
        known = {key: (description, model.uses(key)) for key, _, description in flat_items(model)}
    except ValidationError:
        known = {}
    return [
        Setting(key, value if isinstance(value, str) else json_text(value), *known.get(key, ("", True)))
        for key, value in flatten(run.recipe)
        if key not in ("name", "title", "description")
    ]


def inferred(run: RunRecord) -> list[str]:
    """Return the choices that the papers leave open."""
    choices = (run.result or {}).get("inferred")
    return [str(choice) for choice in choices] if isinstance(choices, list) else []
