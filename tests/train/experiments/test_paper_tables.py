"""The tables to paste say what the summary says, and are valid where they are pasted."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess

import pytest

from tmkt_train.experiments.paper_tables import latex_table, markdown_table
from tmkt_train.experiments.table import GroupRow, groups_csv, paired_difference
from tmkt_train.report.statistics import spread


def group(name, accuracies, baseline=None, *, share=0.1, optimistic=False):
    values = list(accuracies.values())
    difference = None if baseline is None else paired_difference(accuracies, baseline)
    return GroupRow(name, "kt", share, 40, accuracies, spread(values), spread(values), difference, optimistic)


BASE = {1: 0.50, 2: 0.52, 3: 0.54}
GROUPS = [
    group("scnn_event_only", BASE),
    group("scnn_kt", {1: 0.60, 2: 0.64, 3: 0.65}, BASE, optimistic=True),
    group("half & half_100%", {1: 0.7}, BASE),
    group("failed", {}, BASE),
]


def test_markdown():
    lines = markdown_table(GROUPS).splitlines()
    assert lines[2] == "| `scnn_event_only` | 10 % | 3 | 52.0 ± 2.0 | 52.0 ± 2.0 | baseline |"
    # Differences 10, 12, 11: mean 11, deviation 1, t 4.3027 / sqrt(3) = 2.484.
    assert lines[3] == "| `scnn_kt` | 10 % | 3 | 63.0 ± 2.6* | 63.0 ± 2.6 | +11.0 [+8.5, +13.5] |"
    assert lines[4] == "| `half & half_100%` | 10 % | 1 | 70.0 | 70.0 | +20.0 |"
    assert lines[5] == "| `failed` | 10 % | 0 | none | none | no common seed |"
    assert "scnn_event_only" in lines[-1]
    assert "Optimistic" in lines[-1]
    assert "Optimistic" not in markdown_table(GROUPS[:1])


def test_csv_has_the_same_interval_as_shares():
    line = next(
        line for line in csv.DictReader(groups_csv(GROUPS, [1, 2, 3]).splitlines()) if line["recipe"] == "scnn_kt"
    )
    ends = [float(line["ci95_low"]), float(line["ci95_high"])]
    assert ends == pytest.approx([0.11 - 0.02484, 0.11 + 0.02484], abs=1e-5)


def test_latex_escapes_what_has_a_meaning():
    text = latex_table(GROUPS)
    assert r"scnn\_kt & 10 \% & 3 & 63.0 $\pm$ 2.6* & 63.0 $\pm$ 2.6 & +11.0 [+8.5, +13.5] \\" in text
    assert r"half \& half\_100\% & 10 \% & 1 & 70.0 & 70.0 & +20.0 \\" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert all(len(re.findall(r"(?<!\\)&", line)) == 5 for line in body.strip().splitlines())
    assert text.isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(tmp_path):
    (tmp_path / "a.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}" + latex_table(GROUPS) + r"\end{document}"
    )
    subprocess.run(["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, check=True, capture_output=True)
