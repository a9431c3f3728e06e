"""The sections on samples: activity of the layers, confusions, accuracy by class, sample strips."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tmkt_train.report.charts import column_chart
from tmkt_train.report.html import Html, count, decimal, element, figure, joined, percent, table
from tmkt_train.report.overview import content, figures
from tmkt_train.report.pictures import confusion_map, confusion_matrix, strip, switch_step
from tmkt_train.report.rows import Bar, bar_chart
from tmkt_train.report.statistics import wilson_interval, worst_confusions
from tmkt_train.training.record import RunRecord

MOST_NUMBERED = 20
_NUM_WORST = 15
_EVENT_ROW = "Event frames of test samples over the time steps, ON events blue and OFF events red."
_MIXED_ROWS = (
    "Test samples over the time steps. From top to bottom: the image, its frames, the event frames (ON "
    "events blue, OFF events red), and the mixed sequence, which turns from image to event frames at t*."
)
_ROW_NAMES = ("image", "image frames", "event frames", "mixed")


def activity(run: RunRecord) -> Html | None:
    """Draw the firing rate of each layer, for event input and for image input."""
    names = run.diagnostics.get("firing_layer")
    kinds = [
        (kind, color, np.asarray(run.diagnostics[f"firing_rate_{kind}"], np.float64))
        for kind, color in (("events", "event"), ("images", "image"))
        if f"firing_rate_{kind}" in run.diagnostics
    ]
    if names is None or not kinds:
        return None
    rows = [
        (
            str(name),
            [Bar(float(rates[i]), color, decimal(float(rates[i]), 3) or "") for _, color, rates in kinds],
        )
        for i, name in enumerate(names)
    ]
    told = "; ".join(f"{name}: " + ", ".join(b.text for b in bars) for name, bars in rows)
    summary = f"Bar chart of the firing rate per layer for {' and '.join(k for k, _, _ in kinds)}. {told}."
    picture = bar_chart(rows, x_title="firing rate (spikes per neuron and step)", summary=summary)
    keys = joined(element("span", f"{kind[:-1]} input", class_=f"key {color}") for kind, color, _ in kinds)
    caption = joined(["Mean spikes per neuron and time step on some training samples, by spiking layer: ", keys])
    return content(figures(figure(picture, caption)))


def classes(run: RunRecord) -> Html | None:
    """Show which classes are found and which are confused."""
    stored = run.diagnostics.get("confusion")
    if stored is None or not len(stored) or not np.asarray(stored, np.int64).sum():
        return None
    counts, names = np.asarray(stored, np.int64), run.class_names
    worst = worst_confusions(counts, _NUM_WORST if len(counts) > MOST_NUMBERED else 5)
    summary = (
        f"Confusion matrix of {len(counts)} classes and {count(counts.sum())} test samples, "
        f"{percent(float(np.trace(counts) / counts.sum()))} on the diagonal"
        + "".join(f"; {names[t]} taken for {names[p]} {n} times" for t, p, n in worst[:5])
        + "."
    )
    return content(
        _numbered(counts, names, summary) if len(counts) <= MOST_NUMBERED else _mapped(counts, summary),
        _confusion_table(counts, names, worst) if len(counts) > MOST_NUMBERED else None,
        _class_table(counts, names) if len(counts) > MOST_NUMBERED else None,
    )


def _numbered(counts: NDArray[np.int64], names: list[str], summary: str) -> Html | None:
    matrix = figure(
        confusion_matrix(counts, names, summary=summary),
        _matrix_caption("Test samples by true and predicted class. "),
    )
    totals = counts.sum(axis=1)
    rows = []
    for i, name in enumerate(names):
        hits, total = int(counts[i, i]), int(totals[i])
        share = hits / total if total else math.nan
        interval = _percent_interval(hits, total)
        rows.append((name, [Bar(100 * share, "event", f"{hits} of {total}", interval)]))
    told = ", ".join(f"{n} {bars[0].text}" for n, bars in rows)
    bars = bar_chart(
        rows, x_title="accuracy (%)", summary=f"Bar chart of accuracy by class: {told}.", bounds=(0.0, 100.0)
    )
    return figures(matrix, figure(bars, "Accuracy by true class, with 95 % Wilson intervals."))


def _percent_interval(hits: int, total: int) -> tuple[float, float] | None:
    if not total:
        return None
    low, high = wilson_interval(hits, total)
    return 100 * low, 100 * high


def _matrix_caption(text: str) -> Html:
    hit, miss = element("span", "right", class_="key event"), element("span", "wrong", class_="key image")
    return joined([text, "Shade: share of the true class; ", hit, miss])


def _mapped(counts: NDArray[np.int64], summary: str) -> Html | None:
    picture = confusion_map(counts, summary=summary)
    matrix = figure(picture, _matrix_caption("Test samples by number of true and predicted class. "))
    totals = counts.sum(axis=1)
    shares = np.sort(100 * np.diag(counts)[totals > 0] / totals[totals > 0])
    places = ["" for _ in shares]
    for rank in (0, len(shares) // 2, len(shares) - 1):
        places[rank] = str(rank + 1)
    middle = float(np.median(shares))
    ranked = column_chart(
        shares.tolist(),
        places,
        x_title="classes, from worst to best",
        y_title="accuracy (%)",
        summary=f"Accuracy of {len(shares)} classes from worst to best: from {shares[0]:.0f} % "
        f"over a median of {middle:.0f} % to {shares[-1]:.0f} %.",
        bounds=(0.0, 100.0),
        gap=0.15,
    )
    none = int((shares == 0).sum())
    note = f"Accuracy by true class, sorted; median {middle:.1f} %, {none} of {len(shares)} classes at 0."
    return figures(matrix, figure(ranked, note))


def _confusion_table(counts: NDArray[np.int64], names: list[str], worst: list[tuple[int, int, int]]) -> Html | None:
    if not worst:
        return None
    totals = counts.sum(axis=1)
    rows = [(names[t], names[p], str(n), str(totals[t]), percent(n / totals[t], 1)) for t, p, n in worst]
    heads = ["true class", "predicted as", "samples", "of", "share"]
    return table(heads, rows, caption="Most frequent confusions", num_text_columns=2)


def _class_table(counts: NDArray[np.int64], names: list[str]) -> Html:
    totals, predicted, rows = counts.sum(axis=1), counts.sum(axis=0), []
    for i, name in enumerate(names):
        hits = int(counts[i, i])
        interval = _percent_interval(hits, int(totals[i]))
        rows.append(
            (
                name,
                str(i),
                str(hits),
                str(totals[i]),
                percent(hits / totals[i], 1) if totals[i] else None,
                f"{interval[0]:.0f}\u2013{interval[1]:.0f}" if interval else None,
                percent(hits / predicted[i], 1) if predicted[i] else None,
            )
        )
    heads = ["class", "number", "right", "of", "accuracy", "95 % interval (%)", "precision"]
    whole = table(heads, rows, caption="Accuracy by class")
    return element("details", element("summary", "Accuracy of every class"), whole)


def samples(run: RunRecord) -> Html | None:
    """Show what the network sees of some test samples, and what it says to them."""
    stored = run.diagnostics.get("strips")
    if stored is None or not stored.size:
        return None
    strips = np.asarray(stored, np.float32)
    shown = [_sample(run, strips, i) for i in range(len(strips))]
    lead = element("p", _MIXED_ROWS if strips.shape[1] == len(_ROW_NAMES) else _EVENT_ROW)
    return content(lead, figures(*shown))


def _sample(run: RunRecord, strips: NDArray[np.float32], index: int) -> Html:
    frames = strips[index]
    names: tuple[str, ...] = _ROW_NAMES if len(frames) == len(_ROW_NAMES) else ("event frames",)
    if len(names) != len(frames):
        names = tuple(f"row {i + 1}" for i in range(len(frames)))
    sample, true, said = (_entry(run, key, index) for key in ("strip_ids", "strip_labels", "strip_predictions"))
    pieces: list[str | None] = [element("strong", sample or f"sample {index + 1}")]
    if true is not None:
        pieces += [", class ", true]
    if said is not None:
        is_right = said == true
        verdict = f"predicted {said}" + ("" if is_right else " (wrong)")
        pieces += [", ", element("span", verdict, class_="right" if is_right else "wrong")]
    step = switch_step(frames) if len(frames) == len(_ROW_NAMES) else None
    if step is not None:
        pieces.append(f"; t* = {step}" if step <= frames.shape[1] else "; never switched")
    summary = f"{', '.join(names)} of {sample or 'a sample'} over {frames.shape[1]} time steps."
    return figure(strip(frames, names, summary=summary), joined(pieces))


def _entry(run: RunRecord, key: str, index: int) -> str | None:
    stored = run.diagnostics.get(key)
    return None if stored is None else str(stored[index])
