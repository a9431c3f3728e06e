"""The one door to the kernels for a CPU: compute a stage in one go, or decline."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmkt_train.network.batch_norm import StreamBatchNorm2d
from tmkt_train.network.cpu.firing import FiringLayer
from tmkt_train.network.cpu.fused import FiringConvolution, PlainConvolution, channels_last, fire, fire_and_convolve
from tmkt_train.network.cpu.normalization import normalization
from tmkt_train.network.cpu.workers import workers
from tmkt_train.network.neurons import (
    is_plain_convolution,
    is_plain_pooling,
    keeps_membrane,
    standard_surrogate,
    store_membrane,
)
from tmkt_train.network.stages import Origin, Signal, Stage, run_plain

_CHEAP = 64
"""Input channels up to which a large output of a convolution is recomputed in backward rather than saved."""
_LARGE = 32 << 20
"""Bytes of an output from which memory is worth that time."""


def run_stage(stage: Stage, signal: Signal) -> Signal | None:
    """Compute a stage of one stream in one go, with its gradient; running statistics and membranes as the layers would.

    Only the input of the norm is saved for backward or, where a convolution of few channels made it, what that was made
    from. Everything else is recomputed. A second derivative is refused.

    Args:
        stage: The layers.
        signal: Shape (T, B, C, H, W), or (T, B, C) without convolution, on the CPU.

    Returns:
        The result; None where these kernels do not compute what the layers do: dtypes other than float32 and float64,
        autocast, several streams in one pass, layers of another type or with other settings than those that the
        networks are built with, neurons that carry state, and a batch with a single value per channel, which batch norm
        itself refuses.
    """
    if not _is_supported(stage, signal):
        return None
    if stage.neurons is None:
        return _convolve(stage, signal)
    surrogate = standard_surrogate(stage.neurons)
    if surrogate is None:
        return None
    is_flat = signal.values.ndim == 3
    values = channels_last(signal.values[..., None, None] if is_flat else signal.values)
    norm = stage.norm if isinstance(stage.norm, StreamBatchNorm2d) else None
    layer = FiringLayer(normalization(norm, values, workers()), surrogate, workers())
    if stage.convolution is None or keeps_membrane(stage.neurons):
        spikes, potentials = fire(layer, norm, keeps_membrane(stage.neurons), values)
        if potentials is not None:
            store_membrane(stage.neurons, potentials[..., 0, 0] if is_flat else potentials)
        spiking = Signal(spikes[..., 0, 0] if is_flat else spikes)
        return run_plain(Stage(pooling=stage.pooling, convolution=stage.convolution), spiking)
    step = FiringConvolution(layer, stage.pooling is not None, stage.convolution)
    origin = signal.origin or Origin((values,))
    result = fire_and_convolve(step, norm, values, origin)
    recomputes = result.requires_grad and _is_cheap(stage.convolution, result)
    return Signal(result, origin.then(step, stage.convolution.weight) if recomputes else None)


def _convolve(stage: Stage, signal: Signal) -> Signal | None:
    """Compute a convolution alone, by torch; what follows need not save its output."""
    conv, values = stage.convolution, signal.values
    if conv is None or stage.norm is not None or stage.pooling is not None:
        return None
    result = conv(values)
    recomputes = result.requires_grad and not values.requires_grad and _is_cheap(conv, result)
    return Signal(result, Origin((values,)).then(PlainConvolution(conv), conv.weight) if recomputes else None)


def _is_cheap(conv: nn.Conv2d, result: Tensor) -> bool:
    return conv.in_channels <= _CHEAP and result.nbytes >= _LARGE


def _is_supported(stage: Stage, signal: Signal) -> bool:
    values = signal.values
    if values.ndim != 5 and (values.ndim != 3 or stage.pooling is not None or stage.convolution is not None):
        return False
    weights = [weight for layer in stage.layers() for weight in layer.parameters()]
    spans_ranks = isinstance(stage.norm, StreamBatchNorm2d) and stage.norm.spans_ranks
    has_single_value = values[0].numel() == values.shape[2] and not spans_ranks
    trains = any(layer.training for layer in (stage.norm, stage.neurons) if layer is not None)
    return (
        values.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and values.numel() > 0
        and all(weight.dtype == values.dtype for weight in weights)
        and (stage.norm is None or type(stage.norm) in (StreamBatchNorm2d, nn.Identity))
        and (not isinstance(stage.norm, StreamBatchNorm2d) or len(stage.norm.streams) == 1)
        and (stage.pooling is None or is_plain_pooling(stage.pooling))
        and (stage.convolution is None or is_plain_convolution(stage.convolution))
        and not (trains and has_single_value)
    )
