"""Choice of what computes a stage: the plain layers, or the kernels of a device."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules import module as modules

from tmkt_train.choices import Computed
from tmkt_train.network.neurons import jelly_implementation
from tmkt_train.network.stages import Signal, Stage, run_plain

Kernels = Callable[[Stage, Signal], Signal | None]
"""Compute a stage, or return None if the kernels would not compute the same as its layers."""


def run_stage(stage: Stage, signal: Signal, *, plain: bool = False) -> Signal:
    """Compute a stage with the kernels of the device if possible, otherwise with its plain layers.

    Kernels fuse the layers of a stage: on a CPU in float32 and float64, on a GPU if Triton is installed. They do not
    call the layers, so a stage with a forward or backward hook on one of its layers, or with a global module hook, runs
    its plain layers. The results are the same up to rounding. `who_ran` reports what computed each layer.

    `plain` always runs the plain layers: for double backward, which kernels refuse, and for observers that use no
    hooks.
    """
    kernels = None if plain or _has_hooks(stage) else _kernels(signal.values.device.type)
    found = None if kernels is None else kernels(stage, signal)
    for layer in stage.layers():
        _ran[layer] = "plain" if found is None else "kernels"
    return run_plain(stage, signal) if found is None else found


_ran: WeakKeyDictionary[nn.Module, Computed] = WeakKeyDictionary()


def who_ran(net: nn.Module) -> dict[str, Computed]:
    """Return what computed each layer in the last pass, by module name; layers outside of stages are missing.

    Example:
        >>> who_ran(nn.Sequential(nn.Linear(2, 2)))
        {}
    """
    return {name: _ran[module] for name, module in net.named_modules() if module in _ran}


def _kernels(device_type: str) -> Kernels | None:
    """Return the kernels of a device type, imported on first use."""
    match device_type:
        case "cpu":
            from tmkt_train.network.cpu import door as cpu

            return cpu.run_stage
        # Tensors without values are computed as on a GPU, which says what that takes.
        case "cuda" | "meta" if _has_triton():
            from tmkt_train.network.cuda import door as cuda

            return cuda.run_stage
        case _:
            return None


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def lif_implementation(device: torch.device) -> str:
    """Name the implementation of neurons on a device: "tmkt" with kernels, otherwise one of spikingjelly's."""
    return jelly_implementation(device) if _kernels(device.type) is None else "tmkt"


# torch has no function that says whether a module has hooks. But a handle knows the table that its hook went to, so one
# hook that is registered and removed at once shows the table. Tables are remembered by weak references.
_KINDS = ("forward_pre_hook", "forward_hook", "full_backward_pre_hook", "full_backward_hook")
_tables_of: WeakKeyDictionary[nn.Module, list[Callable[[], Any]]] = WeakKeyDictionary()


def _has_hooks(stage: Stage) -> bool:
    """Return whether hooks are registered on a layer of a stage, or on all modules of the process."""
    tables = list(_tables_of_all_modules())
    for layer in stage.layers():
        if layer not in _tables_of:
            _tables_of[layer] = _find_tables(layer, "register_")
        tables += _tables_of[layer]
    return any(table() for table in tables)


@cache
def _tables_of_all_modules() -> list[Callable[[], Any]]:
    return _find_tables(modules, "register_module_")


def _find_tables(owner: Any, prefix: str) -> list[Callable[[], Any]]:
    tables: list[Callable[[], Any]] = []
    for kind in _KINDS:
        try:
            handle = getattr(owner, prefix + kind)(lambda *_: None)
        except RuntimeError:
            # torch refuses a full backward hook beside one of the deprecated kind, so there is one.
            return [lambda: True]
        tables.append(handle.hooks_dict_ref)
        handle.remove()
    return tables
