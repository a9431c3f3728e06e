"""Stages by the Triton kernels: equal to the oracle under the interpreter; what the door declines, on meta tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

from tmkt_train.network.batch_norm import batch_norm
from tmkt_train.network.neurons import avg_pool, conv2d, keep_membrane, lif, membrane
from tmkt_train.network.stages import Signal, Stage

pytest.importorskip("triton")

from tmkt_train.network.cuda import door


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stages_equal_the_oracle_under_the_interpreter():
    """Run `interpreted_stages.py` in a process of its own, where Triton is imported with its interpreter on."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", Path(__file__).with_name("interpreted_stages.py")],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr


def values(*shape, dtype=torch.float32):
    return Signal(torch.empty(shape, dtype=dtype, device="meta"))


class Layers(nn.Module):
    """The layers of a stage."""

    def __init__(self):
        super().__init__()
        self.norm, self.neurons, self.pooling = batch_norm(32, "per-step"), lif(), avg_pool()
        self.conv = conv2d(32, 48, 3, padding=1)
        self.to("meta")

    @property
    def stage(self):
        return Stage(self.norm, self.neurons, self.pooling, self.conv)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("keeps", [True, False])
def test_dtypes_and_shapes(dtype, keeps):
    layers = Layers()
    keep_membrane(layers.neurons, keeps)
    found = door.run_stage(layers.stage, values(3, 2, 32, 9, 8, dtype=dtype)).values
    assert found.shape == (3, 2, 48, 4, 4)
    assert found.dtype == dtype
    if keeps:
        assert membrane(layers.neurons).shape == (3, 2, 32, 9, 8)


def test_flat_values_of_a_layer_without_norm():
    neurons = lif()
    keep_membrane(neurons, True)
    found = door.run_stage(Stage(neurons=neurons), values(3, 2, 300))
    assert found.values.shape == membrane(neurons).shape == (3, 2, 300)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net.neurons, "v_threshold", 0.9),
        lambda net: setattr(net.neurons, "tau", 3.0),
        lambda net: setattr(net.neurons, "detach_reset", False),
        lambda net: setattr(net.neurons, "surrogate_function", surrogate.Sigmoid()),
        lambda net: setattr(net, "neurons", neuron.IFNode(step_mode="m")),
        lambda net: setattr(net.neurons, "v", torch.zeros(2, 32, 8, 8, device="meta")),
        lambda net: setattr(net, "norm", nn.GroupNorm(4, 32, device="meta")),
        lambda net: setattr(net, "norm", batch_norm(31, "per-step").to("meta")),
        lambda net: setattr(net.norm, "momentum", None),
        lambda net: setattr(net.norm, "streams", ("image", "event", "event")),
        lambda net: setattr(net, "pooling", layer.AvgPool2d(2, ceil_mode=True, step_mode="m")),
        lambda net: setattr(net.conv, "bias", nn.Parameter(torch.ones(48, device="meta"))),
        lambda net: setattr(net.conv, "padding_mode", "circular"),
        lambda net: net.double(),
        lambda net: net.half(),
    ],
)
def test_other_layers_are_declined(change):
    layers, x = Layers(), values(3, 6, 32, 8, 8)
    assert door.run_stage(layers.stage, x) is not None
    change(layers)
    assert door.run_stage(layers.stage, x) is None


@pytest.mark.parametrize(
    ("x", "stage"),
    [
        (values(3, 1, 4, 1, 1), Stage(batch_norm(4, "per-step").to("meta"), lif())),
        (values(3, 0, 4, 5, 5), Stage(neurons=lif())),
        (values(33, 2, 4, 5, 5), Stage(neurons=lif())),
        (values(16, 2**12, 128, 16, 16), Stage(neurons=lif())),
        (values(3, 4, 5, 5), Stage(neurons=lif())),
        (values(3, 2, 4, 5, 5, dtype=torch.int32), Stage(neurons=lif())),
        (values(3, 2, 4, 5, 5), Stage(norm=batch_norm(4, "per-step").to("meta"))),
        (values(3, 2, 4, 5, 5), Stage(pooling=avg_pool())),
        (values(3, 2, 4), Stage(neurons=lif(), pooling=avg_pool())),
        (values(3, 2, 4, 1, 5), Stage(neurons=lif(), pooling=avg_pool())),
        (values(3, 2, 4, 5, 5), Stage()),
    ],
)
def test_other_inputs_and_stages_are_declined(x, stage):
    assert door.run_stage(stage, x) is None


def test_streams_of_different_size_are_declined():
    norm = batch_norm(4, "per-step").to("meta")
    norm.streams = ("image", "event")
    assert door.run_stage(Stage(norm, lif()), values(3, 4, 4, 5, 5)) is not None
    assert door.run_stage(Stage(norm, lif()), values(3, 5, 4, 5, 5)) is None
    assert door.run_stage(Stage(norm, lif()), values(3, 2, 4, 1, 1)) is None


def test_autocast_is_declined():
    stage, x = Stage(neurons=lif()), Signal(torch.empty(3, 2, 4, 5, 5))
    with torch.autocast("cpu"):
        assert door.run_stage(stage, x) is None


def test_a_second_derivative_is_refused():
    x = values(3, 2, 32, 8, 8)
    x.values.requires_grad_()
    found = door.run_stage(Layers().stage, x).values
    (grad,) = torch.autograd.grad(found.square().sum(), x.values, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
