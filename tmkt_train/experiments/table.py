"""Tables of a comparison: one row per run, and one per recipe and share with its difference to the baseline."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tmkt_train.experiments.plan import Comparison, PlannedRun
from tmkt_train.report.statistics import Spread, spread

_FEWEST_VALUES = 3


class Difference(NamedTuple):
    """Paired difference of two recipes, by the seeds that both have, in ascending order.

    `mean` is None without a common seed; `interval`, the 95 % t interval of it, with fewer than three.
    """

    by_seed: dict[int, float]
    mean: float | None
    interval: tuple[float, float] | None

    @property
    def text(self) -> str:
        """Mean and interval in percentage points, as far as they exist."""
        if self.mean is None:
            return "no common seed"
        mean = f"{100 * self.mean:+.1f}"
        if self.interval is None:
            return mean
        low, high = (100 * end for end in self.interval)
        return f"{mean} [{low:+.1f}, {high:+.1f}]"


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return the t interval of the mean of independent, normally distributed values; None for fewer than three.

    Its ends are mean ± t((1 + level) / 2, n - 1) * sd / sqrt(n). For two values, t is 12.7: it would span all
    accuracies there are.

    Example:
        >>> [round(end, 3) for end in t_interval([1.0, 2.0, 3.0])]
        [-0.484, 4.484]

    Source: Student 1908, Biometrika 6, 1-25.
    """
    num, mean, _ = spread(values)
    if mean is None or num < _FEWEST_VALUES:
        return None
    from scipy import stats

    half = float(stats.t.ppf((1 + level) / 2, num - 1) * stats.sem(values))
    return mean - half, mean + half


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Subtract the values of the baseline, seed by seed, on the seeds that both have.

    Example:
        >>> paired_difference({1: 0.5, 2: 0.75, 3: 1.0}, {1: 0.25, 2: 0.25})
        Difference(by_seed={1: 0.25, 2: 0.5}, mean=0.375, interval=None)
    """
    by_seed = {seed: value - baseline[seed] for seed, value in sorted(values.items()) if seed in baseline}
    differences = list(by_seed.values())
    return Difference(by_seed, spread(differences).mean, t_interval(differences))


@dataclass(frozen=True)
class RunRow:
    """One run of a comparison: its result.json, None if it is not finished, and why it failed, None if it did not."""

    run: PlannedRun
    result: Mapping[str, Any] | None
    problem: str | None

    @property
    def accuracy(self) -> float | None:
        """Test accuracy in [0, 1]; None if the run has no result."""
        return None if self.result is None else float(self.result["test_accuracy"])

    @property
    def last_accuracy(self) -> float | None:
        """Test accuracy of the last epoch in [0, 1]; None without a result, or in one of an earlier version."""
        found = (self.result or {}).get("last_epoch_test_accuracy")
        return None if found is None else float(found)


@dataclass(frozen=True)
class GroupRow:
    """The runs of one recipe at one share of the training recordings, in (0, 1]; accuracies, in [0, 1], by seed.

    `last_spread` is that of the last epoch instead of the selected one. `num_train` is None if no run is finished,
    `difference` for the baseline itself. `optimistic` says that the epoch was selected on the test split, or images of
    held-out recordings were drawn.
    """

    recipe: str
    method: str
    share: float
    num_train: int | None
    accuracies: dict[int, float]
    spread: Spread
    last_spread: Spread
    difference: Difference | None
    optimistic: bool

    @property
    def difference_text(self) -> str:
        """The difference to the baseline in percentage points, with its interval where there is one."""
        return "baseline" if self.difference is None else self.difference.text


def run_rows(comparison: Comparison, problems: Mapping[Path, str]) -> list[RunRow]:
    """Read the results of a trained comparison, ordered by recipe, share and seed; `problems` say why runs failed.

    Raises:
        RunError: A result is damaged.
    """
    names = [recipe.name for recipe in comparison.recipes]

    def place(run: PlannedRun) -> tuple[int, float, int]:
        return names.index(run.recipe.name), run.recipe.data.event_share, run.recipe.seed

    return [RunRow(run, run.result(), problems.get(run.folder)) for run in sorted(comparison.runs, key=place)]


def group_rows(rows: Sequence[RunRow]) -> list[GroupRow]:
    """Group the rows of `run_rows` by recipe and share; the first recipe is the baseline."""
    groups: dict[tuple[str, float], list[RunRow]] = {}
    for row in rows:
        groups.setdefault((row.run.recipe.name, row.run.recipe.data.event_share), []).append(row)
    baseline = rows[0].run.recipe.name
    return [
        _group_row(members, groups.get((baseline, share)), name == baseline)
        for (name, share), members in groups.items()
    ]


def _group_row(members: Sequence[RunRow], baseline: Sequence[RunRow] | None, is_baseline: bool) -> GroupRow:
    recipe = members[0].run.recipe
    accuracies = _by_seed(members)
    difference = None if is_baseline else paired_difference(accuracies, _by_seed(baseline or ()))
    return GroupRow(
        recipe=recipe.name,
        method=recipe.method.name,
        share=recipe.data.event_share,
        num_train=next((int(row.result["num_train"]) for row in members if row.result), None),
        accuracies=accuracies,
        spread=spread(list(accuracies.values())),
        last_spread=spread([row.last_accuracy for row in members if row.last_accuracy is not None]),
        difference=difference,
        optimistic=bool(recipe.optimism),
    )


def environment_notes(rows: Sequence[RunRow]) -> list[str]:
    """Return a note for each version and device that differs between the runs."""
    known = [row.result["environment"] for row in rows if row.result]
    notes = []
    for name in ("tmkt", "torch", "spikingjelly", "numpy", "device", "num_threads"):
        values = dict.fromkeys(str(environment.get(name)) for environment in known)
        if len(values) > 1:
            notes.append(f"the runs were not all trained with the same {name}: {', '.join(values)}")
    return notes


def share_text(share: float) -> str:
    """Format a share as percent, without trailing zeros.

    Example:
        >>> share_text(0.1), share_text(1.0), share_text(0.125)
        ('10 %', '100 %', '12.5 %')
    """
    return f"{100 * share:.4g} %"


def _by_seed(rows: Iterable[RunRow]) -> dict[int, float]:
    return {row.run.recipe.seed: row.accuracy for row in rows if row.accuracy is not None}


def runs_csv(rows: Sequence[RunRow], out: Path) -> str:
    """Return one CSV line per run, with paths relative to `out`.

    Shares and accuracies are in [0, 1], and `best_epoch` counts from 0 as in result.json.
    """
    return csv_text([_run_cells(row, out) for row in rows])


def _run_cells(row: RunRow, out: Path) -> dict[str, object]:
    recipe, result = row.run.recipe, row.result or {}
    split = "val" if recipe.has_validation else "test"
    return {
        "recipe": recipe.name,
        "method": recipe.method.name,
        "dataset": recipe.data.dataset,
        "protocol": recipe.data.protocol,
        "event_share": recipe.data.event_share,
        "seed": recipe.seed,
        "status": "finished" if row.result else "failed",
        "num_train": result.get("num_train"),
        "num_test": result.get("num_test"),
        "test_accuracy": result.get("test_accuracy"),
        "val_accuracy": result.get("val_accuracy"),
        "selected_on": recipe.selected_on,
        "last_epoch_accuracy": result.get(f"last_epoch_{split}_accuracy"),
        "last_epoch_test_accuracy": row.last_accuracy,
        "best_epoch": result.get("best_epoch"),
        "epochs": recipe.num_epochs,
        "optimistic": str(bool(recipe.optimism)).lower(),
        "wall_s": result.get("wall_s"),
        "path": row.run.folder.relative_to(out).as_posix(),
        "problem": row.problem,
    }


def groups_csv(groups: Sequence[GroupRow], seeds: Sequence[int]) -> str:
    """Return one CSV line per recipe and share, with the difference to the first recipe for each of the seeds."""
    baseline = groups[0].recipe
    return csv_text([_group_cells(group, baseline, seeds) for group in groups])


def _group_cells(group: GroupRow, baseline: str, seeds: Sequence[int]) -> dict[str, object]:
    difference = group.difference or Difference({}, None, None)
    low, high = difference.interval or (None, None)
    return {
        "recipe": group.recipe,
        "method": group.method,
        "event_share": group.share,
        "num_train": group.num_train,
        "n": group.spread.num,
        "mean_test_accuracy": group.spread.mean,
        "sd_test_accuracy": group.spread.sd,
        "mean_last_epoch_test_accuracy": group.last_spread.mean,
        "sd_last_epoch_test_accuracy": group.last_spread.sd,
        "optimistic": str(group.optimistic).lower(),
        "baseline": None if group.difference is None else baseline,
        "num_pairs": None if group.difference is None else len(difference.by_seed),
        "mean_difference": difference.mean,
        "ci95_low": low,
        "ci95_high": high,
        **{f"difference_seed_{seed}": difference.by_seed.get(seed) for seed in seeds},
    }


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows of equal keys as CSV with a header: floats to ten decimals, None as an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: round(value, 10) if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()
