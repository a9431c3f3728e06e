"""Comparison of several runs: groups with mean and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tmkt_train.report.figures.axes import Axis, finite
from tmkt_train.report.figures.bars import dot_chart
from tmkt_train.report.figures.drawing import About, Drawing
from tmkt_train.report.figures.lines import Line, line_chart
from tmkt_train.report.overview import epochs_of
from tmkt_train.report.palette import SERIES
from tmkt_train.report.statistics import spread
from tmkt_train.training.record import RunRecord, differing_keys, flatten

_NO_SETTING = frozenset(
    ("seed", "title", "description", "method.name", "train.device", "train.num_threads", "train.eval_batch_size")
)


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed; the name has the settings in which the groups differ."""

    name: str
    method: str
    runs: tuple[RunRecord, ...]

    @property
    def is_optimistic(self) -> bool:
        """Whether a run of the group selected its epoch on the test samples."""
        return any(run.is_optimistic for run in self.runs)

    def percents(self, key: str) -> list[float]:
        """Return a share of the results in percent, for the runs that have it."""
        return [100 * v for run in self.runs if (v := run.number(key)) is not None]

    def mean_text(self, key: str) -> str | None:
        """Return mean ± standard deviation of a share of the results in percent; None if no run has it."""
        return spread(self.percents(key)).text


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """Group runs that have recipe, method and all settings but the seed in common, in the order of their first runs.

    Settings in which runs of one recipe differ are part of the name of every group.
    """
    families: dict[str, list[RunRecord]] = {}
    for run in runs:
        families.setdefault(run.title, []).append(run)
    recipes = ([run.recipe for run in family] for family in families.values())
    keys = dict.fromkeys(key for family in recipes for key in differing_keys(family) if key not in _NO_SETTING)
    leaves = [key.rpartition(".")[2] for key in keys]
    names = {key: leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)}
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        settings = dict(flatten(run.recipe))
        shown = (f"{names[key]} = {settings[key]}" for key in keys if key in settings)
        groups.setdefault(" · ".join([run.title, run.method, *shown]), []).append(run)
    return [Group(name, members[0].method, tuple(members)) for name, members in groups.items()]


def differ(runs: Sequence[RunRecord], key: str, unknown: str = "") -> bool:
    """Whether finished runs differ in a fact; `unknown` stands for it in runs of versions without it."""
    return len({run.text(key) or unknown for run in runs if run.result is not None}) > 1


def dots(groups: Sequence[Group], key: str, name: str) -> Drawing | None:
    """Draw a share of the results of each run by group, with one color per method."""
    methods = list(dict.fromkeys(group.method for group in groups))
    rows = [
        (
            group.name + (" · optimistic" if group.is_optimistic and key.startswith("test") else ""),
            group.percents(key),
            SERIES[methods.index(group.method) % len(SERIES)],
        )
        for group in groups
        if group.percents(key)
    ]
    told = "; ".join(f"{n}: " + ", ".join(f"{v:.2f}" for v in values) for n, values, _ in rows)
    about = About(name.replace(" ", "-"), f"Each run's {name} in percent. {told}.")
    return dot_chart(about, rows, f"{name} (%)") if rows else None


def overlay(groups: Sequence[Group], key: str, name: str, factor: float = 1.0) -> Drawing | None:
    """Draw a metric of every run over the epochs, with one color and one label per group; None where no run has it."""
    lines, told = [], []
    for at, group in enumerate(groups):
        color, dash = SERIES[at % len(SERIES)], ("-", "--", ":")[at // len(SERIES) % 3]
        columns = [(epochs_of(run), [factor * value for value in run.column(key)]) for run in group.runs]
        columns = [(x, y) for x, y in columns if finite(y)]
        # The label stands at the end of the first run.
        lines += [Line("" if number else group.name, x, y, color, dash) for number, (x, y) in enumerate(columns)]
        if columns:
            told.append(f"{group.name}: " + ", ".join(f"{finite(y)[-1]:.4g}" for _, y in columns))
    if not lines:
        return None
    first, last = min(line.x[0] for line in lines), max(line.x[-1] for line in lines)
    half = 0.0 if last > first else 0.5
    about = About(
        name.split(" (")[0].replace(" ", "-"), f"Each run's {name} over the epochs; at the end {'; '.join(told)}."
    )
    return Drawing(about, line_chart(lines, Axis("epoch", first - half, last + half, is_whole=True), Axis(name)))
