"""Figures on the network: firing rates, operations, similarity of both sides, features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_train.report.figures.axes import Axis
from tmkt_train.report.figures.bars import bar_chart
from tmkt_train.report.figures.drawing import About, Drawing
from tmkt_train.report.figures.maps import heat_map, scatter
from tmkt_train.report.numbers import decimal
from tmkt_train.training.record import RunRecord

_KEYS = {"event": "event input", "image": "image input"}


def firing_rates(run: RunRecord) -> Drawing | None:
    """Draw the firing rate of each layer, for event input and for image input."""
    names, stored = _layers(run), {side: _values(run, f"firing_rate_{side}s") for side in ("event", "image")}
    sides = {side: rates for side, rates in stored.items() if rates is not None}
    if not names or not sides:
        return None
    bars = {side: [(float(v), decimal(float(v), 3) or "") for v in rates] for side, rates in sides.items()}
    told = "; ".join(f"{name}: " + ", ".join(bars[side][i][1] for side in bars) for i, name in enumerate(names))
    summary = f"Bar chart of the firing rate per layer for {' and '.join(sides)} input. {told}."
    axis = Axis("firing rate (spikes per neuron and step)", low=0.0)
    return bar_chart(About("firing-rates", summary), names, bars, axis, keys={k: _KEYS[k] for k in sides})


def firing_steps(run: RunRecord) -> Drawing | None:
    """Draw the firing rate of each layer at each time step."""
    rates, names = _values(run, "firing_steps_events"), _layers(run)
    if rates is None or not names or not rates.size:
        return None
    summary = "Map of the firing rate per layer and time step for event input."
    return heat_map(About("firing-steps", summary), rates, names, max(float(rates.max()), 1e-6))


def operations(run: RunRecord) -> Drawing | None:
    """Draw the synaptic operations of each layer beside its multiply-accumulates without spikes."""
    names, stored = run.diagnostics.get("synapse_layer"), _values(run, "synapse_operations")
    macs = _values(run, "synapse_macs")
    if names is None or stored is None or macs is None or not len(names):
        return None
    sides = {"event": stored, "soft": macs}
    bars = {side: [(float(v) / 1e6, f"{v / 1e6:.3g}") for v in values] for side, values in sides.items()}
    layers = [str(name).removeprefix("body.") for name in names]
    axis = Axis("million operations per sample", low=0.0)
    keys = {"event": "synaptic operations", "soft": "without spikes"}
    return bar_chart(
        About("operations", "Bar chart of the synaptic operations of each layer."), layers, bars, axis, keys=keys
    )


def energy_uj(run: RunRecord) -> tuple[float, float] | None:
    """Return the estimated energy of the arithmetic for one recording in µJ, with and without spikes."""
    spiking, dense = _values(run, "synapse_energy_nj"), _values(run, "synapse_dense_energy_nj")
    if spiking is None or dense is None or not dense.sum():
        return None
    return float(spiking.sum()) / 1e3, float(dense.sum()) / 1e3


def similarity(run: RunRecord, *, is_shuffled: bool) -> Drawing | None:
    """Draw the CKA of images and recordings of a class, by layer and step."""
    aligned, shuffled = _values(run, "similarity"), _values(run, "similarity_floor")
    names = _layers(run)
    if aligned is None or shuffled is None or not names or not aligned.size:
        return None
    summary = "Map of the alignment of spikes per layer and step"
    if is_shuffled:
        return heat_map(About("similarity-shuffled", f"{summary}, shuffled pairs."), shuffled, names, 1.0, "extra")
    told = f"from {decimal(float(aligned.min()), 2)} to {decimal(float(aligned.max()), 2)}"
    return heat_map(About("similarity", f"{summary}, {told}."), aligned, names, 1.0)


def features(run: RunRecord) -> Drawing | None:
    """Draw the features of both sides on their first two principal components."""
    points, shares = _values(run, "embedding"), _values(run, "embedding_shares")
    is_event = run.diagnostics.get("embedding_is_event")
    if points is None or shares is None or is_event is None or points.shape[1] != 2 or len(shares) != 2:
        return None
    event = np.asarray(is_event, bool)
    titles = [f"component {k + 1}, {100 * float(shares[k]):.0f} % of the variance" for k in (0, 1)]
    summary = "Scatter plot of the features of recordings and images on two principal components."
    return scatter(About("features", summary), {"event": points[event], "image": points[~event]}, titles, _KEYS)


def _values(run: RunRecord, name: str) -> NDArray[np.float64] | None:
    stored = run.diagnostics.get(name)
    return None if stored is None else np.asarray(stored, np.float64)


def _layers(run: RunRecord) -> list[str]:
    return [str(name) for name in run.diagnostics.get("firing_layer", ())]
