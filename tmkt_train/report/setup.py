"""The sections on what a run was made from: data, settings, inferred choices, environment, files."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from tmkt_train.recipe.recipe import Recipe, flat_items
from tmkt_train.report.html import Html, count, decimal, definitions, element, joined, percent, table
from tmkt_train.report.overview import content
from tmkt_train.training.record import Record, RunRecord, flatten

_SHORT_VALUE = 30
_SHARES = ("alignment.own_is_best", "twin_share", "label_agreement")
_NAMES = {
    "num_reachable_heldout": "held-out twins that training can reach",
    "num_with_twin": "recordings with a twin",
    "twin_share": "share of pairs that are twins",
    "pool_size": "images in the pools",
    "smallest_pool": "images in the smallest pool",
    "alignment.num_recordings": "alignment: recordings compared",
    "alignment.own": "alignment with the own image",
    "alignment.own_as_cached": "alignment with the own image as cached, unshifted",
    "alignment.own_is_best": "recordings that fit their own image best",
    "alignment.same_class": "alignment with images of the class",
    "alignment.other_class": "alignment with images of other classes",
}


def data(run: RunRecord) -> Html | None:
    """Say which data the numbers stand on."""
    result = run.result or {}
    facts = definitions(
        [
            ("dataset", run.text("dataset")),
            ("protocol", run.text("protocol")),
            ("training samples", count(run.number("num_train"))),
            ("validation samples", count(run.number("num_val"))),
            ("test samples", count(run.number("num_test"))),
            ("cache digest", _code(result.get("cache_digest"))),
            ("split digest", _code(result.get("split_digest"))),
        ]
    )
    report = result.get("pair_report")
    rows = (
        [(_words(key), _figure(key, value)) for key, value in flatten(report) if value is not None]
        if isinstance(report, Mapping)
        else []
    )
    pairs = table(["pairs", "value"], rows, caption="Pair report: which images stood beside the recordings")
    return content(facts, pairs if rows else None)


def _code(value: object) -> Html | None:
    return element("code", str(value)) if value is not None else None


def _words(key: str) -> str:
    return _NAMES.get(key) or key.replace("num_", "number of ").replace("_", " ").replace(".", ": ")


def _figure(key: str, value: object) -> str:
    share = percent(value) if key in _SHARES and isinstance(value, float) else None
    return share or _value(value)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return decimal(value, 5) or "not a number"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def settings(run: RunRecord) -> Html | None:
    """Show every setting of the recipe, what it means where this version knows it, and the file as it is."""
    known = _known(run.recipe)
    hidden = {"name", "title", "description"}
    rows = [
        (element("code", key), _setting(value), _meaning(key, known))
        for key, value in flatten(run.recipe)
        if key not in hidden
    ]
    text = element("pre", element("code", run.recipe_text))
    file = element("details", element("summary", "recipe.toml as written"), text)
    whole = table(["setting", "value", "meaning"], rows, caption="Resolved recipe", num_text_columns=3)
    return content(whole, file)


def _known(recipe: Record) -> dict[str, tuple[str, bool]]:
    """Describe the settings; nothing for a recipe that another version of tmkt wrote."""
    try:
        model = Recipe.model_validate(recipe)
    except ValidationError:
        return {}
    return {key: (description, model.uses(key)) for key, _, description in flat_items(model)}


def _meaning(key: str, known: Mapping[str, tuple[str, bool]]) -> Html | str:
    description, is_used = known.get(key, ("", True))
    return description if is_used else joined([element("em", "Unused by this method. "), description])


def _setting(value: object) -> Html:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return element("span", text, class_="setting" if len(text) <= _SHORT_VALUE else "setting long")


def inferred(run: RunRecord) -> Html | None:
    """List the choices that the papers leave open."""
    choices = (run.result or {}).get("inferred")
    if not isinstance(choices, list) or not choices:
        return None
    lead = element(
        "p",
        "The papers leave these choices open; the values here are inferred, and others may do better.",
    )
    items = element("ul", *(element("li", element("code", str(choice))) for choice in choices), class_="inferred")
    return content(lead, items)


def environment(run: RunRecord) -> Html | None:
    """Say with what the run was made, and where its files are."""
    rows = [(_words(key), _value(value)) for key, value in flatten(run.environment)]
    facts = definitions([(name, value) for name, value in rows])
    whole = element("pre", element("code", json.dumps(run.result, indent=2, ensure_ascii=False)))
    file = element("details", element("summary", "result.json as written"), whole) if run.result else None
    return content(facts if rows else None, file)
