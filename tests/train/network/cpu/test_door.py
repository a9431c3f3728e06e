"""Stages by the kernels against their plain layers, in float64 so that rounding decides no spike."""

import copy

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

from tmkt_train.network.backbones import build_model
from tmkt_train.network.batch_norm import batch_norm, set_streams
from tmkt_train.network.cpu import door, firing, workers
from tmkt_train.network.cpu.kernels.batch_norm import step_statistics
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.neurons import avg_pool, conv2d, keep_membrane, lif, membrane, reset
from tmkt_train.network.stages import LayerChoices, Signal, Stage, run_plain

from ...step_oracle import StepNetwork

GEOMETRIES = [
    # channels, kernel, padding, stride, pooled
    (32, 33, 3, 1, 1, False),
    (33, 40, 3, 1, 1, True),
    (5, 7, 3, 1, 1, False),
    (6, 8, 3, 1, 2, False),
    (6, 8, 1, 0, 2, False),
    (3, 4, 3, 0, 1, True),
]


@pytest.fixture
def small_pieces(monkeypatch):
    """Cut everything into several pieces, the last of them short."""
    monkeypatch.setattr(firing, "_CHUNK", 2 * 3 * 9 * 8 * 32)
    monkeypatch.setattr(firing, "_ROWS", 7 * 32)
    monkeypatch.setattr("tmkt_train.network.cpu.convolution._BLOCK", 1)


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def draw(*shape, seed=0, kind=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=kind)


class Layers(nn.Module):
    """Layers of a stage, with weights that differ from channel to channel."""

    def __init__(self, norm, channels, statistics="shared", surrogate="triangle", *, geometry=None):
        torch.manual_seed(2)
        super().__init__()
        self.norm, self.neurons = batch_norm(channels, norm, statistics), lif(surrogate)
        self.pooling = self.conv = None
        if geometry is not None:
            _, outputs, kernel, padding, stride, pooled = geometry
            self.pooling = avg_pool() if pooled else None
            self.conv = conv2d(channels, outputs, kernel, padding=padding, stride=stride)
        self.double()
        with torch.no_grad():
            for parameter in self.norm.parameters():
                parameter += 0.3 * torch.randn_like(parameter)

    def stages(self):
        return [Stage(self.norm, self.neurons, self.pooling, self.conv)]


