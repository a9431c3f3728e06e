import copy

import numpy as np
import pytest
import torch
from torch import nn

from tmkt_train.method.losses import cka
from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import FrameShape, SpikingNetwork
from tmkt_train.network.neurons import conv2d, flatten, lif, spiking_layers
from tmkt_train.training.probe import AC_PJ, MAC_PJ, principal_components, read_pass, side_similarity, synaptic_cost


def tiny(weight=1.0):
    """Two input pixels, a 1 x 1 convolution to three channels, neurons, and a head of four classes."""
    body = nn.Sequential(conv2d(1, 3, 1), lif(), flatten())
    network = SpikingNetwork(
        body, nn.Sequential(), frame_shape=FrameShape(2, 1, (1, 2)), tapped=None, alignment_size=6, feature_size=6,
        num_classes=4, separate_heads=False,
    )  # fmt: skip
    nn.init.constant_(body[0].weight, weight)
    return network


def scnn(seed=0):
    torch.manual_seed(seed)
    network = build_model(
        "scnn", num_classes=5, num_channels=2, size=(16, 16), batch_norm="per-step", num_steps=3, separate_heads=True
    )
    with torch.no_grad():
        network.body.linear.weight.mul_(8.0)
    return network


def frames(seed=1, batch=6):
    return 4.0 * torch.rand(3, batch, 2, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_rates_and_densities_by_hand():
    # Pixels 1.5 and 0, then 0 and 0.9: h = 0.75 fires in all three channels, h = 0.45 stays silent.
    x = torch.tensor([[1.5, 0.0], [0.0, 0.9]]).view(2, 1, 1, 1, 2)
    reading = read_pass(tiny(), x)
    assert reading.layers == ("1",)
    np.testing.assert_allclose(reading.rates, [[0.5, 0.0]])
    assert reading.synapses == ("body.0", "event_head")
    np.testing.assert_allclose(reading.density, [0.5, 0.25])
    assert reading.spiking.tolist() == [False, True]
    np.testing.assert_allclose(reading.features, [[0.5, 0, 0.5, 0, 0.5, 0]])


def test_cost_by_hand():
    network = tiny()
    x = torch.tensor([[1.5, 0.0], [0.0, 0.9]]).view(2, 1, 1, 1, 2)
    cost = synaptic_cost(network, read_pass(network, x))
    # Over two steps: the convolution does 2 x 2 x 3 multiply-accumulates on values, the head 2 x 6 x 4 on spikes.
    assert cost.macs.tolist() == [12, 48]
    assert cost.operations.tolist() == [6, 12]
    np.testing.assert_allclose(cost.energy_nj, [6 * MAC_PJ / 1e3, 12 * AC_PJ / 1e3])
    np.testing.assert_allclose(cost.dense_energy_nj, [12 * MAC_PJ / 1e3, 48 * MAC_PJ / 1e3])


def test_spikes_in_are_told_from_values():
    reading = read_pass(tiny(), torch.ones(2, 1, 1, 1, 2))
    assert reading.spiking.tolist() == [True, True]
    assert scnn_inputs().tolist() == [False, True, True, True]


def scnn_inputs():
    return read_pass(scnn(), frames()).spiking


def test_a_reading_leaves_the_network_as_it_was():
    network = scnn()
    network(frames())
    before = copy.deepcopy(network.state_dict())
    read_pass(network, frames())
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
    reading = read_pass(network, frames())
    assert reading.layers == tuple(seen)
    for row, spikes in zip(reading.rates, seen.values(), strict=True):
        np.testing.assert_allclose(row, spikes.flatten(1).mean(1), rtol=1e-5)
    assert reading.rates.max() > 0


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
    aligned, floor = side_similarity(read_pass(network, frames(3), "image"), read_pass(network, frames(4), "event"))
    assert aligned.shape == floor.shape == (3, 3)
    for row, name in enumerate(("lif1", "lif2", "lif3")):
        x, y = spikes["image", name].flatten(2), spikes["event", name].flatten(2)
        np.testing.assert_allclose(aligned[row], cka(x, y), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(floor[row], cka(x, y.roll(1, dims=1)), rtol=1e-4, atol=1e-6)


def test_a_side_is_like_itself():
    network = scnn()
    network(frames())
    reading = read_pass(network, frames())
    aligned, _ = side_similarity(reading, reading)
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
