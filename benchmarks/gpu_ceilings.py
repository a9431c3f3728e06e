"""Ceilings of the device, and cuDNN's convolutions of VGG-SNN at the paper's batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from gpu_work import PRECISIONS, Work, dtype_of, line_of, median_ms, release, tf32
from torch import Tensor


def run_ceilings(work: Work) -> None:
    """Measure a copy on the device, and matrix products of random numbers."""
    work.attempt("copy", lambda: _copy(work, 2**16 if work.is_tiny else 2**29))
    size = 64 if work.is_tiny else 8192
    for precision in PRECISIONS:
        work.attempt(f"matmul {precision}", lambda precision=precision: _matmul(work, precision, size))


def _copy(work: Work, count: int) -> dict[str, float]:
    source = torch.randn(count, device=work.device)
    target = torch.empty_like(source)
    ms = median_ms(work.device, lambda: target.copy_(source), 10)
    return {"ms": ms, "tb_per_s": 2 * source.nbytes / ms / 1e9}


def _matmul(work: Work, precision: str, size: int) -> dict[str, float]:
    left, right = torch.randn(2, size, size, device=work.device, dtype=dtype_of(precision))
    with tf32(precision == "tf32"):
        ms = median_ms(work.device, lambda: left @ right, 10)
    return {"ms": ms, "tflop_per_s": 2 * size**3 / ms / 1e9}


class Layer(NamedTuple):
    """A convolution of VGG-SNN at 48 x 48: inputs, outputs, height and width."""

    inputs: int
    outputs: int
    side: int


LAYERS = {
    "conv1": Layer(2, 64, 48),
    "conv1 padded": Layer(8, 64, 48),
    "conv2": Layer(64, 128, 48),
    "conv3": Layer(128, 256, 24),
    "conv4": Layer(256, 256, 24),
    "conv5": Layer(256, 512, 12),
    "conv6": Layer(512, 512, 12),
    "conv7, conv8": Layer(512, 512, 6),
}
PASSES = ("forward", "grad input", "grad weight")
ORDERS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


def run_convolutions(work: Work) -> None:
    """Measure every layer; the likeliest settings first, as time may run out."""
    for tuned, order, precision in itertools.product((False, True), ORDERS, reversed(PRECISIONS)):
        if precision == "float32" and (tuned or order == "contiguous"):
            continue
        if work.is_tiny and (tuned or order == "contiguous"):
            continue
        name = f"{precision}, {order}{', cudnn.benchmark' if tuned else ''}"
        rows: dict[str, Any] = {}
        for layer in LAYERS:
            if work.left_s() < 2:
                work.put("left out", "from here on there was no time")
                return
            rows[layer] = _layer(work, LAYERS[layer], precision, ORDERS[order], tuned)
            work.put(name, rows)
        release(work.device)


def _layer(work: Work, layer: Layer, precision: str, order: torch.memory_format, tuned: bool) -> dict[str, Any]:
    """Return ms of each pass; numbers are random, a fifth of the inputs are spikes."""
    frames, divisor = (2, 8) if work.is_tiny else (2400, 1)
    side, dtype = max(layer.side // divisor, 3), dtype_of(precision)
    spikes = (torch.rand(frames, layer.inputs, side, side, device=work.device) < 0.2).to(dtype, memory_format=order)
    weight = torch.randn(layer.outputs, layer.inputs, 3, 3, device=work.device, dtype=dtype).contiguous(
        memory_format=order
    )
    grad = torch.randn(frames, layer.outputs, side, side, device=work.device, dtype=dtype).contiguous(
        memory_format=order
    )
    runs: dict[str, Callable[[], Tensor]] = {
        "forward": lambda: torch.nn.functional.conv2d(spikes, weight, padding=1),
        "grad input": lambda: _backward(grad, spikes, weight, 0),
        "grad weight": lambda: _backward(grad, spikes, weight, 1),
    }
    found: dict[str, Any] = {}
    with tf32(precision == "tf32", tuned=tuned):
        for name in PASSES:
            try:
                found[name] = round(median_ms(work.device, runs[name], 3), 4)
            except RuntimeError as error:
                found[name] = line_of(error)
    return found


def _backward(grad: Tensor, inputs: Tensor, weight: Tensor, which: int) -> Tensor:
    """Return the gradient of the input (0) or of the weight (1) alone."""
    mask = [which == 0, which == 1, False]
    ones = [1, 1]
    convolution_backward = torch.ops.aten.convolution_backward
    found: Tensor = convolution_backward(grad, inputs, weight, None, ones, ones, ones, False, [0, 0], 1, mask)[which]
    return found
