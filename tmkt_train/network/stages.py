"""Stages: what the networks are built from, and what passes between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tmkt_train.choices import Auto, BatchNormMode, BatchScope, EvalStatistics, Surrogate
from tmkt_train.network.batch_norm import batch_norm
from tmkt_train.network.neurons import lif


class Stage(NamedTuple):
    """Layers that run one after the other: norm, neurons, pooling, convolution. A stage may lack any of them.

    A stage begins with the norm because its kernels save the input of the norm for backward and nothing else. It is a
    record that refers to layers, not a module that owns them: each layer keeps the name under which checkpoints,
    hooks and results know it, and a layer that was replaced in the network is replaced in its stage.
    """

    norm: nn.Module | None = None
    neurons: nn.Module | None = None
    pooling: nn.Module | None = None
    convolution: nn.Conv2d | None = None

    def layers(self) -> list[nn.Module]:
        """Return the layers that the stage has, in running order."""
        return [layer for layer in self if layer is not None]


@dataclass(frozen=True, slots=True)
class Origin:
    """How to recompute a tensor in backward: what is saved in its place, and the steps from there.

    Attributes:
        saved: A tensor, and one weight for each step.
        steps: Functions of (values, weight), run in order. They hold no large tensor themselves, so that autograd
            alone decides how long `saved` lives.
    """

    saved: tuple[Tensor, ...]
    steps: tuple[Callable[[Tensor, Tensor], Tensor], ...] = ()

    def then(self, step: Callable[[Tensor, Tensor], Tensor], weight: Tensor) -> Origin:
        """Return the origin of what another step makes of the tensor."""
        return Origin((*self.saved, weight), (*self.steps, step))

    def recompute(self) -> Tensor:
        """Return the tensor."""
        values, *weights = self.saved
        for step, weight in zip(self.steps, weights, strict=True):
            values = step(values, weight)
        return values


class Signal(NamedTuple):
    """What one stage passes to the next.

    Attributes:
        values: Shape (T, B, C, H, W), or (T, B, D) behind a linear layer.
        origin: How kernels recompute the values in backward where that is cheaper than to save them; else None.
    """

    values: Tensor
    origin: Origin | None = None


RunStage = Callable[[Stage, Signal], Signal]


def run_plain(stage: Stage, signal: Signal) -> Signal:
    """Compute a stage by calling its layers one after the other: the reference, on any device and in any dtype.

    In half precision only convolutions compute in it; norm, neurons and pooling take and give float32.
    """
    values, dtype = signal.values, signal.values.dtype
    if dtype not in (torch.float16, torch.bfloat16):
        for layer in stage.layers():
            values = layer(values)
        return Signal(values)
    with torch.autocast(values.device.type, dtype):
        for layer in stage.layers():
            values = layer(values.float())
    return Signal(values.to(dtype))


@dataclass(frozen=True, slots=True)
class LayerChoices:
    """What a recipe chooses about the layers of a network.

    Attributes:
        batch_norm: See `batch_norm.batch_norm`; the references have "per-step", and "none" in scnn.
        statistics: See there; the references have "shared".
        surrogate: See `neurons.lif`; "auto" is that of the reference: the rectangle in scnn, the triangle elsewhere.
        batch_norm_batch: See `batch_norm.batch_norm`.
    """

    batch_norm: BatchNormMode = "per-step"
    statistics: EvalStatistics = "shared"
    surrogate: Surrogate | Auto = "auto"
    batch_norm_batch: BatchScope = "global"

    def norm(self, num_channels: int) -> nn.Module:
        """Build a batch normalization."""
        return batch_norm(num_channels, self.batch_norm, self.statistics, self.batch_norm_batch)

    def neurons(self) -> nn.Module:
        """Build a layer of neurons."""
        module: nn.Module = lif("triangle" if self.surrogate == "auto" else self.surrogate)
        return module
