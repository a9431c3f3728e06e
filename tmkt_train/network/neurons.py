"""Spiking neurons and the layers around them, from spikingjelly.

Everything here is multi-step: tensors are (T, B, ...), and stateless layers run once over all T x B frames.
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based import surrogate as gradients
from torch import Tensor, nn

from tmkt_train.choices import Surrogate

THRESHOLD = float(np.nextafter(np.float32(0.5), np.float32(1.0)))
"""The smallest float32 above 0.5: spikingjelly fires at h >= threshold, He et al. at h > 0.5; with this both agree."""
_EQUATION = {
    "tau": 2.0,
    "decay_input": True,
    "v_threshold": THRESHOLD,
    "v_reset": 0.0,
    "detach_reset": True,
    "step_mode": "m",
}


def lif(surrogate: Surrogate = "triangle") -> neuron.LIFNode:
    """Build a layer of leaky integrate-and-fire neurons with a hard reset.

    h = v + (x - v) / 2; s = 1 where h > 0.5; v = h where s = 0, else 0. No gradient flows through the reset.

    Args:
        surrogate: Gradient of the spike with z = h - 0.5: "triangle" is max(0, 2 - 4 |z|), "rectangle" is 1
            for |z| < 0.5. Both have area 1.

    Returns:
        Module from input (T, B, ...) to spikes of the same shape, 0 or 1. It is stateful: see `reset`.

    Source:
        He et al., AAAI 2024, as spikingjelly's LIFNode.
    """
    return neuron.LIFNode(**_EQUATION, surrogate_function=_gradient(surrogate), store_v_seq=False)


def _gradient(surrogate: Surrogate) -> gradients.SurrogateFunctionBase:
    # Neither subclassed nor wrapped: spikingjelly's fused kernels know only its own classes.
    match surrogate:
        case "triangle":
            return gradients.PiecewiseQuadratic(alpha=2.0)
        case "rectangle":
            return gradients.Rect(alpha=1.0)


def standard_surrogate(neurons: Any) -> Surrogate | None:
    """Return the surrogate of a layer that computes the equation of `lif` and is at rest; None for any other layer.

    Kernels compute that equation only, so a layer with changed attributes or with state has to run its own forward.
    """
    if type(neurons) is not neuron.LIFNode or not isinstance(neurons.v, float) or neurons.v != 0.0:
        return None
    if any(getattr(neurons, name) != value for name, value in _EQUATION.items()):
        return None
    found: Any = neurons.surrogate_function
    surrogate: Surrogate
    for surrogate in get_args(Surrogate):
        expected = _gradient(surrogate)
        if type(found) is type(expected) and found.alpha == expected.alpha and found.spiking:
            return surrogate
    return None


def reset(net: nn.Module) -> None:
    """Set the state of all neurons of a network to 0 and drop the stored membrane potentials."""
    functional.reset_net(net)


def keep_membrane(neurons: neuron.LIFNode, keep: bool) -> None:
    """Choose whether a layer built by `lif` stores its membrane potentials in the next forward pass."""
    neurons.store_v_seq = keep


def keeps_membrane(neurons: neuron.LIFNode) -> bool:
    """Return whether a layer stores its membrane potentials, see `keep_membrane`."""
    return bool(neurons.store_v_seq)


def membrane(neurons: neuron.LIFNode) -> Tensor:
    """Return the membrane potentials after reset of the last forward pass, shape (T, B, ...), with gradient.

    Call `keep_membrane` before that pass.
    """
    potentials: Tensor = neurons.v_seq
    return potentials


def store_membrane(neurons: neuron.LIFNode, potentials: Tensor) -> None:
    """Store membrane potentials that kernels computed, for `membrane` to return."""
    neurons.v_seq = potentials


def spiking_layers(net: nn.Module) -> dict[str, neuron.LIFNode]:
    """Return the layers of neurons in a network by module name, in order of definition."""
    return {name: module for name, module in net.named_modules() if isinstance(module, neuron.LIFNode)}


def jelly_implementation(device: torch.device) -> str:
    """Name the implementation of neurons that spikingjelly uses on a device, such as "torch" or "triton"."""
    return str(functional.neuron_implementation("lif", device)["implementation"])


def conv2d(num_inputs: int, num_outputs: int, kernel_size: int, *, padding: int = 0, stride: int = 1) -> nn.Conv2d:
    """Build a convolution without bias over (T, B, C, H, W)."""
    module: nn.Conv2d = layer.Conv2d(
        num_inputs, num_outputs, kernel_size, stride=stride, padding=padding, bias=False, step_mode="m"
    )
    return module


def is_plain_convolution(module: Any) -> bool:
    """Return whether a convolution has the form of `conv2d`: no bias, and zeros around the frame."""
    if type(module) is not layer.Conv2d or isinstance(module.padding, str):
        return False
    return (module.step_mode, module.bias, module.padding_mode) == ("m", None, "zeros")


def avg_pool() -> nn.Module:
    """Build a 2 x 2 average pooling over (T, B, C, H, W); an odd last row or column is dropped."""
    module: nn.Module = layer.AvgPool2d(2, step_mode="m")
    return module


def is_plain_pooling(module: Any) -> bool:
    """Return whether a pooling computes what `avg_pool` does."""
    if type(module) is not layer.AvgPool2d:
        return False
    geometry = (module.kernel_size, module.stride, module.padding, module.ceil_mode, module.divisor_override)
    return module.step_mode == "m" and geometry == (2, 2, 0, False, None)


class LifConstants(NamedTuple):
    """The constants of h = v + (g x - (v - v_reset)) / tau, with a spike where h > threshold, and then v = v_reset.

    Attributes:
        tau: Membrane time constant in time steps.
        gain: Factor g of the input.
        threshold: The largest float32 at which the neuron does not fire.
        v_reset: Potential at rest and after a spike.
    """

    tau: float
    gain: float
    threshold: float
    v_reset: float


def lif_constants(neurons: Any) -> LifConstants | None:
    """Return the constants of a layer of LIF neurons; None for other neurons, or where the reset subtracts."""
    if type(neurons) is not neuron.LIFNode or neurons.v_reset is None:
        return None
    below = float(np.nextafter(np.float32(neurons.v_threshold), np.float32(-np.inf)))
    tau = float(neurons.tau)
    return LifConstants(tau, 1.0 if neurons.decay_input else tau, below, float(neurons.v_reset))
