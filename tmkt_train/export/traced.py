"""A network as a graph of its layers: what each takes and gives, without calling the kernels."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from tmkt_train.errors import RunError
from tmkt_train.network.network import Body, SpikingNetwork
from tmkt_train.network.neurons import reset
from tmkt_train.network.resnet18 import PreActivationBlock
from tmkt_train.network.stages import Signal, Stage

_CONTAINERS = (Body, PreActivationBlock)


@dataclass(slots=True)
class Layer:
    """A step of the network, for one sample and one time step.

    Attributes:
        name: Its name in the network, unique; of a step that is no module, what it does.
        does: The module, or "flatten" or "average" of all pixels.
        inputs: Names of the layers whose outputs it takes the sum of; "input" for the frames.
        takes: Shape of its input, such as (C, H, W).
        gives: Shape of its output.
    """

    name: str
    does: nn.Module | str
    inputs: tuple[str, ...]
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    users: list[str] = field(default_factory=list)


class _Plain(nn.Module):
    """The event stream of a network, every layer called on its own."""

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        self.body, self.head = network.body, network.event_head

    def forward(self, frames: Tensor) -> Tensor:
        """Map (T, B, C, H, W) to (T, B, K)."""
        logits: Tensor = self.head(self.body(Signal(frames), _run))
        return logits


def _run(stage: Stage, signal: Signal) -> Signal:
    values = signal.values
    for layer in stage.layers():
        values = layer(values)
    return Signal(values)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - as fx calls it
        return not isinstance(m, _CONTAINERS)


def trace_layers(network: SpikingNetwork) -> list[Layer]:
    """Return the layers of the event stream in running order, the classifier last.

    Raises:
        RunError: A step between two layers is not one that is known here.
    """
    plain, shape = _Plain(network).eval(), network.frame_shape
    graph = _Tracer().trace(plain)
    traced = fx.GraphModule(plain, graph)
    frames = torch.zeros(shape.num_time_steps, 1, shape.num_channels, *shape.size)
    reset(network)
    with torch.no_grad():
        ShapeProp(traced).propagate(frames)
    reset(network)
    sources: dict[fx.Node, tuple[str, ...]] = {}
    layers: list[Layer] = []
    for node in graph.nodes:
        if node.op == "placeholder":
            sources[node] = ("input",)
        elif node.op == "output" or _is_scale(node):
            continue
        elif _passes(node):
            sources[node] = sources[node.args[0]]
        elif node.op == "call_function" and node.target is operator.add:
            sources[node] = sources[node.args[0]] + sources[node.args[1]]
        else:
            layer = _layer(node, plain, sources[node.args[0]])
            layers.append(layer)
            sources[node] = (layer.name,)
    return _with_users(layers)


def _is_scale(node: fx.Node) -> bool:
    """Return whether a node only reads a parameter or the dtype of one."""
    return node.op == "get_attr" or (node.op == "call_function" and node.target is getattr)


def _passes(node: fx.Node) -> bool:
    return (node.op == "call_module" and _is_identity(node)) or (node.op == "call_method" and node.target == "to")


def _is_identity(node: fx.Node) -> bool:
    return isinstance(node.graph.owning_module.get_submodule(str(node.target)), nn.Identity)  # type: ignore[union-attr]


def _layer(node: fx.Node, plain: nn.Module, inputs: tuple[str, ...]) -> Layer:
    takes, gives = (_shape_of(one) for one in (node.args[0], node))
    if node.op == "call_module":
        name = str(node.target)
        return Layer(name.removeprefix("body."), plain.get_submodule(name), inputs, takes, gives)
    if node.op == "call_method" and node.target == "flatten" and node.args[1:] == (2,):
        return Layer(node.name, "flatten", inputs, takes, gives)
    if node.op == "call_method" and node.target == "mean" and node.kwargs == {"dim": (-2, -1)}:
        return Layer(node.name, "average", inputs, takes, gives)
    raise RunError(f"{node.name}: found the step {node.target}, which is not one that can be exported")


def _shape_of(node: Any) -> tuple[int, ...]:
    # Without time steps and batch.
    return tuple(node.meta["tensor_meta"].shape[2:])


def _with_users(layers: Sequence[Layer]) -> list[Layer]:
    by_name = {layer.name: layer for layer in layers}
    for layer in layers:
        for name in layer.inputs:
            if name in by_name:
                by_name[name].users.append(layer.name)
    return list(layers)
