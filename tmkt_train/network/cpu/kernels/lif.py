"""Leaky integrate-and-fire neurons after an affine map of their input, tau 2, hard reset to 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

Floats = NDArray[np.floating[Any]]


@kernel
def fire(
    values: Floats,
    scale: Floats,
    shift: Floats,
    threshold: float,
    start: int,
    state: Floats,
    spikes: Floats,
    potentials: Floats,
    first: int,
    last: int,
) -> None:
    """Run the neurons of some rows over all time steps, from rest.

    x = scale y + shift; h = v + (x - v) / 2; s = 1 where h >= threshold; v = h where s = 0, else 0.

    Args:
        values: Input y before the affine map, shape (T, P, C).
        scale: Shape (T, C).
        shift: Shape (T, C).
        threshold: Smallest membrane potential that fires.
        start: Row of `values` that is the first of `spikes`.
        state: Scratch, shape (R, C): rows that run at a time.
        spikes: Written: 0 or 1, shape (T, P', C).
        potentials: Written: v after reset, of the shape of `spikes`; or empty, (0, P', C), to write none.
        first: First row of `spikes`.
        last: Row to stop before.
    """
    num_time_steps, num_channels = values.shape[0], values.shape[2]
    kind = values.dtype.type
    half, one, none, least = kind(0.5), kind(1.0), kind(0.0), kind(threshold)
    keeps = potentials.shape[0] > 0
    for begin in range(first, last, state.shape[0]):
        end = min(begin + state.shape[0], last)
        state[:] = none
        for t in range(num_time_steps):
            for p in range(begin, end):
                source, v, out = values[t, start + p], state[p - begin], spikes[t, p]
                for c in range(num_channels):
                    h = v[c] + (source[c] * scale[t, c] + shift[t, c] - v[c]) * half
                    fires = h >= least
                    out[c] = one if fires else none
                    v[c] = none if fires else h
                if keeps:
                    kept = potentials[t, p]
                    for c in range(num_channels):
                        kept[c] = v[c]


@kernel
def fire_gradient(
    values: Floats,
    scale: Floats,
    shift: Floats,
    mean: Floats,
    threshold: float,
    is_triangle: bool,
    charges: Floats,
    later: Floats,
    potentials: Floats,
    grad: Floats,
    sums: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    """Turn the gradient of spikes into that of the output of the affine map, and sum what the map's own gradient needs.

    The charges h are recomputed from the input. With z = h - threshold, the surrogate g'(z) and s as in `fire`:
    dh_t = g_t g'(z_t) + (gv_t + dh_{t+1} / 2) (1 - s_t), and dx_t = dh_t / 2.

    Args:
        values: Input y before the affine map, shape (T, P, C).
        scale: Shape (T, C).
        shift: Shape (T, C).
        mean: Subtracted from y in the second sum, shape (T, C).
        threshold: Smallest membrane potential that fires.
        is_triangle: Surrogate max(0, 2 - 4 |z|); else 1 where |z| < 0.5.
        charges: Scratch, shape (T, R, C): rows that run at a time.
        later: Scratch, shape (R, C).
        potentials: Gradient of the potentials after reset, shape (T, P, C), or (0, P, C) for none.
        grad: Changed: gradient of the spikes into that of x, shape (T, P, C).
        sums: Accumulated: sums of dx and of dx (y - mean) over the rows, shape (2, T, C).
        first: First row.
        last: Row to stop before.

    Source:
        He et al., AAAI 2024; the surrogate lies at the threshold, as in spikingjelly.
    """
    num_time_steps, num_channels = values.shape[0], values.shape[2]
    kind = values.dtype.type
    half, one, none, least = kind(0.5), kind(1.0), kind(0.0), kind(threshold)
    height, steepness = kind(2.0), kind(4.0)
    has_potentials = potentials.shape[0] > 0
    for begin in range(first, last, later.shape[0]):
        end = min(begin + later.shape[0], last)
        later[:] = none
        for t in range(num_time_steps):
            for p in range(begin, end):
                source, v, charge = values[t, p], later[p - begin], charges[t, p - begin]
                for c in range(num_channels):
                    h = v[c] + (source[c] * scale[t, c] + shift[t, c] - v[c]) * half
                    charge[c] = h
                    v[c] = none if h >= least else h
        later[:] = none
        for t in range(num_time_steps - 1, -1, -1):
            for p in range(begin, end):
                g, d, charge = grad[t, p], later[p - begin], charges[t, p - begin]
                if has_potentials:
                    direct = potentials[t, p]
                    for c in range(num_channels):
                        d[c] += direct[c]
                if is_triangle:
                    for c in range(num_channels):
                        slope = height - steepness * abs(charge[c] - least)
                        slope = slope if slope > none else none
                        carried = none if charge[c] >= least else d[c]
                        d[c] = (g[c] * slope + carried) * half
                        g[c] = d[c]
                else:
                    for c in range(num_channels):
                        slope = one if abs(charge[c] - least) < half else none
                        carried = none if charge[c] >= least else d[c]
                        d[c] = (g[c] * slope + carried) * half
                        g[c] = d[c]
                for c in range(num_channels):
                    sums[0, t, c] += g[c]
                source = values[t, p]
                for c in range(num_channels):
                    sums[1, t, c] += g[c] * (source[c] - mean[t, c])
