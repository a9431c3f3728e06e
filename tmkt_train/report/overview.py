"""The sections on what a run found: headline, curves, mixing, activity, classes, samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from tmkt_train.report.axis import finite
from tmkt_train.report.charts import Series, line_chart
from tmkt_train.report.html import (
    Html,
    count,
    decimal,
    definitions,
    duration,
    element,
    figure,
    joined,
    percent,
    size,
    table,
)
from tmkt_train.report.statistics import wilson_interval
from tmkt_train.training.record import RunRecord

_TERMS = {
    "image_classification": ("image side", "image", None),
    "event_classification": ("event side", "event", None),
    "alignment": ("alignment", "extra", None),
    "modality": ("modality", "mixed", None),
    "ratio": ("ratio", "soft", "dashed"),
}


def content(*children: Html | None) -> Html | None:
    """Put the parts of a section together; None where there is none, so that the section is left out."""
    parts = [c for c in children if c]
    return joined(parts) if parts else None


def figures(*children: Html | None) -> Html | None:
    """Set figures side by side where the page is wide enough."""
    parts = [c for c in children if c]
    return element("div", *parts, class_="figures") if parts else None


def headline(run: RunRecord) -> Html:
    """Give the numbers one looks for first, and the notes one must not miss."""
    accuracy = run.number("test_accuracy")
    val = run.number("val_accuracy")
    if run.result is None:
        val = max(finite(run.column("val_accuracy")), default=None)
    lead = element(
        "div",
        element("span", "test accuracy", class_="name"),
        element("span", percent(accuracy) or "no test yet", class_="big" if accuracy is not None else "big soft"),
        element("span", _interval_text(run), class_="detail"),
        class_="lead",
    )
    facts = definitions(
        [
            ("validation accuracy" if run.result is not None else "best validation so far", percent(val)),
            ("best epoch", run.epoch_text("best_epoch")),
            ("epochs", _epochs_text(run)),
            ("last-epoch validation", percent(run.number("last_epoch_val_accuracy"))),
            ("last-epoch test", percent(run.number("last_epoch_test_accuracy"))),
            ("parameters", count(run.number("num_parameters"))),
            ("wall time", duration(run.number("wall_s"))),
            ("peak memory", size(run.number("peak_memory_bytes"))),
            ("inferred choices", _inferred_text(run)),
        ],
        class_="tiles",
    )
    return joined([element("div", lead, facts, class_="headline"), *notices(run)])


def _inferred_text(run: RunRecord) -> str | None:
    inferred = (run.result or {}).get("inferred")
    return str(len(inferred)) if isinstance(inferred, list) and inferred else None


def _epochs_text(run: RunRecord) -> str | None:
    planned = run.text("epochs")
    return f"{len(run.epochs)} of {planned}" if planned and run.epochs else planned


def _interval_text(run: RunRecord) -> str | None:
    interval = test_interval(run)
    if interval is None:
        return None
    low, high, trials = interval
    return f"95 % Wilson interval {100 * low:.2f} to {100 * high:.2f} %, n = {count(trials)}"


def test_interval(run: RunRecord) -> tuple[float, float, int] | None:
    """Give the 95 % interval of the test accuracy and the number of samples, None where they are unknown."""
    accuracy, trials = run.number("test_accuracy"), run.number("num_test")
    confusion = run.diagnostics.get("confusion")
    if trials is None and confusion is not None:
        trials = float(np.asarray(confusion, np.int64).sum())
    if accuracy is None or not 0 <= accuracy <= 1 or not trials or trials < 1:
        return None
    return (*wilson_interval(accuracy * trials, trials), int(trials))


def notices(run: RunRecord) -> list[Html]:
    """Say what limits the numbers."""
    notes = []
    if run.selects_on_test:
        text = (
            f"{run.text('protocol') or 'This protocol'} chooses the best epoch on the test samples; "
            "the test accuracy is higher than what new samples would give."
        )
        notes.append(_notice("Optimistic protocol.", text))
    if run.result is None:
        text = (
            f"It stopped before its end ({_epochs_text(run) or 'no'} epochs finished), so there is no test "
            "result. Resume it and write this report again."
        )
        notes.append(_notice("Unfinished run.", text))
    if run.is_cut:
        text = "The last line of metrics.jsonl was cut while being written; it is left out."
        notes.append(_notice("Cut metrics.", text))
    notes += [_notice("Warning.", text) for text in _warnings(run)]
    return notes


def _warnings(run: RunRecord) -> list[str]:
    """Give the warnings of the run but the one on selection, which has its own note."""
    warnings = (run.result or {}).get("warnings")
    is_told = run.selects_on_test
    known = [str(w) for w in warnings] if isinstance(warnings, list) else []
    return [w for w in known if not (is_told and "optimistic" in w and "within reach" not in w)]


def _notice(lead: str, text: str) -> Html:
    return element("p", element("strong", lead), f" {text}", class_="notice")


def learning_curves(run: RunRecord) -> Html | None:
    """Draw accuracy, loss and learning rate over epochs."""
    x = epochs_of(run)
    train, val, test = (run.column(f"{part}_accuracy") for part in ("train", "val", "test"))
    best = run.number("best_epoch")
    accuracy = curve_figure(
        x,
        [
            Series("training", _percents(train), "soft", "dashed"),
            Series("validation", _percents(val), "event"),
            Series("test", _percents(test), "image"),
        ],
        "accuracy (%)",
        "Accuracy on the training batches, as seen while training, and on the samples that select the epoch.",
        mark=(best + 1, "best") if best is not None and x and x[0] <= best + 1 <= x[-1] else None,
        bounds=(None, 100.0) if max(finite(train + val + test), default=0.0) > 0.6 else (None, None),
    )
    losses = [
        Series("training", run.column("train_loss"), "soft", "dashed"),
        Series("validation", run.column("val_loss"), "event"),
        Series("test", run.column("test_loss"), "image"),
    ]
    total = curve_figure(
        x, losses, "loss", "Training loss with all its terms; classification loss of the samples that select."
    )
    parts = [Series(n, run.column("loss_terms", k), c, d) for k, (n, c, d) in _TERMS.items()]
    parts += [Series(k, run.column("loss_terms", k), "ink", "dotted") for k in _other_terms(run)]
    parts = [part for part in parts if finite(part.values)]
    terms = curve_figure(x, parts, "loss term", "Terms of the training loss, each before its weight.", may_log=True)
    rate = curve_figure(x, [Series("", run.column("lr"), "ink")], "learning rate", "Learning rate.", bounds=(0.0, None))
    return content(figures(accuracy, total, terms if len(parts) > 1 else None, rate), _numbers(run))


def _other_terms(run: RunRecord) -> list[str]:
    keys = {k for e in run.epochs if isinstance(t := e.get("loss_terms"), dict) for k in t}
    return sorted(keys - _TERMS.keys())


def epochs_of(run: RunRecord) -> list[float]:
    """Give the numbers of the epochs counted from 1; their places where the file's are not increasing."""
    x = run.column("epoch")
    increasing = all(b > a for a, b in itertools.pairwise(x))
    is_whole = increasing and all(map(math.isfinite, x))
    return [v + 1 for v in x] if is_whole else [float(i) for i in range(1, len(x) + 1)]


