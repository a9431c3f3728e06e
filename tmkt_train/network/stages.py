"""How the layers of a network run: several in one go where that can be done, else one after the other.

In one go: batch norm, neurons, pooling and convolution, on a CPU in float32 or float64. A layer that someone watches by
a hook runs by itself, and so does everything on other devices.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from tmkt_train.network.cpu import fused
from tmkt_train.network.neurons import (
    StreamBatchNorm2d,
    at_rest,
    is_average_pooling,
    is_neurons,
    is_plain_convolution,
    keeps_membrane,
    store_membrane,
    surrogate_of,
)

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_KINDS = (torch.float32, torch.float64)


class _Group(NamedTuple):
    """Layers of a stack that may run in one go, and how many of the stack they are."""

    norm: nn.Module
    neurons: nn.Module
    pooling: nn.Module | None
    conv: nn.Conv2d | None
    length: int


def run_layers(layers: nn.Sequential, values: Tensor) -> Tensor:
    """Return what a stack of layers makes of values (T, B, ...), its neurons being at rest."""
    modules = list(layers)
    if _on_cpu(values) and values.ndim == 5:
        # The first convolution then gives what the fused layers take.
        values = values.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    at = 0
    while at < len(modules):
        group = _group(modules[at:])
        if group is None or not _is_free(group, values):
            values = _run_one(modules[at], values)
            at += 1
        else:
            values = _run_group(group, values)
            at += group.length
    return values


def fire_and_convolve(norm: nn.Module, neurons: nn.Module, conv: nn.Conv2d, values: Tensor) -> Tensor:
    """Return `conv(neurons(norm(values)))`, the neurons being at rest."""
    group = _Group(norm, neurons, None, conv, 3)
    if _is_free(group, values):
        return _run_group(group, values)
    return cast("Tensor", conv(neurons(norm(values))))


def _group(modules: list[nn.Module]) -> _Group | None:
    """Return the group that a list of layers begins with: norm, neurons, perhaps pooling, perhaps convolution."""
    if not isinstance(modules[0], (StreamBatchNorm2d, nn.Identity)) and not is_neurons(modules[0]):
        return None
    rest = list(modules)
    norm = nn.Identity() if is_neurons(rest[0]) else rest.pop(0)
    if not rest or not is_neurons(rest[0]):
        return None
    neurons = rest.pop(0)
    with_neurons = len(modules) - len(rest)
    pooling = rest.pop(0) if rest and is_average_pooling(rest[0]) else None
    conv = rest[0] if rest else None
    if isinstance(conv, nn.Conv2d) and is_plain_convolution(conv) and not keeps_membrane(neurons):
        return _Group(norm, neurons, pooling, conv, with_neurons + (pooling is not None) + 1)
    return _Group(norm, neurons, None, None, with_neurons)


def _run_one(module: nn.Module, values: Tensor) -> Tensor:
    if (
        isinstance(module, nn.Conv2d)
        and is_plain_convolution(module)
        and _on_cpu(values)
        and not _are_watched([module])
    ):
        return fused.convolve(module, values)
    return cast("Tensor", module(values))


def _run_group(group: _Group, values: Tensor) -> Tensor:
    surrogate = surrogate_of(group.neurons)
    if group.conv is not None:
        return fused.fire_and_convolve(group.norm, surrogate, group.pooling is not None, group.conv, values)
    spikes, potentials = fused.fire_alone(group.norm, surrogate, keeps_membrane(group.neurons), values)
    if potentials is not None:
        store_membrane(group.neurons, potentials)
    return spikes


def _is_free(group: _Group, values: Tensor) -> bool:
    """Say whether a group may run in one go."""
    modules = [part for part in (group.norm, group.neurons, group.pooling, group.conv) if part is not None]
    weights = [weight for part in modules for weight in part.parameters()]
    return (
        _on_cpu(values)
        and values.numel() > 0
        and all(weight.dtype == values.dtype for weight in weights)
        and at_rest(group.neurons)
        and not _are_watched(modules)
        # A single value per channel has no variance: batch norm by itself refuses it in words.
        and not (group.norm.training and values[0].numel() == values.shape[2])
    )


def _on_cpu(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype in _KINDS and not torch.is_autocast_enabled("cpu")


def _are_watched(modules: list[nn.Module]) -> bool:
    if torch_modules._has_any_global_hook():  # type: ignore[no-untyped-call]  # noqa: SLF001
        return True
    return any(getattr(module, name) for module in modules for name in _HOOKS)
