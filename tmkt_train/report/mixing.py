"""The sections on time-step mixup: mix ratio, replacement points, what the auxiliary objectives reach."""

from __future__ import annotations

import functools
import math
from typing import get_args

import numpy as np

from tmkt_data.errors import SpecError
from tmkt_train.choices import MixDistribution
from tmkt_train.method.mixing import replacement_probability
from tmkt_train.report.axis import finite
from tmkt_train.report.charts import Series, column_chart
from tmkt_train.report.html import Html, count, figure
from tmkt_train.report.overview import content, curve_figure, epochs_of, figures
from tmkt_train.report.statistics import (
    Float64Array,
    best_modality_guess,
    chi_square,
    point_law,
    ratio_spread,
)
from tmkt_train.training.record import RunRecord

_METHODS_OF_THE_LAW = ("tmkt", "tsm")


def mix_schedule(run: RunRecord) -> Html | None:
    """Draw the mix ratio over epochs and the replacement points against their law."""
    realised = run.column("realised_ratio")
    planned = run.column("mix_ratio")
    if finite(planned) and not finite(realised):
        stored = [float(v) for v in np.asarray(run.diagnostics.get("ratio_history", ()), np.float64)]
        realised = stored if len(stored) == len(realised) else realised
    spread = run.column("realised_ratio_sd")
    ratio = curve_figure(
        epochs_of(run),
        [
            Series("realised", realised, "mixed", spread=spread if finite(spread) else None),
            Series("planned", planned, "ink", "dashed"),
        ],
        "share of event steps",
        "Mix ratio: planned by the schedule, and realised in the batches (mean over sequences"
        + ("; the band is one standard deviation to each side)." if finite(spread) else ")."),
        bounds=(0.0, 1.0),
    )
    return content(figures(ratio, _points(run)))


def _points(run: RunRecord) -> Html | None:
    stored = run.diagnostics.get("replacement_histogram")
    if stored is None or len(stored) < 2 or not np.asarray(stored, np.float64).sum():
        return None
    counts = np.asarray(stored, np.float64)
    names = [*(str(t) for t in range(1, len(counts))), "never"]
    law = next((law for law in reversed(laws(run, len(counts) - 1)) if law is not None), None)
    expected, caption = None, "How often each time step was the first event step t* in the last epoch."
    if law is not None:
        mean = law * counts.sum()
        expected = list(zip(mean.tolist(), np.sqrt(mean * (1 - law)).tolist(), strict=True))
        caption += " Ticks: what the law expects for the planned ratio, with two standard deviations."
        if test := chi_square(counts, mean):
            caption += f" Chi-square {test[0]:.1f} on {test[1]} degrees of freedom."
    picture = column_chart(
        counts.tolist(),
        names,
        x_title="first event step t*",
        y_title="sequences",
        summary=f"Histogram of the first event step over {count(counts.sum())} sequences: "
        + ", ".join(f"{n}: {count(c)}" for n, c in zip(names, counts.tolist(), strict=True)),
        color="mixed",
        expected=expected,
    )
    return figure(picture, caption)


def laws(run: RunRecord, num_steps: int) -> list[Float64Array | None]:
    """Give the law of the replacement point for each epoch.

    Args:
        run: The run; its method must mix by the law alone.
        num_steps: T.

    Returns:
        Probabilities, shape (T + 1,), one per epoch; None for an epoch that has no such law.
    """
    if run.method not in _METHODS_OF_THE_LAW:
        return [None] * len(run.epochs)
    name = run.text("law") or "sequential"
    return [_law(ratio, num_steps, name) for ratio in run.column("mix_ratio")]


@functools.lru_cache(maxsize=1024)
def _law(ratio: float, num_steps: int, name: str) -> Float64Array | None:
    sequential, renormalised = get_args(MixDistribution)
    law: MixDistribution = sequential if name == sequential else renormalised
    try:
        probability = replacement_probability(ratio, num_steps, law)
    except SpecError:
        return None
    return point_law(probability, num_steps, renormalised=law == renormalised)


def guidance(run: RunRecord) -> Html | None:
    """Draw what the auxiliary objectives reach, each beside what knowing nothing would reach."""
    x = epochs_of(run)
    modality = curve_figure(
        x,
        [Series("head", [100 * v for v in run.column("modality_accuracy")], "mixed"), *_modality_chance(run)],
        "modality accuracy (%)",
        "Telling image frames from event frames. Chance levels: always the more frequent kind, and the best "
        "guess from the step number alone.",
        bounds=(None, 100.0),
    )
    ratio = curve_figure(
        x,
        [Series("head", run.column("ratio_error"), "mixed"), _ratio_chance(run)],
        "ratio error",
        "Mean absolute error of the predicted mix ratio. Chance level: the best constant guess.",
        bounds=(0.0, None),
    )
    own, shuffled = run.column("cka"), run.column("cka_shuffled")
    alignment = curve_figure(
        x,
        [Series("own pairs", own, "event"), Series("shuffled pairs", shuffled, "soft", "dashed")],
        "CKA",
        "Alignment of membrane potentials between the two streams, for the pairs of the batch and for "
        "shuffled pairs. Only what lies above the shuffled line is alignment.",
        bounds=(None, 1.0),
    )
    has_heads = finite(run.column("modality_accuracy")) or finite(run.column("ratio_error"))
    parts = (modality, ratio) if has_heads else (None, None)
    return content(figures(*parts, alignment if finite(own) else None, _coefficients(run)))


def _coefficients(run: RunRecord) -> Html | None:
    """Draw the learned share of alignment for the first, a middle and the last time step."""
    by_epoch = [e.get("coefficients") for e in run.epochs]
    rows = [
        row if isinstance(row, list) and row and all(isinstance(v, float) for v in row) else None for row in by_epoch
    ]
    num_steps = min((len(row) for row in rows if row), default=0)
    shown = sorted({0, num_steps // 2, num_steps - 1}) if num_steps else []
    styles = (("event", None), ("extra", "dashed"), ("image", "dotted"))
    lines = [
        Series(f"step {step + 1}", [row[step] if row else math.nan for row in rows], color, dash)
        for step, (color, dash) in zip(shown, styles, strict=False)
    ]
    caption = "Learned share of alignment, against classification of events, for some time steps."
    return curve_figure(epochs_of(run), lines, "share of alignment", caption)


def _modality_chance(run: RunRecord) -> list[Series]:
    realised = run.column("realised_ratio")
    frequent = Series("frequent kind", [100 * max(r, 1 - r) for r in realised], "soft", "dotted")
    by_step = [math.nan if law is None else 100 * best_modality_guess(law) for law in _epoch_laws(run)]
    return [frequent, Series("step number", by_step, "ink", "dashed")]


def _ratio_chance(run: RunRecord) -> Series:
    errors = [math.nan if law is None else ratio_spread(law) for law in _epoch_laws(run)]
    return Series("constant", errors, "ink", "dashed")


def _epoch_laws(run: RunRecord) -> list[Float64Array | None]:
    num_steps = _num_steps(run)
    return laws(run, num_steps) if num_steps else [None] * len(run.epochs)


def _num_steps(run: RunRecord) -> int | None:
    stored = run.diagnostics.get("replacement_histogram")
    if stored is not None and len(stored) > 1:
        return len(stored) - 1
    steps = run.text("time_bins")
    return int(steps) if steps and steps.isdecimal() and int(steps) > 0 else None
