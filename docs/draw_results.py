"""Write the tables of docs/results.md and draw docs/images/results.png, from docs/measurements/encoders-*.csv.

    python docs/draw_results.py

Each cell of a table is mean ± standard deviation over seeds of the test accuracy of the selected epoch, in percent, and
in parentheses the mean of the last epoch.
"""

from __future__ import annotations

import csv
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
PAGE, FIGURE = DOCS / "results.md", DOCS / "images" / "results.png"
ENCODERS = {"repeat": "#7b8794", "gradient": "#3d7edb", "saccade": "#c2410c"}


class Table(NamedTuple):
    """A table of the page: name in its markers, file, cells of the grid, and whether rows are compared with `tmkt`."""

    name: str
    file: str
    share: float
    is_ablation: bool = False


TABLES = (
    Table("nmnist-3", "encoders-nmnist.csv", 0.03),
    Table("nmnist-10", "encoders-nmnist.csv", 0.1),
    Table("nmnist-30", "encoders-nmnist.csv", 0.3),
    Table("nmnist-100", "encoders-nmnist.csv", 1.0),
    Table("ablation-3", "encoders-nmnist.csv", 0.03, is_ablation=True),
    Table("ablation-10", "encoders-nmnist.csv", 0.1, is_ablation=True),
    Table("caltech-10", "encoders-caltech.csv", 0.1),
    Table("caltech-scnn-10", "encoders-caltech-scnn.csv", 0.1),
)
_BEST = "tmkt by count after images"
_PANELS = (
    ("N-MNIST, one recording a class (3 %)", TABLES[0]),
    ("N-MNIST, four recordings a class (10 %)", TABLES[1]),
    ("50 classes of Caltech-101, simulated recordings, VGG-SNN (10 %)", TABLES[6]),
    ("The same, SCNN", TABLES[7]),
)
_FIRST_ABLATION = 6
_RECIPES = {
    "scnn_digits": "encoders-digits.csv",
    "scnn_caltech_twins": "encoders-twins.csv",
    "scnn_folder": "encoders-folder.csv",
    "scnn_fashion": "encoders-fashion.csv",
}
_MOVED = ("saccade", "microsaccade")


class Accuracies(NamedTuple):
    """Test accuracies of one contender by seed, in percent: of the selected epoch and of the last one."""

    selected: dict[int, float]
    last: dict[int, float]


Contenders = dict[tuple[str, str], Accuracies]


def read(one: Table) -> Contenders:
    """Return the accuracies of a table by contender and encoder, for the seeds that each of them has."""
    found: Contenders = {}
    with (DOCS / "measurements" / one.file).open(newline="") as file:
        for row in csv.DictReader(file):
            is_ablation = (
                one.file == "encoders-nmnist.csv" and _FIRST_ABLATION <= int(row["cell"]) < _FIRST_ABLATION + 2
            )
            if float(row["share"]) == one.share and is_ablation == one.is_ablation:
                accuracies = found.setdefault((row["contender"], row["encoder"]), Accuracies({}, {}))
                accuracies.selected[int(row["seed"])] = 100 * float(row["test_accuracy"])
                accuracies.last[int(row["seed"])] = 100 * float(row["last_epoch_test_accuracy"])
    return found


def lines(one: Table) -> list[str]:
    """Return a table as Markdown."""
    found = read(one)
    return _ablation_lines(found) if one.is_ablation else _method_lines(found)


def _method_lines(found: Contenders) -> list[str]:
    names = sorted({name for name, _ in found}, key=_order)
    encoders = [encoder for encoder in ENCODERS if any(encoder == one for _, one in found)]
    rows = [f"| | {' | '.join(f'`{encoder}`' for encoder in encoders)} |", f"|---|{'---:|' * len(encoders)}"]
    for name in names:
        cells = [_cell(found[name, encoder]) if (name, encoder) in found else "" for encoder in encoders]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def _ablation_lines(found: Contenders) -> list[str]:
    base = found["tmkt", "saccade"]
    rows = ["| | accuracy | difference to `tmkt` | in the last epoch |", "|---|---:|---:|---:|"]
    for name in sorted({name for name, _ in found}, key=_order):
        one = found[name, "saccade"]
        words = [_difference(getattr(one, when), getattr(base, when)) for when in Accuracies._fields]
        rows.append(f"| {name} | {_cell(one)} | {' | '.join(words)} |")
    return rows


def _cell(one: Accuracies) -> str:
    values = list(one.selected.values())
    return (
        f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f} ({statistics.fmean(one.last.values()):.1f})"
    )


def _order(name: str) -> tuple[int, str]:
    known = ("event-only", "images-only", "fine-tune", "kt", "kt+tsm", "tmkt")
    first = name.split(",")[0].split(" ")[0]
    return (known.index(first) if first in known else len(known), name)


