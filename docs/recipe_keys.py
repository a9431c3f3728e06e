"""Write the tables of recipes.md, recipes and their keys, from files and models: python docs/recipe_keys.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tmkt_train.recipe.load import load_recipe, toml_value
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.schema import Table

PAGE = Path(__file__).resolve().parent / "recipes.md"
BEGIN = "<!-- keys: begin, written by docs/recipe_keys.py -->"
END = "<!-- keys: end -->"
FILES_BEGIN = "<!-- recipes: begin, written by docs/recipe_keys.py -->"
FILES_END = "<!-- recipes: end -->"
FILES = PAGE.parent.parent / "recipes"
NETWORKS = {"vgg-snn": "VGG-SNN", "resnet18": "ResNet-18", "scnn": "SCNN"}

KT = "KT"
OWN = "own choice"
INFERRED = "KT; for TMKT *inferred*"
OPEN = "*inferred*"

# Where the default, or the meaning, of each key comes from. A key that is missing here fails the tests.
SOURCES: dict[str, str] = {
    "name": OWN,
    "title": OWN,
    "description": OWN,
    "seed": "KT: one of its three",
    "data.dataset": OWN,
    "data.protocol": "own choice; `kt-paper`: KT",
    "data.pairing": INFERRED,
    "data.image_encoding": INFERRED,
    "data.event_scale": INFERRED,
    "data.recordings_per_class": OWN,
    "data.event_share": OWN,
    "data.image_share": OWN,
    "data.image_pool": OWN,
    "data.held_out_classes": OWN,
    "data.prepare.time_bins": KT,
    "data.prepare.bin_rule": "own choice; KT: `tonic`",
    "data.prepare.canvas": "own choice; KT: `tight`",
    "data.prepare.resize": "own choice; KT: `bilinear`",
    "data.prepare.representation": KT,
    "data.prepare.image_channel": INFERRED,
    "data.prepare.size": KT,
    "data.prepare.class_set": KT,
    "data.prepare.split_seed": OWN,
    "data.prepare.val_share": OWN,
    "data.prepare.test_share": OWN,
    "data.prepare.bake": OWN,
    "data.prepare.sensor_size": OWN,
    "data.prepare.time_unit": OWN,
    "data.prepare.shift_x": OWN,
    "data.prepare.shift_y": OWN,
    "data.prepare.orientation": OWN,
    "data.prepare.polarity": OWN,
    "data.prepare.time_offset_us": OWN,
    "data.prepare.hot_pixels": OWN,
    "data.prepare.refractory_us": OWN,
    "data.prepare.background_us": OWN,
    "data.prepare.image_decode": "own choice; KT: `full`",
    "model.backbone": KT,
    "model.batch_norm": INFERRED,
    "model.eval_statistics": INFERRED,
    "model.surrogate": INFERRED,
    "model.separate_heads": INFERRED,
    "method.name": "TMKT papers",
    "mix.time_step": "TMKT papers",
    "mix.ratio": "*inferred*; `by-count`: own choice",
    "mix.end_ratio": OWN,
    "mix.schedule": OPEN,
    "mix.law": OPEN,
    "mix.slide": INFERRED,
    "loss.classification": INFERRED,
    "loss.margin_weight": INFERRED,
    "loss.margin": INFERRED,
    "loss.alignment": INFERRED,
    "loss.cka": "`biased`: KT; `debiased`: own choice",
    "loss.modality": OPEN,
    "loss.modality_streams": OPEN,
    "loss.ratio": OPEN,
    "loss.coefficients": INFERRED,
    "loss.coefficient": OWN,
    "optim.name": INFERRED,
    "optim.learning_rate": INFERRED,
    "optim.min_learning_rate": INFERRED,
    "optim.schedule": INFERRED,
    "optim.step_epochs": KT,
    "optim.step_factor": KT,
    "optim.warmup_epochs": INFERRED,
    "optim.warmup_learning_rate": INFERRED,
    "optim.weight_decay": INFERRED,
    "optim.betas": INFERRED,
    "train.epochs": INFERRED,
    "train.image_epochs": OWN,
    "train.steps_per_epoch": OWN,
    "train.batch_size": INFERRED,
    "train.sampler": INFERRED,
    "train.drop_last": INFERRED,
    "train.crop_padding": INFERRED,
    "train.flip": INFERRED,
    "train.rotation": INFERRED,
    "train.eval_batch_size": OWN,
    "train.device": OWN,
    "train.precision": OWN,
    "train.num_threads": OWN,
}

UNITS: dict[str, str] = {
    "data.recordings_per_class": "recordings",
    "data.event_share": "share",
    "data.image_share": "share",
    "data.held_out_classes": "classes",
    "data.prepare.time_bins": "bins",
    "data.prepare.size": "cells",
    "data.prepare.shift_x": "pixels",
    "data.prepare.shift_y": "pixels",
    "data.prepare.time_offset_us": "microseconds",
    "data.prepare.refractory_us": "microseconds",
    "data.prepare.background_us": "microseconds",
    "data.prepare.val_share": "share",
    "data.prepare.test_share": "share",
    "mix.ratio": "share",
    "mix.end_ratio": "share",
    "loss.margin_weight": "share",
    "loss.coefficient": "share",
    "optim.step_epochs": "epochs",
    "optim.warmup_epochs": "epochs",
    "train.epochs": "epochs",
    "train.image_epochs": "epochs",
    "train.steps_per_epoch": "steps",
    "train.batch_size": "samples",
    "train.crop_padding": "cells",
    "train.rotation": "degrees",
    "train.eval_batch_size": "samples",
    "train.num_threads": "threads",
}


def fields(table: type[Table] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key of a recipe with its field: `("mix.ratio", ...)`."""
    for name, field in table.model_fields.items():
        below = field.annotation
        if isinstance(below, type) and issubclass(below, Table):
            yield from fields(below, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def tables() -> str:
    """Return the tables of all keys as Markdown, one for each table of a recipe."""
    groups: dict[str, list[str]] = {}
    for key, field in fields():
        group, _, name = key.rpartition(".")
        values = "; ".join(part for part in (_values(field), UNITS.get(key, "")) if part)
        cells = (f"`{name}`", _default(field), values, _meaning(field), SOURCES[key])
        groups.setdefault(group, []).append(f"| {' | '.join(cells)} |")
    lines: list[str] = []
    for group, rows in groups.items():
        lines += [f"### `[{group}]`" if group else "### At the top", ""]
        lines += ["| key | default | values, unit | meaning | source |", "|---|---|---|---|---|", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    return f"`{toml_value(field.default)}`"


def _values(field: FieldInfo) -> str:
    parts = []
    for part in _alternatives(field.annotation):
        if get_origin(part) is Literal:
            parts.append(", ".join(f"`{choice}`" for choice in get_args(part)))
        elif get_origin(part) is tuple:
            parts.append("any number of them" if Ellipsis in get_args(part) else "two numbers")
        else:
            limits = [*field.metadata, *getattr(part, "__metadata__", ())]
            kind = part if isinstance(part, type) else get_args(part)[0]
            parts.append(_range(kind, [x for limit in limits for x in getattr(limit, "metadata", [limit])]))
    return " or ".join(parts)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Literal, tuple) or hasattr(annotation, "__metadata__"):
        return (annotation,)
    return get_args(annotation) or (annotation,)


def _range(kind: Any, limits: list[Any]) -> str:
    words = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}
    low = next((limit.ge for limit in limits if hasattr(limit, "ge")), None)
    high = next((limit.le for limit in limits if hasattr(limit, "le")), None)
    above = next((limit.gt for limit in limits if hasattr(limit, "gt")), None)
    if above is not None:
        return f"{words[kind]} above {above}"
    if low is None or kind is str:
        return words[kind]
    return f"{words[kind]}, {low} or more" if high is None or high > 10**9 else f"{low} to {high}"


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|").replace("(inferred)", "(*inferred*)")


def recipes() -> str:
    """Return the table of the recipes as Markdown, by family."""
    rows = []
    for path in sorted(FILES.glob("*.toml"), key=lambda path: path.stem):
        recipe = load_recipe(path)
        network = NETWORKS[recipe.model.backbone]
        rows.append(f"| `{recipe.name}` | {recipe.title} | `{recipe.data.dataset}` | {network} |")
    return "\n".join(["| name | what | dataset | network |", "|---|---|---|---|", *rows]) + "\n"


def written(page: str) -> str:
    """Return the page with its tables written anew."""
    return _between(_between(page, BEGIN, END, tables()), FILES_BEGIN, FILES_END, recipes())


def _between(page: str, begin: str, end: str, text: str) -> str:
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{text}\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
