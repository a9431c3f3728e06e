"""Figures on time-step mixup: mix ratio, replacement points, auxiliary objectives."""

from __future__ import annotations

import functools
import math
from typing import get_args

import numpy as np

from tmkt_data.errors import SpecError
from tmkt_train.choices import MixDistribution
from tmkt_train.method.mixing import replacement_probability
from tmkt_train.report.figures.axes import Axis, finite
from tmkt_train.report.figures.bars import column_chart
from tmkt_train.report.figures.drawing import About, Drawing
from tmkt_train.report.figures.lines import Line
from tmkt_train.report.numbers import count
from tmkt_train.report.overview import curves, epochs_of
from tmkt_train.report.statistics import (
    Float64Array,
    best_modality_guess,
    best_ratio_error,
    chi_square,
    point_distribution,
)
from tmkt_train.training.record import RunRecord


def mix_ratio(run: RunRecord) -> Drawing | None:
    """Draw the planned and the realized mix ratio over epochs, with the standard deviation over sequences."""
    x, band = epochs_of(run), run.column("realised_ratio_sd")
    realized = Line("realized", x, run.column("realised_ratio"), "mixed", band=band if finite(band) else None)
    planned = Line("planned", x, run.column("mix_ratio"), "ink", "--")
    return curves("mix-ratio", [realized, planned], Axis("share of event steps", 0.0, 1.0))


def point_histogram(run: RunRecord) -> Drawing | None:
    """Draw the distribution of t* in the last epoch, beside the expected one if the method mixes by TSM alone."""
    stored = run.diagnostics.get("replacement_histogram")
    if stored is None or len(stored) < 2 or not np.asarray(stored, np.float64).sum():
        return None
    counts, names = np.asarray(stored, np.float64), [*map(str, range(1, len(stored))), "never"]
    told = ", ".join(f"{name}: {count(value)}" for name, value in zip(names, counts, strict=True))
    summary = f"Histogram of the first event step over {count(counts.sum())} sequences: {told}."
    expected, note = [], ""
    distribution = next((d for d in reversed(_distributions(run)) if d is not None), None)
    if distribution is not None:
        mean = counts.sum() * distribution
        sd = np.sqrt(mean * (1 - distribution))
        expected = list(zip(mean.tolist(), sd.tolist(), strict=True))
        note = "Ticks: expected at the planned ratio, with two standard deviations."
        if test := chi_square(counts, mean):
            note += f" χ²\u00a0=\u00a0{test[0]:.1f} with {test[1]} degrees of freedom, p\u00a0=\u00a0{test[2]:.2g}."
    steps = Axis("first event step t*", -0.5, len(counts) - 0.5, dict(enumerate(names)))
    about = About("replacement-points", summary, note)
    return column_chart(about, counts.tolist(), steps, Axis("sequences", low=0.0), "mixed", expected)


def _distributions(run: RunRecord) -> list[Float64Array | None]:
    """Return the expected distribution of t* in each epoch, shape (T + 1,); None without TSM alone."""
    stored, steps = run.diagnostics.get("replacement_histogram", ()), run.text("time_bins") or ""
    num_time_steps = len(stored) - 1 if len(stored) > 1 else int(steps) if steps.isdecimal() else 0
    if run.method != "tmkt" or not num_time_steps:
        return [None] * len(run.epochs)
    name = run.text("law") or "sequential"
    return [_distribution(ratio, num_time_steps, name) for ratio in run.column("mix_ratio")]


@functools.lru_cache(maxsize=1024)
def _distribution(ratio: float, num_time_steps: int, name: str) -> Float64Array | None:
    sequential, renormalised = get_args(MixDistribution)
    law: MixDistribution = sequential if name == sequential else renormalised
    try:
        probability = replacement_probability(ratio, num_time_steps, law)
    except SpecError:
        return None
    return point_distribution(probability, num_time_steps, renormalised=law == renormalised)


def modality(run: RunRecord) -> Drawing | None:
    """Draw the modality accuracy beside two chance levels."""
    x = epochs_of(run)
    frequent = [100 * max(ratio, 1 - ratio) for ratio in run.column("realised_ratio")]
    by_step = [math.nan if d is None else 100 * best_modality_guess(d) for d in _distributions(run)]
    lines = [
        Line("head", x, [100 * v for v in run.column("modality_accuracy")], "mixed"),
        Line("frequent kind", x, frequent, "soft", ":"),
        Line("step number", x, by_step, "ink", "--"),
    ]
    return curves("modality", lines, Axis("modality accuracy (%)", high=100.0)) if _has_heads(run) else None


def ratio_error(run: RunRecord) -> Drawing | None:
    """Draw the error of the predicted mix ratio beside that of the best constant."""
    x = epochs_of(run)
    constant = [math.nan if d is None else best_ratio_error(d) for d in _distributions(run)]
    lines = [Line("head", x, run.column("ratio_error"), "mixed"), Line("constant", x, constant, "ink", "--")]
    return curves("ratio-error", lines, Axis("ratio error", low=0.0)) if _has_heads(run) else None


def _has_heads(run: RunRecord) -> bool:
    return bool(finite(run.column("modality_accuracy")) or finite(run.column("ratio_error")))


def alignment(run: RunRecord) -> Drawing | None:
    """Draw the CKA of the two streams, for the pairs of the batch and for shuffled pairs."""
    x, own = epochs_of(run), run.column("cka")
    shuffled = Line("shuffled pairs", x, run.column("cka_shuffled"), "soft", "--")
    return curves("cka", [Line("own pairs", x, own, "event"), shuffled], Axis("CKA", high=1.0)) if finite(own) else None


def coefficients(run: RunRecord) -> Drawing | None:
    """Draw the learned weight of alignment at the first, a middle and the last time step."""
    by_epoch = [e.get("coefficients") for e in run.epochs]
    rows = [c if isinstance(c, list) and c and all(isinstance(v, float) for v in c) else None for c in by_epoch]
    num_time_steps = min((len(row) for row in rows if row), default=0)
    shown = sorted({0, num_time_steps // 2, num_time_steps - 1}) if num_time_steps else []
    x, looks = epochs_of(run), (("event", "-"), ("extra", "--"), ("image", ":"))
    lines = [
        Line(f"step {step + 1}", x, [row[step] if row else math.nan for row in rows], *look)
        for step, look in zip(shown, looks, strict=False)
    ]
    return curves("coefficients", lines, Axis("share of alignment"))
