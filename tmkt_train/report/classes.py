"""Confusion matrix, accuracies by class, and test samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_train.report.figures.axes import Axis
from tmkt_train.report.figures.bars import bar_chart, column_chart
from tmkt_train.report.figures.drawing import About, Drawing
from tmkt_train.report.figures.maps import MOST_NUMBERED, confusion_map, strip
from tmkt_train.report.numbers import count, percent
from tmkt_train.report.statistics import wilson_interval
from tmkt_train.training.record import RunRecord

_NUM_WORST = 15
ROW_NAMES = ("image", "image frames", "event frames", "mixed")

Counts = NDArray[np.int64]


def confusion_counts(run: RunRecord) -> Counts | None:
    """Return the confusion matrix; None if it is missing or empty."""
    counts = np.asarray(run.diagnostics.get("confusion", ()), np.int64)
    return counts if counts.sum() else None


def confusion(counts: Counts, names: list[str]) -> Drawing:
    """Draw the confusion matrix."""
    worst = "".join(f"; {names[t]} taken for {names[p]} {n} times" for t, p, n in worst_confusions(counts, 5))
    right = percent(float(np.trace(counts) / counts.sum()))
    about = f"Confusion matrix of {len(counts)} classes and {count(counts.sum())} samples"
    return confusion_map(About("confusion", f"{about}, {right} on the diagonal{worst}."), counts, names)


def worst_confusions(counts: Counts, limit: int = _NUM_WORST) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions as (true, predicted, count), in descending order; ties in class order."""
    errors = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-errors, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(i), len(counts)) for i in order]
    return [(true, predicted, int(errors[true, predicted])) for true, predicted in pairs if errors[true, predicted]]


def class_accuracy(counts: Counts, names: list[str]) -> Drawing:
    """Draw the accuracy of each class with its interval; many classes are sorted by accuracy instead."""
    hits, totals = np.diag(counts).tolist(), counts.sum(axis=1).tolist()
    if len(counts) <= MOST_NUMBERED:
        bars = [(100 * h / n if n else math.nan, f"{h} of {n}") for h, n in zip(hits, totals, strict=True)]
        intervals = [percent_interval(h, n) if n else None for h, n in zip(hits, totals, strict=True)]
        told = ", ".join(f"{name} {text}" for name, (_, text) in zip(names, bars, strict=True))
        about = About("class-accuracy", f"Bar chart of accuracy by class: {told}.")
        return bar_chart(about, names, {"event": bars}, Axis("accuracy (%)", 0.0, 100.0), intervals)
    shares = sorted(100 * h / n for h, n in zip(hits, totals, strict=True) if n)
    ticks = {k: str(k + 1) for k in (0, len(shares) // 2, len(shares) - 1)}
    note = f"Median {np.median(shares):.1f} %, {shares.count(0)} of {len(shares)} classes at 0."
    summary = f"Accuracy of {len(shares)} classes from worst to best: {shares[0]:.0f} to {shares[-1]:.0f} %. {note}"
    x_axis = Axis("classes, from worst to best", -0.5, len(shares) - 0.5, ticks)
    return column_chart(About("class-accuracy", summary, note), shares, x_axis, Axis("accuracy (%)", 0.0, 100.0))


def percent_interval(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of an accuracy, in percent."""
    low, high = wilson_interval(hits, total)
    return 100 * low, 100 * high


class Sample(NamedTuple):
    """A test sample: frames, id, class, prediction, and t* of its mixed row (T + 1 for "never").

    None means unknown.
    """

    drawing: Drawing
    id: str | None
    label: str | None
    prediction: str | None
    switch: int | None
    num_time_steps: int
    is_mixed: bool


def samples(run: RunRecord) -> list[Sample]:
    """Return the stored test samples."""
    found = []
    for index, frames in enumerate(np.asarray(run.diagnostics.get("strips", ()), np.float32)):
        if not frames.size:
            continue
        is_mixed = len(frames) == len(ROW_NAMES)
        names = ROW_NAMES if is_mixed else [f"row {i + 1}" for i in range(len(frames))]
        names = names if len(frames) > 1 else ["event frames"]
        known = [run.diagnostics.get(f"strip_{key}") for key in ("ids", "labels", "predictions")]
        sample, label, prediction = (None if values is None else str(values[index]) for values in known)
        summary = f"{', '.join(names)} of {sample or 'a sample'} over {frames.shape[1]} time steps."
        drawing = strip(About(f"sample-{index + 1}", summary), frames, names)
        switch = switch_step(frames) if is_mixed else None
        found.append(Sample(drawing, sample, label, prediction, switch, frames.shape[1], is_mixed))
    return found


def switch_step(frames: NDArray[np.float32]) -> int | None:
    """Find t*, the first step (from 1) at which the mixed row shows the event frame.

    Args:
        frames: Shape (4, T, H, W, 3); rows: image, image frames, event frames, mixed sequence.

    Returns:
        t*; T + 1 if there is no such step; None if it is ambiguous, because a mixed frame equals both or neither.
    """
    of_image = np.abs(frames[3] - frames[1]).max(axis=(1, 2, 3)) < 1e-3
    of_events = np.abs(frames[3] - frames[2]).max(axis=(1, 2, 3)) < 1e-3
    if (of_image == of_events).any():
        return None
    first = int(of_events.argmax()) if of_events.any() else len(of_events)
    return first + 1 if of_events[first:].all() else None
