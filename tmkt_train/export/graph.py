"""A trained network as a graph of the Neuromorphic Intermediate Representation (NIR); the only module that imports nir.

A time step has dt = 1e-4 s, which importers assume unless told otherwise (snntorch always): a LIF neuron of the
network, h = v + (x - v) / tau with tau in steps, is NIR's tau_nir dv/dt = (v_leak - v) + R I in a forward Euler step of
dt with tau_nir = tau dt, R = 1, v_leak = v_reset. NIR fires where v > v_threshold and sets v to v_reset, as the network
does.

Source: Pedersen et al., Nature Communications 2024; https://neuroir.org
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tmkt_data.files import write_bytes
from tmkt_train.errors import MissingPackageError, RunError
from tmkt_train.export.traced import Layer, trace_layers
from tmkt_train.network.batch_norm import StreamBatchNorm2d
from tmkt_train.network.network import Network, SpikingNetwork
from tmkt_train.network.neurons import lif_constants
from tmkt_train.training.result import load_selected, read_finished
from tmkt_train.training.trained import facts_of, frame_facts

if TYPE_CHECKING:
    import nir

STEP_S = 1e-4
"""Duration dt of a time step in the units of NIR; not that of a time bin of the recordings."""
_Array = NDArray[np.float32]
_Double = NDArray[np.float64]


def export_graph(run: str | Path, out: str | Path) -> int:
    """Export the event stream of a finished run as a NIR file: frames in, logits of each time step out.

    Batch norm, with the running statistics that evaluation uses, is folded into the convolution before it, in float64.
    Where a sum of several layers comes before it, it is a 1 x 1 convolution. Scaling of the counts, mean over the time
    steps and softmax are not in the graph; its metadata name them.

    Args:
        run: Folder of the run.
        out: File to write.

    Returns:
        The number of nodes.

    Raises:
        RunError: The run is not finished or damaged, has a network of other code, or the file cannot be written.
        MissingPackageError: nir is not installed.
    """
    require_nir()
    import nir

    finished = read_finished(Path(run))
    names, spec, _ = facts_of(finished)
    network = load_selected(finished, frame_facts(spec, len(names)), torch.device("cpu"))
    metadata = {
        "tmkt": version("tmkt"),
        "recipe": finished.recipe.name,
        "dataset": finished.recipe.data.dataset,
        "dt": STEP_S,
        "num_time_steps": spec.time_bins,
        "event_scale": finished.recipe.data.event_scale,
        "readout": "softmax of the mean over the time steps",
        "class_names": "\n".join(names),
    }
    graph = network_graph(network, metadata)
    # In memory first: HDF5 may abort the process when the disk is full.
    buffer = io.BytesIO()
    nir.write(buffer, graph)
    write_bytes(Path(out), buffer.getbuffer(), error=RunError)
    return len(graph.nodes)


def require_nir() -> None:
    """Check that nir is there.

    Raises:
        MissingPackageError: It is not.
    """
    try:
        import nir  # noqa: F401
    except ImportError:
        raise MissingPackageError(
            "graph: found no nir, which writes the file; install it with: pip install 'tmkt[nir]'"
        ) from None


def network_graph(network: Network, metadata: Mapping[str, Any]) -> nir.NIRGraph:
    """Return the event stream of a network in evaluation mode as a NIR graph.

    Raises:
        RunError: A layer cannot be represented; says which and why.
    """
    import nir

    if not isinstance(network, SpikingNetwork):
        raise RunError(
            "network: found code from elsewhere, whose layers tmkt does not know; export its weights with the exporter "
            "of its framework, such as nirtorch or snntorch.export_to_nir"
        )
    layers = trace_layers(network)
    folded = _folded(layers)
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(layers[0].takes)})}
    edges: list[tuple[str, str]] = []
    ends = {"input": "input"}
    for layer in layers:
        if layer.name in folded.values():
            ends[layer.name] = ends[layer.inputs[0]]
            continue
        norm = next((other for other in layers if other.name == folded.get(layer.name)), None)
        chain = _nodes(layer, norm)
        names = [_name(layer.name), *(f"{_name(layer.name)}_{number}" for number in range(1, len(chain)))]
        edges += [(ends[source], names[0]) for source in layer.inputs]
        edges += list(pairwise(names))
        nodes |= dict(zip(names, chain, strict=True))
        ends[layer.name] = names[-1]
    nodes["output"] = nir.Output({"output": np.array(layers[-1].gives)})
    edges.append((ends[layers[-1].name], "output"))
    return nir.NIRGraph(nodes, edges, dict(metadata))


def _name(name: str) -> str:
    # Importers make attributes of the names.
    return name.replace(".", "_")


def _folded(layers: Sequence[Layer]) -> dict[str, str]:
    """Return the norms that are folded, by the convolution that takes them up: its output goes nowhere else."""
    by_name = {layer.name: layer for layer in layers}
    folded = {}
    for layer in layers:
        before = by_name.get(layer.inputs[0]) if len(layer.inputs) == 1 else None
        is_behind = before is not None and isinstance(before.does, nn.Conv2d) and before.users == [layer.name]
        if before is not None and is_behind and isinstance(layer.does, StreamBatchNorm2d):
            folded[before.name] = layer.name
    return folded


def _nodes(layer: Layer, norm: Layer | None) -> list[nir.NIRNode]:
    """Return what stands for a layer, one behind the other."""
    import nir

    does = layer.does
    if does == "flatten":
        return [nir.Flatten({"input": np.array(layer.takes)}, 0, -1)]
    if does == "average":
        size = np.array(layer.takes[1:])
        pooled = np.array([layer.takes[0], 1, 1])
        return [nir.AvgPool2d(size, size, np.zeros(2, int)), nir.Flatten({"input": pooled}, 0, -1)]
    if isinstance(does, nn.Conv2d):
        return [_convolution(layer, does, norm)]
    if isinstance(does, StreamBatchNorm2d):
        scale, shift = _affine(does)
        return [_conv2d(layer, np.diag(scale)[:, :, None, None], shift, (1, 1), (0, 0))]
    if isinstance(does, nn.Linear):
        return [nir.Affine(_numpy(does.weight), _numpy(does.bias))]
    if isinstance(does, nn.AvgPool2d):
        kernel, stride, padding = (np.array(_pair(size)) for size in (does.kernel_size, does.stride, does.padding))
        if not does.ceil_mode and does.divisor_override is None and not padding.any():
            return [nir.AvgPool2d(kernel, stride, padding)]
    return [_neurons(layer)]


def _neurons(layer: Layer) -> nir.LIF:
    import nir

    constants = lif_constants(layer.does)
    if constants is None:
        raise RunError(
            f"{layer.name}: found {type(layer.does).__name__}, which NIR has no exact node for; it has LIF neurons "
            "that are set to v_reset by a spike, 2-D convolution, average pooling and linear layers"
        )

    def each(value: float) -> _Double:
        # In float64, so that tau / dt is exact.
        return np.full(layer.takes, value)

    return nir.LIF(
        tau=each(constants.tau * STEP_S),
        r=each(constants.gain),
        v_leak=each(constants.v_reset),
        v_threshold=each(constants.threshold),
        v_reset=each(constants.v_reset),
    )


def _convolution(layer: Layer, module: nn.Conv2d, norm: Layer | None) -> nir.Conv2d:
    if isinstance(module.padding, str) or module.padding_mode != "zeros" or module.groups != 1:
        raise RunError(f"{layer.name}: found padding {module.padding} or groups, which are not exported")
    weight = module.weight.detach().double().numpy()
    bias = np.zeros(len(weight)) if module.bias is None else module.bias.detach().double().numpy()
    if norm is not None and isinstance(norm.does, StreamBatchNorm2d):
        scale, shift = _affine(norm.does)
        weight, bias = weight * scale[:, None, None, None], bias * scale + shift
    return _conv2d(layer, weight, bias, _pair(module.stride), _pair(module.padding))


def _conv2d(
    layer: Layer, weight: _Double, bias: _Double, stride: tuple[int, int], padding: tuple[int, int]
) -> nir.Conv2d:
    import nir

    return nir.Conv2d(
        input_shape=layer.takes[1:],
        weight=weight.astype(np.float32),
        stride=stride,
        padding=padding,
        dilation=(1, 1),
        groups=1,
        bias=bias.astype(np.float32),
    )


def _affine(norm: StreamBatchNorm2d) -> tuple[_Double, _Double]:
    """Return scale and shift of each channel, as a batch norm evaluates events."""
    mean, var = (value.double().numpy() for value in norm.running("event"))
    scale = norm.weight.detach().double().numpy() / np.sqrt(var + norm.eps)
    return scale, norm.bias.detach().double().numpy() - mean * scale


def _numpy(values: torch.Tensor) -> _Array:
    array: _Array = values.detach().float().numpy()
    return array


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
