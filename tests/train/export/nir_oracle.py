"""NIR graphs computed from the definitions of its nodes alone, in numpy: forward Euler steps of dt."""

from __future__ import annotations

from graphlib import TopologicalSorter

import nir
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows(x, kernel, stride, padding):
    """Return windows (..., C, H', W', kH, kW) of (..., C, H, W)."""
    x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(size, size) for size in padding])
    return sliding_window_view(x, tuple(kernel), axis=(-2, -1))[..., :: stride[0], :: stride[1], :, :]


class Step:
    """One node at rest; a call computes one time step of all samples."""

    def __init__(self, node, dt, dtype):
        self.node, self.dt, self.dtype = node, dt, dtype
        self.v = None

    def __call__(self, x):
        node = self.node
        match node:
            case nir.Input() | nir.Output():
                return x
            case nir.Flatten():
                return x.reshape(len(x), -1)
            case nir.Affine():
                return x @ node.weight.astype(self.dtype).T + node.bias.astype(self.dtype)
            case nir.AvgPool2d():
                return windows(x, node.kernel_size, node.stride, node.padding).mean(axis=(-2, -1))
            case nir.Conv2d():
                found = windows(x, node.weight.shape[2:], node.stride, node.padding)
                result = np.tensordot(found, node.weight.astype(self.dtype), axes=([1, 4, 5], [1, 2, 3]))
                return np.moveaxis(result + node.bias.astype(self.dtype), -1, 1)
            case nir.LIF():
                return self.fire(x)
        raise AssertionError(node)

    def fire(self, x):
        node = self.node
        if self.v is None:
            self.v = np.broadcast_to(node.v_leak, x.shape).astype(self.dtype)
        v = self.v + (self.dt / node.tau).astype(self.dtype) * (node.v_leak - self.v + node.r * x).astype(self.dtype)
        spikes = v > node.v_threshold
        self.v = np.where(spikes, node.v_reset, v).astype(self.dtype)
        return spikes.astype(self.dtype)


def run(graph, frames, dt=1e-4, dtype=np.float64):
    """Return the output of a graph at each time step, and the spikes of its LIF nodes, from frames (T, B, C, H, W)."""
    before = {name: [source for source, target in graph.edges if target == name] for name in graph.nodes}
    steps = {name: Step(node, dt, dtype) for name, node in graph.nodes.items()}
    outputs = []
    spikes = {name: [] for name, node in graph.nodes.items() if isinstance(node, nir.LIF)}
    for frame in frames.astype(dtype):
        values = {}
        for name in TopologicalSorter(before).static_order():
            given = [values[source] for source in before[name]]
            values[name] = steps[name](sum(given) if given else frame)
            if name in spikes:
                spikes[name].append(values[name])
        outputs.append(values["output"])
    return np.array(outputs), {name: np.array(found) for name, found in spikes.items()}
