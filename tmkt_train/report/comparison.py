"""Several runs side by side: groups with mean and spread, one row per run, points per seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tmkt_train.report.html import Html, count, element, figure, joined, percent, table
from tmkt_train.report.overview import figures
from tmkt_train.report.rows import point_chart
from tmkt_train.report.statistics import mean_sd
from tmkt_train.training.record import RunRecord, flatten

_NO_SETTING = frozenset(
    {
        "seed",
        "title",
        "description",
        "method.name",
        "train.device",
        "train.num_threads",
        "train.eval_batch_size",
    }
)
_RUN_COLUMNS: tuple[tuple[str, str, Callable[[float | None], str | None]], ...] = (
    ("validation", "val_accuracy", percent),
    ("test", "test_accuracy", percent),
    ("last-epoch test", "last_epoch_test_accuracy", percent),
    ("n test", "num_test", count),
)
_COLORS = ("event", "image", "extra", "mixed", "ink", "soft")


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
    def marked(self) -> Html:
        """The name, marked where a run of the group chose its epoch on the test samples."""
        return joined([self.name, element("em", " optimistic") if self.is_optimistic else None])

    @property
    def is_optimistic(self) -> bool:
        """Whether a run of the group chose its epoch on the test samples."""
        return any(run.is_optimistic for run in self.runs)

    def values(self, key: str) -> list[float]:
        """Collect a number of the results, passing over runs without it."""
        return [v for run in self.runs if (v := run.number(key)) is not None]


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


def comparison(runs: Sequence[RunRecord]) -> Html:
    """Compare runs; each is linked as `#run-1`, `#run-2` and so on."""
    groups = group_runs(runs)
    return element(
        "section",
        element("h2", "Comparison"),
        *_warnings(runs),
        _group_table(groups),
        figures(
            _points(groups, "test_accuracy", "test accuracy"),
            _points(groups, "val_accuracy", "validation accuracy"),
        ),
        _run_table(runs),
        id="comparison",
    )


def _warnings(runs: Sequence[RunRecord]) -> list[Html]:
    finished = [run for run in runs if run.result is not None]
    texts = []
    if len({run.text("split_digest") for run in finished}) > 1:
        texts.append("The runs do not share one split: their accuracies stand on different test samples.")
    elif len({run.text("cache_digest") for run in finished}) > 1:
        texts.append("The runs do not share one cache: the same recordings were prepared in different ways.")
    if any(run.is_optimistic for run in runs):
        texts.append(
            "Runs marked optimistic chose their epoch on test, or drew images of held-out recordings; take care."
        )
    if len(finished) < len(runs):
        texts.append("Unfinished runs have no test result and are in no mean.")
    return [element("p", text, class_="notice") for text in texts]


def _group_table(groups: Sequence[Group]) -> Html:
    rows = [
        (
            group.marked,
            f"{len(group.values('test_accuracy'))}",
            _mean_text(group.values("val_accuracy")),
            _mean_text(group.values("test_accuracy")),
        )
        for group in groups
    ]
    return table(
        ["recipe and method", "runs", "validation (%)", "test (%)"],
        rows,
        caption="Accuracy, mean and standard deviation over seeds",
        note="Standard deviation over n \u2212 1; none is given for a single run.",
    )


def _mean_text(values: Sequence[float]) -> str | None:
    if not values:
        return None
    mean, sd = mean_sd([100 * v for v in values])
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def _points(groups: Sequence[Group], key: str, name: str) -> Html | None:
    known = [group for group in groups if group.values(key)]
    if not known:
        return None
    methods = list(dict.fromkeys(group.method for group in groups))
    rows = [
        (
            group.name + (" · optimistic" if group.is_optimistic and key.startswith("test") else ""),
            [100 * v for v in group.values(key)],
            _COLORS[methods.index(group.method) % len(_COLORS)],
        )
        for group in known
    ]
    told = "; ".join(f"{n}: " + ", ".join(f"{v:.2f}" for v in values) for n, values, _ in rows)
    picture = point_chart(rows, x_title=f"{name} (%)", summary=f"Points of {name} in percent per run. {told}.")
    return figure(picture, f"One point per run: {name}, with mean and standard deviation.")


def _run_table(runs: Sequence[RunRecord]) -> Html:
    shown = [(head, key, form) for head, key, form in _RUN_COLUMNS if any(run.number(key) is not None for run in runs)]
    rows = [
        (
            element("a", run.path.name or str(run.path), href=f"#run-{i}"),
            run.text("dataset"),
            _protocol(run),
            run.text("seed"),
            run.epoch_text("best_epoch"),
            *(form(run.number(key)) for _, key, form in shown),
        )
        for i, run in enumerate(runs, 1)
    ]
    heads = ["run", "dataset", "protocol", "seed", "best epoch", *(head for head, _, _ in shown)]
    return table(heads, rows, caption="Runs", num_text_columns=3)


def _protocol(run: RunRecord) -> Html:
    marks = [element("em", " optimistic")] if run.is_optimistic else []
    marks += [element("em", " unfinished")] if run.result is None else []
    return joined([run.text("protocol"), *marks])
