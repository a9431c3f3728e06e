import copy

import numpy as np
import pytest
import torch
from torch import nn

from tmkt_train.method.losses import cka
from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import Body, FrameShape, Heads, SpikingNetwork
from tmkt_train.network.neurons import conv2d, lif, spiking_layers
from tmkt_train.network.stages import LayerChoices, Stage
from tmkt_train.training.probe import (
    AC_PJ,
    MAC_PJ,
    count_macs,
    observe_pass,
    principal_components,
    side_similarity,
    synaptic_cost,
)


class TinyBody(Body):
    """Two input pixels, a 1 x 1 convolution to three channels, neurons."""

    def __init__(self):
        super().__init__()
        self.conv, self.lif = conv2d(1, 3, 1), lif()
        self.feature_size = self.alignment_size = 6

    def forward(self, frames, run):
        signal = run(Stage(convolution=self.conv), frames)
        return run(Stage(neurons=self.lif), signal).values.flatten(2)


def tiny(weight=1.0):
    """The tiny body and a head of four classes."""
    network = SpikingNetwork(TinyBody(), FrameShape(2, 1, (1, 2)), Heads(4, separate=False))
    nn.init.constant_(network.body.conv.weight, weight)
    return network


def scnn(seed=0):
    torch.manual_seed(seed)
    network = build_model("scnn", FrameShape(3, 2, (16, 16)), Heads(5, separate=True), LayerChoices("per-step"))
    with torch.no_grad():
        network.body.linear.weight.mul_(8.0)
    return network


def frames(seed=1, batch=6):
    return 4.0 * torch.rand(3, batch, 2, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_rates_and_densities_by_hand():
    # Pixels 1.5 and 0, then 0 and 0.9: h = 0.75 fires in all three channels, h = 0.45 stays silent.
    x = torch.tensor([[1.5, 0.0], [0.0, 0.9]]).view(2, 1, 1, 1, 2)
    activity = observe_pass(tiny(), x)
    assert activity.layers == ("lif",)
    np.testing.assert_allclose(activity.rates, [[0.5, 0.0]])
    assert activity.synapses == ("body.conv", "event_head")
    np.testing.assert_allclose(activity.density, [0.5, 0.25])
    assert activity.spiking.tolist() == [False, True]
    np.testing.assert_allclose(activity.features, [[0.5, 0, 0.5, 0, 0.5, 0]])


def test_cost_by_hand():
    network = tiny()
    x = torch.tensor([[1.5, 0.0], [0.0, 0.9]]).view(2, 1, 1, 1, 2)
    cost = synaptic_cost(network, observe_pass(network, x))
    # Over two steps: the convolution does 2 x 2 x 3 multiply-accumulates on values, the head 2 x 6 x 4 on spikes.
    assert cost.macs.tolist() == [12, 48]
    assert cost.operations.tolist() == [6, 12]
    np.testing.assert_allclose(cost.energy_nj, [6 * MAC_PJ / 1e3, 12 * AC_PJ / 1e3])
    np.testing.assert_allclose(cost.dense_energy_nj, [12 * MAC_PJ / 1e3, 48 * MAC_PJ / 1e3])


def test_spikes_in_are_told_from_values():
    activity = observe_pass(tiny(), torch.ones(2, 1, 1, 1, 2))
    assert activity.spiking.tolist() == [True, True]
    assert scnn_inputs().tolist() == [False, True, True, True]


def scnn_inputs():
    return observe_pass(scnn(), frames()).spiking


def test_an_observed_pass_leaves_the_network_as_it_was():
    network = scnn()
    network(frames())
    before = copy.deepcopy(network.state_dict())
    observe_pass(network, frames())
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_rates_are_those_of_the_layers():
    network = scnn()
    network(frames())
    seen = {}
    hooks = [
        node.register_forward_hook(lambda _m, _i, spikes, name=name: seen.update({name: spikes.detach().clone()}))
        for name, node in spiking_layers(network.body).items()
    ]
    network.eval()(frames())
    for hook in hooks:
        hook.remove()
    activity = observe_pass(network, frames())
    assert activity.layers == tuple(seen)
    for row, spikes in zip(activity.rates, seen.values(), strict=True):
        np.testing.assert_allclose(row, spikes.flatten(1).mean(1), rtol=1e-5)
    assert activity.rates.max() > 0


def test_similarity_is_the_alignment_of_the_spikes():
    network = scnn()
    network(frames())
    network.eval()
    spikes = {}
    for side, seed in (("image", 3), ("event", 4)):
        hooks = [
            node.register_forward_hook(lambda _m, _i, out, key=(side, name): spikes.update({key: out.detach().clone()}))
            for name, node in spiking_layers(network.body).items()
        ]
        network(frames(seed), head=side)
        for hook in hooks:
            hook.remove()
    aligned, floor = side_similarity(
        observe_pass(network, frames(3), "image"), observe_pass(network, frames(4), "event")
    )
    assert aligned.shape == floor.shape == (3, 3)
    for row, name in enumerate(("lif1", "lif2", "lif3")):
        x, y = spikes["image", name].flatten(2), spikes["event", name].flatten(2)
        np.testing.assert_allclose(aligned[row], cka(x, y), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(floor[row], cka(x, y.roll(1, dims=1)), rtol=1e-4, atol=1e-6)


def test_a_side_is_like_itself():
    network = scnn()
    network(frames())
    activity = observe_pass(network, frames())
    aligned, _ = side_similarity(activity, activity)
    np.testing.assert_allclose(aligned[:2], 1, atol=1e-4)


def test_components_are_those_of_the_covariance():
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32) * np.array(
        [5, 3, 1, 1, 1, 1], np.float32
    )
    points, shares = principal_components(features)
    values, vectors = np.linalg.eigh(np.cov(features.T.astype(np.float64)))
    for k in (0, 1):
        vector = vectors[:, -1 - k] * np.sign(vectors[np.abs(vectors[:, -1 - k]).argmax(), -1 - k])
        np.testing.assert_allclose(points[:, k], (features - features.mean(0)) @ vector, atol=1e-3)
        assert shares[k] == pytest.approx(values[-1 - k] / values.sum(), rel=1e-4)


@pytest.mark.parametrize("features", [np.zeros((4, 3), np.float32), np.ones((3, 1), np.float32)])
def test_components_of_nothing_are_zero(features):
    points, shares = principal_components(features)
    assert points.shape == (len(features), 2)
    assert not points.any()
    assert not shares.any()


@pytest.mark.parametrize(
    ("backbone", "size", "classes", "num_macs"),
    # docs/method.md, "Networks"; the head is included.
    [("vgg-snn", 48, 101, 1.362e9), ("resnet18", 48, 20, 1.248e9), ("scnn", 28, 1623, 2.07e6)],
)
def test_operations_are_those_of_the_reference(backbone, size, classes, num_macs):
    heads, choices = Heads(classes, separate=True), LayerChoices("none" if backbone == "scnn" else "per-step")
    network = build_model(backbone, FrameShape(2, 2, (size, size)), heads, choices)
    assert sum(count_macs(network).values()) == pytest.approx(num_macs, rel=2e-3)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operations_of_scnn_by_hand(dtype):
    network = build_model("scnn", FrameShape(3, 2, (28, 28)), Heads(7, separate=True), LayerChoices("none")).to(dtype)
    macs = {
        "body.conv1": 24 * 24 * 15 * 2 * 25,
        "body.conv2": 8 * 8 * 40 * 15 * 25,
        "body.linear": 640 * 300,
        "event_head": 300 * 7,
    }
    assert list(count_macs(network).items()) == list(macs.items())