class Pair(nn.Module):
    """Two stages, one after the other."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def stages(self):
        return [*self.first.stages(), *self.second.stages()]


def one_after_the_other(net, x):
    reset(net)
    signal = Signal(x)
    for stage in net.stages():
        signal = run_plain(stage, signal)
    return signal.values


def in_one_go(net, x):
    reset(net)
    signal = Signal(x)
    for stage in net.stages():
        signal = door.run_stage(stage, signal)
    return signal.values


def assert_same(net, other, x, streams=("image", "event")):
    """Compare outputs, the gradients of input and weights, and buffers."""
    y = x.detach().clone().requires_grad_()
    x = x.detach().clone().requires_grad_()
    for seed, stream in enumerate(streams):
        set_streams(net, (stream,))
        set_streams(other, (stream,))
        found, expected = in_one_go(net, x * (1 + seed)), one_after_the_other(other, y * (1 + seed))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
        outward = draw(*found.shape, seed=seed)
        found.backward(outward)
        expected.backward(outward)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-8, atol=1e-10)
    for (name, parameter), expected in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-8, atol=1e-9, msg=name)
    for (name, buffer), expected in zip(net.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("norm", ["per-step", "fused", "none"])
@pytest.mark.usefixtures("small_pieces", "threads")
def test_a_block_equals_its_layers(geometry, norm):
    nets = [Layers(norm, geometry[0], geometry=geometry) for _ in range(2)]
    assert_same(*nets, draw(3, 5, geometry[0], 9, 8) + 0.5)


@pytest.mark.parametrize("statistics", ["shared", "event"])
@pytest.mark.parametrize("surrogate", ["triangle", "rectangle"])
@pytest.mark.parametrize("trains", [True, False])
def test_neurons_alone_equal_their_layers(statistics, surrogate, trains):
    nets = [Layers("per-step", 6, statistics, surrogate) for _ in range(2)]
    x = draw(4, 3, 6, 5, 7) + 0.5
    for net in nets:
        one_after_the_other(net, x)
        net.train(trains)
    assert_same(*nets, x)


@pytest.mark.parametrize("flat", [False, True])
def test_membranes_and_their_gradient(flat):
    neurons, plain = lif(), lif()
    x = draw(5, 4, 7, 3, 2)
    x = (x[..., 0, 0] if flat else x).clone().requires_grad_()
    y = x.detach().clone().requires_grad_()
    for module in (neurons, plain):
        keep_membrane(module, True)
    spikes, expected = door.run_stage(Stage(neurons=neurons), Signal(x)).values, plain(y)
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(membrane(neurons), membrane(plain), rtol=1e-13, atol=1e-15)
    outward = draw(2, *x.shape)
    ((spikes * outward[0]).sum() + (membrane(neurons) * outward[1]).sum()).backward()
    ((expected * outward[0]).sum() + (membrane(plain) * outward[1]).sum()).backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-12, atol=1e-14)
    x.grad = None
    door.run_stage(Stage(neurons=neurons), Signal(x))
    membrane(neurons).sum().backward()
    assert x.grad.abs().sum() > 0


def test_membranes_before_pooling_and_convolution():
    nets = [Layers("per-step", 6, geometry=(6, 8, 3, 1, 1, True)) for _ in range(2)]
    for net in nets:
        keep_membrane(net.neurons, True)
    assert_same(*nets, draw(3, 4, 6, 8, 8))
    torch.testing.assert_close(membrane(nets[0].neurons), membrane(nets[1].neurons), rtol=1e-12, atol=1e-12)


def test_digits_do_not_depend_on_threads():
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        net = Layers("per-step", 32, geometry=(32, 64, 3, 1, 1, True)).float()
        x = draw(3, 5, 32, 10, 10, kind=torch.float32).requires_grad_()
        out = in_one_go(net, x)
        out.backward(draw(*out.shape, kind=torch.float32))
        buffers = [buffer.clone() for buffer in net.buffers()]
        found.append([out.detach(), x.grad, *buffers, *[parameter.grad for parameter in net.parameters()]])
    torch.set_num_threads(1)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_float32_is_close_where_no_spike_flips():
    net, x = Layers("per-step", 64, geometry=(64, 64, 3, 1, 1, False)), draw(4, 3, 64, 12, 12)
    exact = in_one_go(net, x)
    found = in_one_go(net.float(), x.float())
    assert (found - exact).abs().median() < 1e-6


def test_saved_for_backward_are_the_input_and_the_weight():
    net = Layers("per-step", 32, geometry=(32, 32, 3, 1, 1, False))
    x, kept = draw(3, 5, 32, 8, 8).requires_grad_(), []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        in_one_go(net, x)
    assert sorted(kept) == sorted([x.numel(), net.conv.weight.numel()])


@pytest.mark.parametrize("is_large", [True, False])
def test_a_large_output_of_a_convolution_of_few_channels_is_recomputed(is_large, monkeypatch):
    monkeypatch.setattr(door, "_LARGE", 0 if is_large else 1 << 40)
    torch.manual_seed(5)
    blocks = [
        Layers("per-step", 32, geometry=(32, 96, 3, 1, 1, False)),
        Layers("per-step", 96, geometry=(96, 8, 1, 0, 2, True)),
    ]
    nets = [Pair(*blocks), Pair(*copy.deepcopy(blocks))]
    x, kept = draw(3, 5, 32, 8, 8), []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        in_one_go(nets[0], x.clone().requires_grad_())
    assert (3 * 5 * 96 * 8 * 8 not in kept) == is_large
    for net in nets:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
    assert_same(*nets, x)


def test_a_second_backward_gives_the_same():
    net, x = Layers("per-step", 32, geometry=(32, 32, 3, 1, 1, False)), draw(3, 2, 32, 8, 8).requires_grad_()
    out = in_one_go(net, x).square().sum()
    first = torch.autograd.grad(out, x, retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(out, x)[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net.neurons, "v_threshold", 0.9),
        lambda net: setattr(net.neurons, "tau", 3.0),
        lambda net: setattr(net.neurons, "v_reset", -0.1),
        lambda net: setattr(net.neurons, "detach_reset", False),
        lambda net: setattr(net.neurons, "decay_input", False),
        lambda net: setattr(net.neurons, "surrogate_function", surrogate.PiecewiseQuadratic(alpha=1.0)),
        lambda net: setattr(net.neurons, "surrogate_function", surrogate.Sigmoid()),
        lambda net: setattr(net, "neurons", neuron.IFNode(step_mode="m")),
        lambda net: setattr(net, "norm", nn.GroupNorm(4, 32).double()),
        lambda net: setattr(net, "pooling", layer.AvgPool2d(2, ceil_mode=True, step_mode="m")),
        lambda net: setattr(net, "pooling", layer.MaxPool2d(2, step_mode="m")),
        lambda net: setattr(net.conv, "bias", nn.Parameter(torch.ones(32, dtype=torch.float64))),
        lambda net: setattr(net.conv, "padding_mode", "circular"),
        lambda net: net.float(),
        lambda net: net.neurons(draw(3, 2, 32, 8, 8)),
    ],
)
def test_other_layers_are_declined(change):
    net = Layers("per-step", 32, geometry=(32, 32, 3, 1, 1, True))
    x = Signal(draw(3, 2, 32, 8, 8))
    assert door.run_stage(*net.stages(), x) is not None
    change(net)
    assert door.run_stage(*net.stages(), x) is None


@pytest.mark.parametrize(
    ("x", "stage"),
    [
        (draw(3, 1, 4, 1, 1), Stage(batch_norm(4, "per-step").double(), lif())),
        (draw(3, 0, 4, 5, 5), Stage(neurons=lif())),
        (draw(3, 4, 5, 5), Stage(neurons=lif())),
        (draw(3, 2, 4, 5, 5).half(), Stage(neurons=lif())),
        (draw(3, 2, 4, 5, 5), Stage(norm=batch_norm(4, "per-step").double())),
        (draw(3, 2, 4, 5, 5), Stage(pooling=avg_pool())),
        (draw(3, 2, 4, 5, 5), Stage(pooling=avg_pool(), convolution=conv2d(4, 4, 3).double())),
        (draw(3, 2, 4, 5, 5), Stage()),
    ],
)
def test_other_inputs_and_stages_are_declined(x, stage):
    assert door.run_stage(stage, Signal(x)) is None


def test_autocast_is_declined():
    stage, x = Stage(neurons=lif()), Signal(draw(3, 2, 4, 5, 5, kind=torch.float32))
    assert door.run_stage(stage, x) is not None
    with torch.autocast("cpu"):
        assert door.run_stage(stage, x) is None


def test_a_second_derivative_is_refused():
    net, x = Layers("per-step", 4, geometry=(4, 4, 3, 1, 1, False)), draw(3, 2, 4, 5, 5).requires_grad_()
    (grad,) = torch.autograd.grad(in_one_go(net, x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_statistics_far_from_zero():
    values = (1e3 + draw(2, 77, 5).numpy()).astype(np.float32)
    mean, squares = np.empty((2, 2, 5))
    step_statistics(values, np.empty((2, 2, 5), np.float32), mean, squares, 0, 2)
    np.testing.assert_allclose(mean, values.mean(axis=1, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(squares / 77, values.astype(np.float64).var(axis=1), rtol=1e-4)


@pytest.mark.parametrize("backbone", ["vgg-snn", "resnet18"])
@pytest.mark.usefixtures("threads")
def test_a_network_equals_the_oracle_whatever_the_threads(backbone):
    torch.manual_seed(3)
    shape = FrameShape(2, 2, (18, 18))
    network = build_model(backbone, shape, Heads(4, separate=True), LayerChoices("per-step")).double()
    oracle = StepNetwork(network.state_dict(), backbone, normalized=True)
    x = 3 * torch.rand(2, 3, 2, 18, 18, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, (logits, _, aligned) = network(x, tap=True), oracle.run(x)
    torch.testing.assert_close(found.logits, logits, rtol=1e-9, atol=1e-12)
    (found.logits.sum() + found.alignment.sum()).backward()
    (logits.sum() + aligned.sum()).backward()
    for name, parameter in network.body.named_parameters():
        expected = oracle.weights[f"body.{name}"].grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-9, msg=name)


def test_workers_cut_a_range_into_parts_and_pass_errors_on():
    torch.set_num_threads(3)
    crew, parts = workers.workers(), []
    crew.run(lambda part, first, last: parts.append((part, first, last)), 10)
    assert sorted(parts) == [(0, 0, 3), (1, 3, 6), (2, 6, 10)]
    crew.run(lambda *part: parts.append(part), 0)
    assert len(parts) == 3
    seen = []
    crew.run(lambda *_: seen.append(torch.get_num_threads()), 3)
    assert seen == [1, 1, 1]
    assert torch.get_num_threads() == 3

    def fail(*_):
        raise RuntimeError("a part failed")

    with pytest.raises(RuntimeError, match="a part failed"):
        crew.run(fail, 3)
    torch.set_num_threads(1)
