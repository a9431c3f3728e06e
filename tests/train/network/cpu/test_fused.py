"""Layers in one go against the same layers one after the other, in float64 so that rounding decides no spike."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tmkt_train.network import stages as layers
from tmkt_train.network.backbones import build_model
from tmkt_train.network.cpu import firing, workers
from tmkt_train.network.cpu.kernels.statistics import step_statistics
from tmkt_train.network.neurons import avg_pool, batch_norm, conv2d, keep_membrane, lif, membrane, reset, set_stream

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


def stack(norm, channels, statistics="shared", surrogate="triangle", *, geometry=None):
    """Layers with weights that differ from channel to channel."""
    torch.manual_seed(2)
    parts = [batch_norm(channels, norm, statistics), lif(surrogate)]
    if geometry is not None:
        _, outputs, kernel, padding, stride, pooled = geometry
        parts += [avg_pool()] if pooled else []
        parts.append(conv2d(channels, outputs, kernel, padding=padding, stride=stride))
    net = nn.Sequential(*parts).double()
    with torch.no_grad():
        for parameter in net[0].parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return net


def one_after_the_other(net, x):
    reset(net)
    for module in net:
        x = module(x)
    return x


def in_one_go(net, x):
    reset(net)
    return layers.run_layers(net, x)


def assert_same(net, other, x, streams=("image", "event")):
    """Compare outputs, the gradients of input and weights, and buffers."""
    y = x.detach().clone().requires_grad_()
    x = x.detach().clone().requires_grad_()
    for seed, stream in enumerate(streams):
        set_stream(net, stream)
        set_stream(other, stream)
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
    nets = [stack(norm, geometry[0], geometry=geometry) for _ in range(2)]
    assert_same(*nets, draw(3, 5, geometry[0], 9, 8) + 0.5)


@pytest.mark.parametrize("statistics", ["shared", "event"])
@pytest.mark.parametrize("surrogate", ["triangle", "rectangle"])
@pytest.mark.parametrize("trains", [True, False])
def test_neurons_alone_equal_their_layers(statistics, surrogate, trains):
    nets = [stack("per-step", 6, statistics, surrogate) for _ in range(2)]
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
    spikes, expected = in_one_go(nn.Sequential(neurons), x), plain(y)
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(membrane(neurons), membrane(plain), rtol=1e-13, atol=1e-15)
    outward = draw(2, *x.shape)
    ((spikes * outward[0]).sum() + (membrane(neurons) * outward[1]).sum()).backward()
    ((expected * outward[0]).sum() + (membrane(plain) * outward[1]).sum()).backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-12, atol=1e-14)
    x.grad = None
    in_one_go(nn.Sequential(neurons), x)
    membrane(neurons).sum().backward()
    assert x.grad.abs().sum() > 0


def test_digits_do_not_depend_on_threads():
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        net = stack("per-step", 32, geometry=(32, 64, 3, 1, 1, True)).float()
        x = draw(3, 5, 32, 10, 10, kind=torch.float32).requires_grad_()
        out = in_one_go(net, x)
        out.backward(draw(*out.shape, kind=torch.float32))
        buffers = [buffer.clone() for buffer in net.buffers()]
        found.append([out.detach(), x.grad, *buffers, *[parameter.grad for parameter in net.parameters()]])
    torch.set_num_threads(1)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_float32_is_close_where_no_spike_flips():
    net, x = stack("per-step", 64, geometry=(64, 64, 3, 1, 1, False)), draw(4, 3, 64, 12, 12)
    exact = in_one_go(net, x)
    found = in_one_go(net.float(), x.float())
    assert (found - exact).abs().median() < 1e-6


def test_kept_for_the_way_back_is_the_input_and_the_weight():
    net = stack("per-step", 32, geometry=(32, 32, 3, 1, 1, False))
    x, kept = draw(3, 5, 32, 8, 8).requires_grad_(), []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        in_one_go(net, x)
    assert sorted(kept) == sorted([x.numel(), net[2].weight.numel()])


def test_the_output_of_a_convolution_of_few_channels_is_computed_again():
    torch.manual_seed(5)
    blocks = [
        stack("per-step", 32, geometry=(32, 96, 3, 1, 1, False)),
        stack("per-step", 96, geometry=(96, 8, 1, 0, 2, True)),
    ]
    nets = [nn.Sequential(*(part for block in blocks for part in block)) for blocks in (blocks, copy.deepcopy(blocks))]
    x, kept = draw(3, 5, 32, 8, 8), []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        in_one_go(nets[0], x.clone().requires_grad_())
    assert 3 * 5 * 96 * 8 * 8 not in kept
    for net in nets:
        for module in net:
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
    assert_same(*nets, x)


def test_a_second_way_back_gives_the_same():
    net, x = stack("per-step", 32, geometry=(32, 32, 3, 1, 1, False)), draw(3, 2, 32, 8, 8).requires_grad_()
    out = in_one_go(net, x).square().sum()
    first = torch.autograd.grad(out, x, retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(out, x)[0])


def test_a_layer_that_is_watched_runs_by_itself():
    net, x = stack("per-step", 32, geometry=(32, 32, 3, 1, 1, True)), draw(3, 2, 32, 8, 8)
    expected, seen = in_one_go(net, x), []
    hook = net[1].register_forward_hook(lambda _module, _inputs, spikes: seen.append(spikes))
    torch.testing.assert_close(in_one_go(net, x), expected)
    assert set(seen[0].unique().tolist()) == {0.0, 1.0}
    hook.remove()
    in_one_go(net, x)
    assert len(seen) == 1


def test_layers_of_another_make_run_by_themselves():
    x = draw(3, 2, 32, 8, 8)
    for change in ({"v_threshold": 0.9}, {"tau": 3.0}, {"detach_reset": False}, {"decay_input": False}):
        net = stack("per-step", 32, geometry=(32, 32, 3, 1, 1, True))
        for name, value in change.items():
            setattr(net[1], name, value)
        net.eval()
        assert torch.equal(in_one_go(net, x), one_after_the_other(net, x))
    net = stack("per-step", 32, geometry=(32, 32, 3, 1, 1, False))
    net[2].bias = nn.Parameter(torch.ones(32, dtype=torch.float64))
    net.eval()
    torch.testing.assert_close(in_one_go(net, x), one_after_the_other(net, x))


def test_state_that_is_left_is_gone_on_from():
    net, x = stack("none", 4), draw(3, 2, 4, 5, 5)
    reset(net)
    net[1](x)
    again = layers.run_layers(net, x)
    reset(net)
    net[1](x)
    assert torch.equal(again, net[1](x))


def test_a_single_value_a_channel_is_refused_as_by_batch_norm():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        in_one_go(stack("per-step", 4), draw(3, 1, 4, 1, 1))


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
    network = build_model(
        backbone, num_classes=4, num_channels=2, size=(18, 18), batch_norm="per-step", num_steps=2, separate_heads=True
    ).double()
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
