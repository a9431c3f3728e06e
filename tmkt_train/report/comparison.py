"""Several runs side by side: groups with mean and spread, and what makes them hard to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tmkt_train.report.figures.bars import dot_chart
from tmkt_train.report.figures.drawing import About, Drawing
from tmkt_train.report.palette import SERIES
from tmkt_train.report.statistics import mean_sd
from tmkt_train.training.record import RunRecord, flatten

_NO_SETTING = frozenset(
    ("seed", "title", "description", "method.name", "train.device", "train.num_threads", "train.eval_batch_size")
)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        name: Recipe, method, and the settings in which it differs from its neighbors.
        method: The method.
        runs: The runs, in the order given.
    """

    name: str
    method: str
    runs: tuple[RunRecord, ...]

    @property
    def is_optimistic(self) -> bool:
        """Whether a run of the group selected its epoch on the test samples."""
        return any(run.is_optimistic for run in self.runs)

    def percents(self, key: str) -> list[float]:
        """Collect a share of the results in percent, passing over runs without it."""
        return [100 * v for run in self.runs if (v := run.number(key)) is not None]

    def mean_text(self, key: str) -> str | None:
        """Write mean and standard deviation of a share of the results in percent; None where no run has it."""
        percents = self.percents(key)
        mean, sd = mean_sd(percents) if percents else (None, None)
        return None if mean is None else f"{mean:.2f}" + ("" if sd is None else f" ± {sd:.2f}")


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """Put runs together that share recipe, method and every setting but the seed.

    Settings in which runs of one recipe differ are part of the name of every group.

    Args:
        runs: The runs.

    Returns:
        Groups in the order in which their first run stands.
    """
    families: dict[str, list[RunRecord]] = {}
    for run in runs:
        families.setdefault(run.title, []).append(run)
    keys = dict.fromkeys(key for family in families.values() for key in _differing(family))
    leaves = [key.rpartition(".")[2] for key in keys]
    names = {key: leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)}
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        settings = dict(flatten(run.recipe))
        shown = (f"{names[key]} = {settings[key]}" for key in keys if key in settings)
        groups.setdefault(" · ".join([run.title, run.method, *shown]), []).append(run)
    return [Group(name, members[0].method, tuple(members)) for name, members in groups.items()]


def _differing(family: Sequence[RunRecord]) -> list[str]:
    all_settings = [dict(flatten(run.recipe)) for run in family]
    keys = dict.fromkeys(key for settings in all_settings for key in settings)
    missing = object()
    return [
        key
        for key in keys
        if key not in _NO_SETTING
        and any(settings.get(key, missing) != all_settings[0].get(key, missing) for settings in all_settings[1:])
    ]


def warnings(runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """Say what makes the runs hard to compare: in two words, and in a sentence."""
    finished = [run for run in runs if run.result is not None]
    found = []
    if len({run.text("split_digest") for run in finished}) > 1:
        text = "The runs do not share one split: their accuracies are measured on different test samples."
        found.append(("Different splits.", text))
    elif len({run.text("cache_digest") for run in finished}) > 1:
        text = "The runs do not share one cache: the same recordings were prepared in different ways."
        found.append(("Different caches.", text))
    if any(run.is_optimistic for run in runs):
        text = "Runs marked optimistic selected their epoch on test, or trained with images of held-out recordings."
        found.append(("Optimistic results.", f"{text} Their test accuracies are too high."))
    if len(finished) < len(runs):
        found.append(("Unfinished runs.", "They have no test result and are in no mean."))
    return found


def dots(groups: Sequence[Group], key: str, name: str) -> Drawing | None:
    """Draw a share of the results of each run, group by group; a method has one color."""
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
