"""The files of a comparison: tables, figure and page, each written whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tmkt_data.files import write_bytes
from tmkt_train.errors import RunError
from tmkt_train.experiments.comparison_figure import comparison_png
from tmkt_train.experiments.comparison_page import comparison_page
from tmkt_train.experiments.plan import Comparison
from tmkt_train.experiments.table import GroupRow, RunRow, groups_csv, runs_csv


def write_comparison(
    comparison: Comparison, rows: Sequence[RunRow], groups: Sequence[GroupRow], notes: Sequence[str] = ()
) -> list[Path]:
    """Write `table.csv`, `summary.csv`, `figure.png` and `report.html` into the folder of a comparison.

    Args:
        comparison: What was compared.
        rows: Its runs.
        groups: Its recipes and shares.
        notes: What makes the runs hard to compare, one line each.

    Returns:
        The files.

    Raises:
        RunError: One cannot be written; what was there before is kept.
    """
    out = comparison.out
    seeds = sorted({row.run.recipe.seed for row in rows})
    contents = {
        "table.csv": runs_csv(rows, out).encode(),
        "summary.csv": groups_csv(groups, seeds).encode(),
        "figure.png": comparison_png(groups),
        "report.html": comparison_page(comparison, rows, groups, notes).encode(),
    }
    for name, data in contents.items():
        write_bytes(out / name, data, error=RunError)
    return [out / name for name in contents]
