"""Write the tables of recipes.md, recipes and their keys, from files and models: python docs/recipe_keys.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tmkt_train.errors import RecipeError
from tmkt_train.recipe.explain import accepted_values
from tmkt_train.recipe.load import list_recipes
from tmkt_train.recipe.recipe import Recipe, toml_value
from tmkt_train.recipe.schema import Table, meaning, remark

PAGE = Path(__file__).resolve().parent / "recipes.md"
BEGIN = "<!-- keys: begin, written by docs/recipe_keys.py -->"
END = "<!-- keys: end -->"
FILES_BEGIN = "<!-- recipes: begin, written by docs/recipe_keys.py -->"
FILES_END = "<!-- recipes: end -->"
FILES = PAGE.parent.parent / "recipes"
NETWORKS = {"vgg-snn": "VGG-SNN", "resnet18": "ResNet-18", "scnn": "SCNN"}


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
    accepted = accepted_values()
    groups: dict[str, list[str]] = {}
    for key, field in fields():
        group, _, name = key.rpartition(".")
        values = re.sub(r"'([^']*)'", r"`\1`", accepted[key].removeprefix("one of ").removeprefix("a "))
        unit = remark(field, "unit")
        default = "required" if field.default is PydanticUndefined else f"`{toml_value(field.default)}`"
        source = remark(field, "source").replace("inferred", "*inferred*")
        cells = (f"`{name}`", default, f"{values}; {unit}" if unit else values, meaning(field), source)
        groups.setdefault(group, []).append(f"| {' | '.join(cells)} |")
    lines: list[str] = []
    for group, rows in groups.items():
        lines += [f"### `[{group}]`" if group else "### At the top", ""]
        lines += ["| key | default | values; unit | meaning | source |", "|---|---|---|---|---|", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def recipes() -> str:
    """Return the table of the recipes as Markdown, one row for each system."""
    rows: dict[Path, str] = {}
    for path, recipe in list_recipes():
        if path.file.resolve().parent != FILES or isinstance(recipe, RecipeError):
            continue
        if path.variant:
            rows[path.file] += f" `{path.variant}`"
        else:
            network = NETWORKS[recipe.model.backbone]
            rows[path.file] = f"| `{path.name}` | {recipe.title} | `{recipe.data.dataset}` | {network} |"
    lines = ["| name | what | dataset | network | variants |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(f"{row} |" for row in rows.values())]) + "\n"


def written(page: str) -> str:
    """Return the page with its tables written anew."""
    return _between(_between(page, BEGIN, END, tables()), FILES_BEGIN, FILES_END, recipes())


def _between(page: str, begin: str, end: str, text: str) -> str:
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{text}\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
