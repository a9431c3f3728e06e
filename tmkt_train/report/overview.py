"""Head and learning curves of a run report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from tmkt_train.recipe.load import recipe_digest
from tmkt_train.report.figures.axes import Axis, finite
from tmkt_train.report.figures.drawing import About, Drawing
from tmkt_train.report.figures.lines import Line, line_chart
from tmkt_train.report.numbers import count, decimal
from tmkt_train.report.statistics import wilson_interval
from tmkt_train.training.record import RunRecord

_TERMS = {
    "event_classification": ("event side", "event", "-"),
    "image_classification": ("image side", "image", "-"),
    "alignment": ("alignment", "extra", "-"),
    "distillation": ("distillation", "extra", "--"),
    "modality": ("modality", "mixed", "-"),
    "ratio": ("ratio", "soft", "--"),
}
_LOG_FROM = 30.0


def test_interval(run: RunRecord) -> tuple[float, float, int] | None:
    """Return the 95 % Wilson interval of the test accuracy and the number of samples; None if they are unknown."""
    accuracy, trials = run.number("test_accuracy"), run.number("num_test")
    confusion = run.diagnostics.get("confusion")
    if trials is None and confusion is not None:
        trials = float(np.asarray(confusion, np.int64).sum())
    if accuracy is None or not 0 <= accuracy <= 1 or not trials or trials < 1:
        return None
    return (*wilson_interval(round(accuracy * trials), int(trials)), int(trials))


def best_validation(run: RunRecord) -> float | None:
    """Return the best validation accuracy so far."""
    return max(finite(run.column("val_accuracy")), default=None)


def warnings(run: RunRecord) -> list[str]:
    """Return the warnings of the run, without that on selection, which has its own notice; and of an edited recipe."""
    found = (run.result or {}).get("warnings")
    known = [str(w) for w in found] if isinstance(found, list) else []
    shown = [w for w in known if not (run.selects_on_test and "optimistic" in w and "within reach" not in w)]
    started = run.environment.get("recipe_digest")
    if isinstance(started, str) and recipe_digest(run.recipe) != started:
        shown.append("recipe.toml was changed after the start: the run has other settings than those that are shown.")
    return shown


def accuracy(run: RunRecord) -> Drawing | None:
    """Draw the accuracies over epochs."""
    best, x = run.number("best_epoch"), epochs_of(run)
    lines = _parts(run, "accuracy", 100)
    is_high = max((v for line in lines for v in finite(line.y)), default=0.0) > 60
    mark = (best + 1, "best") if best is not None and x and x[0] <= best + 1 <= x[-1] else None
    return curves("accuracy", lines, Axis("accuracy (%)", high=100.0 if is_high else None), mark)


def loss(run: RunRecord) -> Drawing | None:
    """Draw the losses over epochs."""
    return curves("loss", _parts(run, "loss", 1), Axis("loss"))


def _parts(run: RunRecord, name: str, factor: float) -> list[Line]:
    looks = {"train": ("training", "soft", "--"), "val": ("validation", "event", "-"), "test": ("test", "image", "-")}
    x = epochs_of(run)
    return [
        Line(label, x, [factor * v for v in run.column(f"{part}_{name}")], color, dash)
        for part, (label, color, dash) in looks.items()
    ]


def loss_terms(run: RunRecord) -> Drawing | None:
    """Draw the terms of the training loss; None for a single term."""
    x, looks = epochs_of(run), _TERMS | {key: (key, "ink", ":") for key in sorted(_term_keys(run) - _TERMS.keys())}
    lines = [Line(name, x, run.column("loss_terms", k), color, dash) for k, (name, color, dash) in looks.items()]
    lines = [line for line in lines if finite(line.y)]
    known = [v for line in lines for v in finite(line.y)]
    if len(lines) < 2:
        return None
    if min(known) > 0 and max(known) / min(known) > _LOG_FROM:
        return curves(
            "loss-terms", lines, Axis("loss term, log scale", 0.9 * min(known), 1.1 * max(known), is_log=True)
        )
    return curves("loss-terms", lines, Axis("loss term"))


def _term_keys(run: RunRecord) -> set[str]:
    return {key for epoch in run.epochs if isinstance(terms := epoch.get("loss_terms"), dict) for key in terms}


def learning_rate(run: RunRecord) -> Drawing | None:
    """Draw the learning rate over epochs."""
    return curves("learning-rate", [Line("", epochs_of(run), run.column("lr"), "ink")], Axis("learning rate", low=0.0))


def epochs_of(run: RunRecord) -> list[float]:
    """Return the epochs, counted from 1; their positions in the file if the stored numbers do not increase."""
    x = run.column("epoch")
    is_whole = all(map(math.isfinite, x)) and all(b > a for a, b in itertools.pairwise(x))
    return [v + 1 for v in x] if is_whole else [float(i) for i in range(1, len(x) + 1)]


def curves(name: str, lines: Sequence[Line], axis: Axis, mark: tuple[float, str] | None = None) -> Drawing | None:
    """Draw lines over epochs; None without a finite value."""
    lines = [line for line in lines if finite(line.y)]
    if not lines:
        return None
    x = lines[0].x
    ends = [f"{s.label} from {decimal(finite(s.y)[0])} to {decimal(finite(s.y)[-1])}".strip() for s in lines]
    summary = f"Line chart of {axis.title} over {count(len(x))} epochs: {'; '.join(ends)}."
    half = 0.0 if len(x) > 1 else 0.5
    epochs = Axis("epoch", x[0] - half, x[-1] + half, is_whole=True)
    return Drawing(About(name, summary), line_chart(lines, epochs, axis, mark))


def epoch_table(run: RunRecord) -> tuple[list[str], list[tuple[str | None, ...]]] | None:
    """Return a table of all metrics by epoch: heads and rows."""
    columns: dict[str, list[str | None]] = {}
    for key in dict.fromkeys(["epoch", *(key for epoch in run.epochs for key in epoch)]):
        values = run.column(key)
        if finite(values):
            columns[key.replace("_", " ")] = [count(v + 1) if key == "epoch" else decimal(v) for v in values]
    for key in dict.fromkeys(k for e in run.epochs if isinstance(t := e.get("loss_terms"), dict) for k in t):
        columns[f"loss: {key}".replace("_", " ")] = [decimal(v) for v in run.column("loss_terms", key)]
    return (list(columns), list(zip(*columns.values(), strict=True))) if "epoch" in columns else None
