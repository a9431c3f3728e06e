"""The networks against a per-step oracle without spikingjelly: forward, membranes, statistics and gradients."""

import numpy as np
import pytest
import torch

from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.neurons import keep_membrane, lif, membrane
from tmkt_train.network.stages import LayerChoices

from ..step_oracle import Spike, StepNetwork

CASES = [("vgg-snn", "per-step", 16), ("resnet18", "per-step", 16), ("scnn", "per-step", 18), ("scnn", "none", 18)]


def build(backbone, norm, size, **choices):
    torch.manual_seed(3)
    shape = FrameShape(3, 2, (size, size))
    network = build_model(backbone, shape, Heads(4, separate=True), LayerChoices(norm, **choices))
    if backbone == "scnn":
        with torch.no_grad():
            network.body.linear.weight.mul_(8.0)  # at this size the last layer would else be silent
    return network.double()


def frames(size, seed):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(3, 4, 2, size, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("backbone", "norm", "size"), CASES)
def test_two_streams_equal_the_oracle_in_every_output_and_gradient(backbone, norm, size, plain):
    # In float64, so that rounding does not decide whether a neuron fires.
    network = build(backbone, norm, size)
    oracle = StepNetwork(network.state_dict(), backbone, normalized=norm != "none")
    total, expected = torch.zeros(()), torch.zeros(())
    for head, seed in (("image", 1), ("event", 2)):
        x = frames(size, seed)
        found = network(x, head=head, tap=True, plain=plain)
        for name, there in zip(("logits", "features", "alignment"), oracle.run(x, head), strict=True):
            here = getattr(found, name)
            torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-12)
            outward = torch.randn(here.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            total, expected = total + (here * outward).sum(), expected + (there * outward).sum()
    assert oracle.potentials
    total.backward()
    expected.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
        torch.testing.assert_close(parameter.grad, oracle.weights[name].grad, rtol=1e-6, atol=1e-9, msg=name)
    for name, value in network.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(value, oracle.weights[name].detach(), rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("backbone", "norm", "size"), CASES)
def test_evaluation_equals_the_oracle(backbone, norm, size, plain):
    network = build(backbone, norm, size)
    network(frames(size, 5))
    network.eval()
    oracle = StepNetwork(network.state_dict(), backbone, normalized=norm != "none")
    logits, _, _ = oracle.run(frames(size, 6), training=False)
    torch.testing.assert_close(network(frames(size, 6), plain=plain).logits, logits, rtol=1e-9, atol=1e-12)


def lif_by_hand(x, surrogate, spike_grads, potential_grads):
    """Five steps of the equations in docs/method.md, "Neurons", and their backward recursion, in float64 NumPy."""
    v, h, s, potentials = np.zeros(x.shape[1:]), [], [], []
    for charge in x:
        h.append(v + (charge - v) / 2)
        s.append((h[-1] > 0.5).astype(float))
        v = h[-1] * (1 - s[-1])
        potentials.append(v)
    grads, later = np.zeros_like(x), np.zeros(x.shape[1:])
    for t in reversed(range(len(x))):
        z = np.abs(h[t] - 0.5)
        slope = np.maximum(0, 2 - 4 * z) if surrogate == "triangle" else (z < 0.5).astype(float)
        later = spike_grads[t] * slope + (potential_grads[t] + 0.5 * later) * (1 - s[t])
        grads[t] = later / 2
    return np.array(s), np.array(potentials), grads


@pytest.mark.parametrize("surrogate", ["triangle", "rectangle"])
def test_neurons_equal_the_formulas_over_five_steps(surrogate):
    draw = np.random.default_rng(4)
    x = draw.normal(0.5, 1.0, (5, 300))
    spike_grads, potential_grads = draw.normal(size=x.shape), draw.normal(size=x.shape)
    neurons, given = lif(surrogate), torch.tensor(x, requires_grad=True)
    keep_membrane(neurons, True)
    spikes = neurons(given)
    ((spikes * torch.tensor(spike_grads)).sum() + (membrane(neurons) * torch.tensor(potential_grads)).sum()).backward()
    s, v, grads = lif_by_hand(x, surrogate, spike_grads, potential_grads)
    assert 0.1 < s.mean() < 0.9
    np.testing.assert_array_equal(spikes.detach(), s)
    np.testing.assert_allclose(membrane(neurons).detach(), v, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(given.grad, grads, atol=1e-6)  # the surrogate lies 6e-8 higher than in the formula


def test_a_neuron_at_the_threshold_stays_silent():
    # h = x / 2 = 0.5 exactly in the first step: the rule is strict.
    x = torch.full((1, 3), 1.0)
    assert lif()(x).tolist() == [[0, 0, 0]]
    assert Spike.apply(x / 2, "triangle").tolist() == [[0, 0, 0]]
    assert lif()(x + 2e-7).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("surrogate", "slopes"), [("triangle", [0, 0, 1, 2, 1, 0, 0]), ("rectangle", [0, 0, 1, 1, 1, 0, 0])]
)
def test_surrogates_by_hand(surrogate, slopes):
    z = torch.tensor([-0.6, -0.501, -0.25, 0.0, 0.25, 0.501, 0.6])
    x = (2 * (z + 0.5)).view(1, -1).requires_grad_()
    lif(surrogate)(x).sum().backward()
    # The input counts by half.
    np.testing.assert_allclose(2 * x.grad[0], slopes, atol=1e-6)


def test_statistics_of_the_event_stream_apart():
    shared, apart = (build("scnn", "per-step", 18, statistics=name) for name in ("shared", "event"))
    alone = build("scnn", "per-step", 18)
    for network in (shared, apart):
        first = network(frames(18, 1) * 5, head="image")
        network(frames(18, 2), head="event")
    assert first.logits.requires_grad
    alone(frames(18, 2), head="event")
    for name in ("running_mean", "running_var"):
        here, there = (getattr(network.body.norm1, name) for network in (apart, alone))
        torch.testing.assert_close(here, there)
        assert not torch.allclose(getattr(shared.body.norm1, name), there)
    for network in (shared, apart, alone):
        network.eval()
    logits = [network(frames(18, 3)).logits for network in (apart, alone, shared)]
    torch.testing.assert_close(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])
    assert not torch.allclose(apart(frames(18, 3), head="image").features, apart(frames(18, 3)).features)


def test_choices_of_statistics_train_alike():
    losses = []
    for name in ("shared", "event"):
        network = build("scnn", "per-step", 18, statistics=name)
        losses.append(
            [network(frames(18, seed), head=head).logits.sum().item() for seed, head in ((1, "image"), (2, "event"))]
        )
    assert losses[0] == losses[1]
