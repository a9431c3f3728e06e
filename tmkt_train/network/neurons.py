"""Spiking neurons and the layers around them; the one module that knows spikingjelly.

Everything here is in multi-step form: tensors are (T, B, ...) and the stateless layers run once over T x B.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based import surrogate as gradients
from torch import Tensor, nn

from tmkt_train.choices import BatchNormMode, EvalStatistics, Stream, Surrogate

TAU = 2.0
THRESHOLD = float(np.nextafter(np.float32(0.5), np.float32(1.0)))
"""The least float32 above 0.5: spikingjelly fires at h >= threshold, He et al. at h > 0.5; so both agree."""


def lif(surrogate: Surrogate = "triangle") -> neuron.LIFNode:
    """Build a layer of leaky integrate-and-fire neurons with a hard reset.

    h = v + (x - v) / 2; s = 1 where h > 0.5; v = h where s = 0, else 0. No gradient flows through the reset.

    Args:
        surrogate: Gradient of the spike, z being h - 0.5: "triangle" is max(0, 2 - 4 |z|), "rectangle" is 1
            for |z| < 0.5. Both have area 1.

    Returns:
        Module from input (T, B, ...) to spikes of the same shape, 0 or 1. It carries its state: see `reset`.

    Source:
        He et al., AAAI 2024, in spikingjelly's LIFNode.
    """
    match surrogate:
        case "triangle":
            # Not subclassed or wrapped: spikingjelly's fused kernels know only its own classes.
            gradient = gradients.PiecewiseQuadratic(alpha=2.0)
        case "rectangle":
            gradient = gradients.Rect(alpha=1.0)
    return neuron.LIFNode(
        tau=TAU,
        decay_input=True,
        v_threshold=THRESHOLD,
        v_reset=0.0,
        surrogate_function=gradient,
        detach_reset=True,
        step_mode="m",
        store_v_seq=False,
    )


def reset(net: nn.Module) -> None:
    """Set the state of all neurons of a network back to 0 and drop the stored membrane potentials."""
    functional.reset_net(net)


def keep_membrane(layer_of_neurons: neuron.LIFNode, keep: bool) -> None:
    """Say whether a layer built by `lif` stores its membrane potentials in the next forward pass."""
    layer_of_neurons.store_v_seq = keep


def membrane(layer_of_neurons: neuron.LIFNode) -> Tensor:
    """Return the membrane potentials after reset of the last forward pass, shape (T, B, ...), with gradient.

    The layer must have been told so beforehand by `keep_membrane`.
    """
    potentials: Tensor = layer_of_neurons.v_seq
    return potentials


def is_neurons(module: nn.Module) -> bool:
    """Say whether a module is a layer of neurons."""
    return isinstance(module, neuron.LIFNode)


def is_average_pooling(module: nn.Module) -> bool:
    """Say whether a module is what `avg_pool` builds."""
    return isinstance(module, layer.AvgPool2d) and repr(module) == repr(avg_pool())


def is_plain_convolution(module: nn.Module) -> bool:
    """Say whether a module is what `conv2d` builds: over (T, B, C, H, W), no bias, zeros around."""
    if not isinstance(module, layer.Conv2d):
        return False
    return module.step_mode == "m" and module.bias is None and module.padding_mode == "zeros"


def at_rest(layer_of_neurons: neuron.LIFNode) -> bool:
    """Say whether a layer is what `lif` builds, and has no state, as after `reset`."""
    state = layer_of_neurons.v
    # Of what `lif` chooses, the text leaves out only how the input decays.
    built = layer_of_neurons.decay_input and repr(layer_of_neurons) in _built_layers()
    return built and isinstance(state, float) and state == 0.0


@cache
def _built_layers() -> frozenset[str]:
    return frozenset(repr(lif(surrogate)) for surrogate in get_args(Surrogate))


def surrogate_of(layer_of_neurons: neuron.LIFNode) -> Surrogate:
    """Name the surrogate of a layer built by `lif`."""
    return "rectangle" if isinstance(layer_of_neurons.surrogate_function, gradients.Rect) else "triangle"


def keeps_membrane(layer_of_neurons: neuron.LIFNode) -> bool:
    """Say what `keep_membrane` has been told."""
    return bool(layer_of_neurons.store_v_seq)


def store_membrane(layer_of_neurons: neuron.LIFNode, potentials: Tensor) -> None:
    """Store membrane potentials that were computed elsewhere, for `membrane` to return."""
    layer_of_neurons.v_seq = potentials


def spiking_layers(net: nn.Module) -> dict[str, neuron.LIFNode]:
    """Return the layers built by `lif` inside a network, by module name and in order of definition."""
    return {name: module for name, module in net.named_modules() if isinstance(module, neuron.LIFNode)}


def lif_implementation(device: torch.device) -> str:
    """Name the implementation of neurons that networks use on a device: "tmkt" on CPUs, else one of spikingjelly's."""
    if device.type == "cpu":
        return "tmkt"
    return str(functional.neuron_implementation("lif", device)["implementation"])


def conv2d(num_inputs: int, num_outputs: int, kernel_size: int, *, padding: int = 0, stride: int = 1) -> nn.Conv2d:
    """Build a convolution without bias over (T, B, C, H, W), run once over T x B."""
    module: nn.Conv2d = layer.Conv2d(
        num_inputs, num_outputs, kernel_size, stride=stride, padding=padding, bias=False, step_mode="m"
    )
    return module


def linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    """Build a linear layer with bias over (T, B, D)."""
    return nn.Linear(num_inputs, num_outputs)


def avg_pool() -> nn.Module:
    """Build an average pooling over 2 x 2 pixels of (T, B, C, H, W); an odd last row or column is dropped."""
    module: nn.Module = layer.AvgPool2d(2, step_mode="m")
    return module


def flatten() -> nn.Module:
    """Build a layer from (T, B, C, H, W) to (T, B, C H W)."""
    return nn.Flatten(start_dim=2)


class GlobalAveragePool(nn.Module):
    """Mean over the pixels: (T, B, C, H, W) to (T, B, C)."""

    def forward(self, values: Tensor) -> Tensor:
        """Average the pixels of each channel."""
        return values.mean(dim=(-2, -1))


def global_avg_pool() -> nn.Module:
    """Build an average pooling over all pixels, (T, B, C, H, W) to (T, B, C)."""
    return GlobalAveragePool()


class StreamBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over (T, B, C, H, W), per step or over all steps, with one or two sets of running statistics.

    In training with `per_step`, equal to T calls of `torch.nn.BatchNorm2d` on the steps in order, T running updates
    included; without it, to one call on T x B frames. In evaluation all steps take the same affine map, in one call.

    Attributes:
        stream: Whose statistics the next pass takes and updates, see `set_stream`; of no effect on a shared set.

    Source:
        He et al., AAAI 2024, which calls one batch normalization per step, with one set for both streams.
    """

    image_mean: Tensor
    image_var: Tensor

    def __init__(self, num_channels: int, *, per_step: bool, separate: bool) -> None:
        """Build for C channels; `separate` keeps running statistics of the image stream apart."""
        super().__init__(num_channels)
        self.per_step = per_step
        self.separate = separate
        self.stream: Stream = "event"
        if separate:
            self.register_buffer("image_mean", torch.zeros(num_channels))
            self.register_buffer("image_var", torch.ones(num_channels))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (T, B, C, H, W)."""
        if self.training and self.per_step:
            return torch.stack([self._normalize(step) for step in input])
        return self._normalize(input.flatten(0, 1)).view(input.shape)

    def running(self) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance of the stream, shape (C,) each."""
        if self.separate and self.stream == "image":
            return self.image_mean, self.image_var
        mean, var = self.running_mean, self.running_var
        if mean is None or var is None:
            raise TypeError("batch norm: found no running statistics, expected those that it was built with")
        return mean, var

    @torch.no_grad()
    @np.errstate(over="ignore", invalid="ignore")
    def track(self, means: NDArray[np.float64], variances: NDArray[np.float64]) -> None:
        """Update the running statistics of the stream by those of some calls, one after the other.

        Args:
            means: Shape (calls, C).
            variances: With n - 1 in the denominator, shape (calls, C).
        """
        factor = self.momentum or 0.0
        for running, found in zip(self.running(), (means, variances), strict=True):
            values = running.numpy()
            for step in found:
                values[:] = (1.0 - factor) * values + factor * step
        counter = self.num_batches_tracked
        if counter is not None and not (self.separate and self.stream == "image"):
            counter += len(means)

    def _normalize(self, frames: Tensor) -> Tensor:
        if not self.separate or self.stream == "event":
            return super().forward(frames)
        return nn.functional.batch_norm(
            frames,
            self.image_mean,
            self.image_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum or 0.0,
            self.eps,
        )


def set_stream(net: nn.Module, stream: Stream) -> None:
    """Say to every batch normalization of a network which stream passes next."""
    for module in net.modules():
        if isinstance(module, StreamBatchNorm2d):
            module.stream = stream


def batch_norm(num_channels: int, mode: BatchNormMode, statistics: EvalStatistics = "shared") -> nn.Module:
    """Build a batch normalization over (T, B, C, H, W), eps 1e-5, momentum 0.1.

    Args:
        num_channels: Number of channels C.
        mode: "per-step" takes the statistics of each step, "fused" those of all T x B frames at once, "none"
            is the identity. The first two have the same parameters and buffers, but train differently.
        statistics: "shared" keeps one set of running statistics for both streams, as KT; "event" keeps those of the
            image stream apart, so that evaluation on events takes those of events alone.

    Returns:
        The module.
    """
    if mode == "none":
        return nn.Identity()
    return StreamBatchNorm2d(num_channels, per_step=mode == "per-step", separate=statistics == "event")


@dataclass(frozen=True, slots=True)
class LayerChoices:
    """What the layers of a network are made of where a recipe has the choice.

    Attributes:
        batch_norm: See `batch_norm`.
        statistics: See `batch_norm`.
        surrogate: See `lif`.
    """

    batch_norm: BatchNormMode = "per-step"
    statistics: EvalStatistics = "shared"
    surrogate: Surrogate = "triangle"

    def norm(self, num_channels: int) -> nn.Module:
        """Build a batch normalization."""
        return batch_norm(num_channels, self.batch_norm, self.statistics)

    def neurons(self) -> neuron.LIFNode:
        """Build a layer of neurons."""
        return lif(self.surrogate)