def _percents(values: Sequence[float]) -> list[float]:
    return [100 * v for v in values]


def curve_figure(
    x: Sequence[float],
    series: Sequence[Series],
    y_title: str,
    caption: str,
    *,
    may_log: bool = False,
    bounds: tuple[float | None, float | None] = (None, None),
    mark: tuple[float, str] | None = None,
) -> Html | None:
    """Draw lines over epochs as a figure; None where no line has a value."""
    lines = [s for s in series if finite(s.values)]
    if not lines:
        return None
    known = [v for s in lines for v in finite(s.values)]
    is_log = may_log and min(known) > 0 and max(known) / min(known) > 30
    ends = "; ".join(f"{s.label} from {decimal(finite(s.values)[0])} to {decimal(finite(s.values)[-1])}" for s in lines)
    picture = line_chart(
        x,
        lines,
        x_title="epoch",
        y_title=f"{y_title}, log scale" if is_log else y_title,
        summary=f"Line chart of {y_title} over {len(x)} epochs: {ends}.",
        bounds=bounds,
        is_log=is_log,
        mark=mark,
    )
    return figure(picture, caption)


def _numbers(run: RunRecord) -> Html | None:
    """Tabulate every number of every epoch, folded away."""
    columns: dict[str, list[str | None]] = {}
    for key in dict.fromkeys(k for e in run.epochs for k in e):
        values = run.column(key)
        if finite(values):
            columns[key] = [count(v + 1) if key == "epoch" else decimal(v) for v in values]
    terms = dict.fromkeys(k for e in run.epochs if isinstance(t := e.get("loss_terms"), dict) for k in t)
    for key in terms:
        columns[f"loss: {key}"] = [decimal(v) for v in run.column("loss_terms", key)]
    if "epoch" not in columns:
        return None
    heads = ["epoch", *(c for c in columns if c != "epoch")]
    rows = list(zip(*(columns[h] for h in heads), strict=True))
    whole = table([h.replace("_", " ") for h in heads], rows, caption="All numbers by epoch", num_text_columns=0)
    return element("details", element("summary", "All numbers by epoch"), whole)
