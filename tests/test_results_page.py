"""The tables of docs/results.md are those of the committed accuracies."""

from __future__ import annotations

import csv
import importlib.util
import statistics
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def load(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_the_tables_of_the_accuracies():
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    assert load("draw_results").written(page) == page, "run: python docs/draw_results.py"


def test_a_cell_is_the_mean_and_the_deviation_of_its_seeds():
    with (DOCS / "measurements" / "encoders-nmnist.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["cell"] == "2" and row["contender"] == "kt"]
    values = [100 * float(row["test_accuracy"]) for row in rows]
    last = [100 * float(row["last_epoch_test_accuracy"]) for row in rows]
    cell = f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f} ({statistics.fmean(last):.1f})"
    line = next(
        line for line in load("draw_results").lines(load("draw_results").TABLES[0]) if line.startswith("| kt |")
    )
    assert len(values) == 5
    assert line.endswith(f"| {cell} |")


def test_every_recipe_of_the_grid_is_valid(tmp_path):
    from tmkt_train.recipe.load import find_recipe, load_recipe

    grid_module = load("encoder_grid")
    for grid in grid_module.GRIDS.values():
        for cell in grid.cells:
            for rank, (name, changes) in enumerate(cell.contenders.items()):
                path = tmp_path / f"r{rank}.toml"
                encoding = {"data.image_encoding": cell.encoder}
                path.write_text(grid_module._recipe(grid.recipe, rank, name, changes | encoding, ""))
                recipe = load_recipe(find_recipe(str(path)), [*grid.settings, f"data.event_share={cell.share}"])
                assert (recipe.title, recipe.data.image_encoding) == (name, cell.encoder)
