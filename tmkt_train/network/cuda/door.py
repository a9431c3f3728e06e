"""The one door to the kernels for a GPU: compute a stage in one go, or decline."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmkt_train.network.batch_norm import StreamBatchNorm2d
from tmkt_train.network.cuda.convolution import Convolution, channels_last, convolve
from tmkt_train.network.cuda.fused import FiringLayer, fire, fire_and_convolve
from tmkt_train.network.cuda.normalization import normalization
from tmkt_train.network.neurons import (
    is_plain_convolution,
    is_plain_pooling,
    keeps_membrane,
    standard_surrogate,
    store_membrane,
)
from tmkt_train.network.stages import Signal, Stage

_MOST_STEPS = 32
"""Time steps up to which kernels are compiled: they are unrolled, and keep one charge a step in registers."""


def run_stage(stage: Stage, signal: Signal) -> Signal | None:
    """Compute a stage in one go, with its gradient; running statistics and membranes as the layers would.

    Half-precision signals are normalized and fire in float32; the weight of a convolution is cast to their dtype. Only
    the input of the norm is saved for backward, and in half precision the spikes. A second derivative is refused.

    Args:
        stage: The layers.
        signal: Shape (T, S B, C, H, W), or (T, S B, C) without pooling and convolution.

    Returns:
        The result; None where these kernels do not compute what the layers do: dtypes other than float32, float16,
        bfloat16 and float64, parameters that are not float32 (float64 for a float64 signal), autocast, layers of
        another type or with other settings than those that the networks are built with, neurons that carry state,
        streams of different size, a single value per stream and channel, which batch norm itself refuses, frames too
        small to pool, more than 32 time steps, and 2^31 values or more.
    """
    if not _is_supported(stage, signal.values):
        return None
    if stage.neurons is None:
        return _convolve(stage, signal)
    surrogate = standard_surrogate(stage.neurons)
    if surrogate is None:
        return None
    is_flat = signal.values.ndim == 3
    values = channels_last(signal.values[..., None, None] if is_flat else signal.values)
    norm = stage.norm if isinstance(stage.norm, StreamBatchNorm2d) else None
    keeps = keeps_membrane(stage.neurons)
    layer = FiringLayer(normalization(norm, values), surrogate, stage.pooling is not None)
    if stage.convolution is not None and not keeps:
        return Signal(fire_and_convolve(layer, norm, stage.convolution, values))
    spikes, potentials = fire(layer, norm, keeps, values)
    if potentials is not None:
        store_membrane(stage.neurons, potentials[..., 0, 0] if is_flat else potentials)
    if stage.convolution is not None:
        spikes = convolve(Convolution.of(stage.convolution), stage.convolution.weight, spikes)
    return Signal(spikes[..., 0, 0] if is_flat else spikes)


def _convolve(stage: Stage, signal: Signal) -> Signal | None:
    """Compute a convolution alone."""
    conv = stage.convolution
    if conv is None or stage.norm is not None or stage.pooling is not None:
        return None
    return Signal(convolve(Convolution.of(conv), conv.weight, signal.values))


def _is_supported(stage: Stage, values: Tensor) -> bool:
    if values.ndim != 5 and (values.ndim != 3 or stage.pooling is not None or stage.convolution is not None):
        return False
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    return (
        values.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
        and not _autocasts(values.device.type)
        and 0 < values.numel() < 2**31
        and len(values) <= _MOST_STEPS
        and all(weight.dtype == wide for layer in stage.layers() for weight in layer.parameters())
        and (stage.norm is None or _is_supported_norm(stage.norm, values))
        and (stage.pooling is None or (is_plain_pooling(stage.pooling) and min(values.shape[-2:]) > 1))
        and (stage.convolution is None or is_plain_convolution(stage.convolution))
        and not (_trains(stage) and values[0].numel() == values.shape[2])
    )


def _autocasts(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _trains(stage: Stage) -> bool:
    return any(layer.training for layer in (stage.norm, stage.neurons) if layer is not None)


def _is_supported_norm(norm: nn.Module, values: Tensor) -> bool:
    if type(norm) is not StreamBatchNorm2d:
        return type(norm) is nn.Identity
    num_streams, num_frames = len(norm.streams), values.shape[1]
    num_values = values[0, : num_frames // num_streams].numel() // values.shape[2]
    return (
        num_streams <= 2
        and num_frames % num_streams == 0
        and norm.num_features == values.shape[2]
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and (num_values > 1 or not norm.training)
        # There are no kernels for statistics over several ranks.
        and not norm.spans_ranks
    )
