"""The rounding that benchmarks/rounding.py reproduces: as IEEE 754 and torch's casts have it, where a GPU rounds."""

import contextlib
import io
import json
import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tmkt_train.network.backbones import build_model
from tmkt_train.network.execution import run_stage
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.neurons import conv2d, keep_membrane, membrane
from tmkt_train.network.stages import LayerChoices, Signal, run_plain

HALVES = (torch.float16, torch.bfloat16)


@pytest.fixture(scope="module")
def script():
    folder = Path(__file__).parents[1] / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        return runpy.run_path(str(folder / "rounding.py"), run_name="rounding")


def to_bits(values, num_bits):
    """Round float64 to a number of significant bits, ties to even, with the smallest exponent of float32."""
    _, exponent = np.frexp(values)
    quantum = np.maximum(exponent, -125) - num_bits
    return np.ldexp(np.rint(np.ldexp(values, -quantum)), quantum)


def test_tf32_rounds_to_nearest_even_at_ten_bits(script):
    draw = np.random.default_rng(1)
    size = draw.normal(size=20_000) * 10.0 ** draw.integers(-44, 38, 20_000)
    ties = draw.integers(2**12, 2**13, 20_000) / 2.0**12 * 2.0 ** draw.integers(-120, 120, 20_000)
    values = np.concatenate([size, ties, -ties]).astype(np.float32)
    found = script["round_to_tf32"](torch.from_numpy(values.copy())).numpy()
    np.testing.assert_array_equal(found, to_bits(values.astype(np.float64), 11).astype(np.float32))
    assert (found != values).mean() > 0.5


def test_tf32_keeps_layout_zeros_infinity_and_nan(script):
    rounded = script["round_to_tf32"]
    frames = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert rounded(frames).stride() == frames.stride()
    values = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, torch.finfo().max])
    # This NaN has all bits of its mantissa set, as those of CUDA have.
    values = torch.cat([values, torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)])
    kept = values.clone()
    np.testing.assert_array_equal(rounded(values), [0.0, -0.0, np.inf, -np.inf, np.nan, np.inf, np.nan])
    assert rounded(values).signbit().tolist()[:2] == [False, True]
    assert torch.equal(values[:4], kept[:4])


def exact_convolution(values, weight, grad):
    """Return a convolution in float64 and the gradients of values and weight."""
    values, weight = (one.double().requires_grad_() for one in (values, weight))
    found = nn.functional.conv2d(values, weight, padding=1)
    return found, *torch.autograd.grad(found, (values, weight), grad.double())


def convolved(script, dtype, to_tf32, scale=1.0):
    """Return operands of a convolution, rounded, and what the script makes of them, forward and backward."""
    torch.manual_seed(2)
    conv = conv2d(4, 6, 3, padding=1)
    values = torch.randn(1, 3, 4, 8, 8, requires_grad=True)
    found = script["convolve"](conv, values, dtype, to_tf32).to(dtype)
    grad = (scale * torch.randn(found.shape)).to(dtype)
    found.backward(grad)
    operands = values.detach()[0], conv.weight.detach(), grad[0].float()
    return operands, (found.detach()[0], values.grad[0], conv.weight.grad)


def test_operands_of_a_tf32_convolution_are_rounded_forward_and_backward(script):
    operands, results = convolved(script, torch.float32, True)
    expected = exact_convolution(*(torch.from_numpy(to_bits(one.double().numpy(), 11)) for one in operands))
    for found, exact, unrounded in zip(results, expected, exact_convolution(*operands), strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
        assert (exact - unrounded).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", HALVES)
def test_operands_and_results_of_a_half_convolution_are_rounded(script, dtype):
    operands, results = convolved(script, dtype, False)
    exact = exact_convolution(*(one.to(dtype) for one in operands))
    for found, expected in zip(results, exact, strict=True):
        assert torch.equal(found, found.to(dtype).to(found.dtype))
        # Sums in float32 may fall on the other side of a tie.
        expected, step = expected.to(dtype).double(), torch.finfo(dtype).eps
        assert ((found.double() - expected).abs() <= 1.01 * step * expected.abs() + 1e-5).all()
        assert (found.double() == expected).double().mean() > 0.95


def test_gradients_overflow_float16_and_not_bfloat16(script):
    _, (_, *grads) = convolved(script, torch.float16, False, scale=2e4)
    assert not all(grad.isfinite().all() for grad in grads)
    _, (_, *grads) = convolved(script, torch.bfloat16, False, scale=2e4)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_stage_in_half_precision_is_that_of_the_plain_layers(script, dtype):
    torch.manual_seed(3)
    model = build_model("vgg-snn", FrameShape(3, 2, (16, 16)), Heads(4, separate=False), LayerChoices())
    stage = model.body.stages()[2]
    values = torch.randn(3, 2, 128, 4, 4).to(dtype)
    keep_membrane(stage.neurons, True)
    run = partial(script["run_rounded"], run=run_stage, to_tf32=False)
    found = run(stage, Signal(values)).values
    kept = membrane(stage.neurons)
    assert torch.equal(kept, kept.to(dtype).float())
    stage.neurons.reset()
    keep_membrane(stage.neurons, False)
    expected = run_plain(stage, Signal(values)).values
    assert found.dtype == expected.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0.0, atol=8 * torch.finfo(dtype).eps)


def test_the_quick_run_trains_each_precision_on_its_own_rounding(script, tmp_path):
    out, printed = tmp_path / "rounding.json", io.StringIO()
    words = ["--quick", "--seeds", "1", "--precisions", "tf32", "float16", "--json", str(out)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", ["rounding.py", *words])
        script["main"]()
    report = json.loads(out.read_text())
    exact, half = report["figures"]["runs"]
    assert [exact["precision"], half["precision"]] == ["tf32", "float16"]
    assert half["train_loss"] == pytest.approx(exact["train_loss"], rel=0.02)
    assert half["train_loss"] != exact["train_loss"]
    assert "num_skipped_steps" in half
    assert "num_skipped_steps" not in exact
    assert printed.getvalue().count("no verdict: it takes 3 seeds") == 2