def difference_lines() -> list[str]:
    """Return how far one method is ahead of each other one with the same encoder, as Markdown."""
    rows = ["| ahead of | 3 % | last epoch | 10 % | last epoch |", "|---|---:|---:|---:|---:|"]
    parts = [read(TABLES[0]), read(TABLES[1])]
    names = [name for name, encoder in parts[0] if encoder == "saccade" and name != _BEST]
    for name in sorted(names, key=_order):
        differences = [
            _difference(getattr(part[_BEST, "saccade"], when), getattr(part[name, "saccade"], when))
            for part in parts
            for when in Accuracies._fields
        ]
        rows.append(f"| {name} | {' | '.join(differences)} |")
    return rows


def chosen_lines() -> list[str]:
    """Return the validation accuracy in the last epoch by which recipes show images, as Markdown."""
    rows = ["| recipe | recordings | | `repeat` | `gradient` | moved |", "|---|---:|---|---:|---:|---:|"]
    for recipe, name in _RECIPES.items():
        found: dict[tuple[float, str], dict[str, list[float]]] = {}
        with (DOCS / "measurements" / name).open(newline="") as file:
            for row in csv.DictReader(file):
                of_encoder = found.setdefault((float(row["share"]), row["contender"]), {})
                of_encoder.setdefault(row["encoder"], []).append(100 * float(row["last_epoch_val_accuracy"]))
        for (share, contender), by_encoder in sorted(found.items()):
            cells = [_spread(by_encoder.get(encoder)) for encoder in ("repeat", "gradient")]
            moved = next(encoder for encoder in _MOVED if encoder in by_encoder)
            cells.append(f"{_spread(by_encoder[moved])} `{moved}`")
            rows.append(f"| `{recipe}` | {share:.0%} | {contender} | {' | '.join(cells)} |".replace("%", " %"))
    return rows


def _spread(values: list[float] | None) -> str:
    return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}" if values else ""


def _difference(values: dict[int, float], baseline: dict[int, float]) -> str:
    """Return the paired difference with its 95 % interval; nothing where all are equal."""
    from tmkt_train.experiments.table import paired_difference

    found = paired_difference(values, baseline)
    if found.interval is None or not any(found.by_seed.values()):
        return ""
    return f"{found.mean:+.1f} [{found.interval[0]:+.1f}, {found.interval[1]:+.1f}]"


def _tables() -> list[tuple[str, list[str]]]:
    return [(one.name, lines(one)) for one in TABLES] + [
        ("differences", difference_lines()),
        ("chosen", chosen_lines()),
    ]


def written(page: str) -> str:
    """Return the page with the tables between their markers."""
    for name, table in _tables():
        start, end = f"<!-- {name}: python docs/draw_results.py -->\n", f"<!-- end of {name} -->\n"
        before, found, rest = page.partition(start)
        if not found or end not in rest:
            raise SystemExit(f"{PAGE}: {name}: no markers, expected {start.strip()} and {end.strip()}")
        page = f"{before}{start}\n" + "\n".join(table) + f"\n\n{end}{rest.partition(end)[2]}"
    return page


def draw() -> None:
    """Draw mean and standard deviation of the contenders of some tables, one panel each."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    tables = [(title, read(one)) for title, one in _PANELS]
    heights = [len({name for name, _ in found}) for _, found in tables]
    figure, axes = plt.subplots(len(tables), figsize=(7.6, 11), height_ratios=heights, layout="constrained")
    for axis, (title, found) in zip(axes, tables, strict=True):
        names = sorted({name for name, _ in found} - {"event-only"}, key=_order)[::-1]
        base = statistics.fmean(found["event-only", "repeat"].selected.values())
        axis.axvline(base, color="black", linewidth=1, linestyle=":")
        axis.annotate("events alone", (base, len(names) - 0.55), xytext=(4, 0), textcoords="offset points", fontsize=8)
        for offset, (encoder, color) in zip((-0.2, 0.0, 0.2), ENCODERS.items(), strict=True):
            at = [
                (row, found[name, encoder].selected.values())
                for row, name in enumerate(names)
                if (name, encoder) in found
            ]
            means, spreads = [statistics.fmean(v) for _, v in at], [statistics.stdev(v) for _, v in at]
            rows = [row - offset for row, _ in at]
            axis.errorbar(means, rows, xerr=spreads, fmt="o", color=color, markersize=5, capsize=2, label=encoder)
        axis.set_yticks(
            range(len(names)), [name.replace(", second stage", ",\nsecond stage") for name in names], fontsize=8
        )
        axis.set_title(title, fontsize=9, loc="left")
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(axis="x", color="#e4e7eb", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_ylim(-0.6, len(names) - 0.2)
    axes[0].legend(title="images as", fontsize=8, title_fontsize=8, loc="center left", bbox_to_anchor=(0.08, 0.4))
    axes[-1].set_xlabel("test accuracy of the selected epoch, %: mean and standard deviation over seeds", fontsize=8)
    figure.savefig(FIGURE, dpi=130)


def main() -> int:
    """Write the page and draw the figure; returns the exit status."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
