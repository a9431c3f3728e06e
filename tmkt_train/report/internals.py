"""The sections that look into the network: activity, cost, likeness of both sides, features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_train.report.html import Html, decimal, element, figure, joined
from tmkt_train.report.maps import heat_map, scatter
from tmkt_train.report.overview import content, figures
from tmkt_train.report.rows import Bar, bar_chart
from tmkt_train.training.record import RunRecord

_SAMPLES = "on training samples, without augmentation"


def cost(run: RunRecord) -> Html | None:
    """Draw firing over the steps, and the synaptic operations of each layer with the usual estimate of energy."""
    return content(figures(_steps(run), _operations(run)), _energy(run))


def similarity(run: RunRecord) -> Html | None:
    """Draw how alike images and recordings of a class are, layer by layer and step by step."""
    aligned, floor = _values(run, "similarity"), _values(run, "similarity_floor")
    names = run.diagnostics.get("firing_layer")
    if aligned is None or floor is None or names is None or not aligned.size:
        return None
    told = f"from {decimal(float(aligned.min()), 2)} to {decimal(float(aligned.max()), 2)}"
    pair = f"Linear CKA between the spikes for an image and for a recording of its class, {_SAMPLES}."
    moved = "The same for rows moved on by one: the floor to read it against."
    rows = [str(name) for name in names]
    maps = [
        figure(
            heat_map(
                values,
                rows,
                x_title="time step",
                high=1.0,
                color=color,
                summary=f"Map of the alignment of spikes per layer and step, {kind}.",
            ),
            caption,
        )
        for values, color, kind, caption in (
            (aligned, "event", told, pair),
            (floor, "extra", "rows that do not belong together", moved),
        )
    ]
    return content(figures(*maps))


def features(run: RunRecord) -> Html | None:
    """Draw the features of both sides on their principal components."""
    points, shares = _values(run, "embedding"), _values(run, "embedding_shares")
    is_event = run.diagnostics.get("embedding_is_event")
    if points is None or shares is None or is_event is None or points.shape[1] != 2 or len(shares) != 2:
        return None
    event = np.asarray(is_event, bool)
    titles = [f"component {k + 1}, {100 * float(shares[k]):.0f} % of the variance" for k in (0, 1)]
    picture = scatter(
        [("event", points[event]), ("image", points[~event])],
        x_title=titles[0],
        y_title=titles[1],
        summary="Cloud of the features of recordings and images on two principal components.",
    )
    keys = joined(
        element("span", f"{name} input", class_=f"key {color}")
        for name, color in (("event", "event"), ("image", "image"))
    )
    caption = joined([f"Features before the head, averaged over the steps, {_SAMPLES}: ", keys])
    return content(figures(figure(picture, caption)))


def _steps(run: RunRecord) -> Html | None:
    rates, names = _values(run, "firing_steps_events"), run.diagnostics.get("firing_layer")
    if rates is None or names is None or not rates.size:
        return None
    picture = heat_map(
        rates,
        [str(name) for name in names],
        x_title="time step",
        high=max(float(rates.max()), 1e-6),
        summary="Map of the firing rate per layer and time step for event input.",
    )
    return figure(picture, f"Spikes per neuron at each time step for event input, {_SAMPLES}.")


def _operations(run: RunRecord) -> Html | None:
    names, operations = run.diagnostics.get("synapse_layer"), _values(run, "synapse_operations")
    macs = _values(run, "synapse_macs")
    if names is None or operations is None or macs is None:
        return None
    rows = [
        (
            _short(str(name)),
            [
                Bar(float(operations[i]) / 1e6, "event", f"{operations[i] / 1e6:.3g}"),
                Bar(float(macs[i]) / 1e6, "soft", f"{macs[i] / 1e6:.3g}"),
            ],
        )
        for i, name in enumerate(names)
    ]
    picture = bar_chart(rows, x_title="million operations a sample", summary="Synaptic operations of each layer.")
    keys = joined(
        element("span", text, class_=f"key {color}")
        for text, color in (("synaptic operations", "event"), ("without spikes", "soft"))
    )
    return figure(picture, joined(["Operations for one recording over all time steps, by layer: ", keys]))


def _energy(run: RunRecord) -> Html | None:
    spiking, dense = _values(run, "synapse_energy_nj"), _values(run, "synapse_dense_energy_nj")
    if spiking is None or dense is None or not dense.sum():
        return None
    total, without = float(spiking.sum()) / 1e3, float(dense.sum()) / 1e3
    return element(
        "p",
        f"Estimate of the arithmetic for one recording: {total:.3g} µJ, against {without:.3g} µJ for the same network "
        f"with real values at every step ({100 * total / without:.1f} %). 0.9 pJ an accumulate, 4.6 pJ a "
        "multiply-accumulate (Horowitz, ISSCC 2014, 45 nm); memory is left out, averages of spikes count as spikes.",
    )


def _values(run: RunRecord, name: str) -> NDArray[np.float64] | None:
    stored = run.diagnostics.get(name)
    return None if stored is None else np.asarray(stored, np.float64)


def _short(name: str) -> str:
    return name.removeprefix("body.")
