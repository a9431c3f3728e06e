from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tmkt_train.network.neurons import (
    THRESHOLD,
    avg_pool,
    conv2d,
    keep_membrane,
    lif,
    membrane,
    reset,
    spiking_layers,
)

SLOPES = {
    "triangle": lambda z: np.maximum(0.0, 2.0 - 4.0 * np.abs(z)),
    "rectangle": lambda z: (np.abs(z) < 0.5).astype(np.float64),
}


def oracle(x, grad_spikes, grad_membrane, surrogate):
    """One step at a time, the formulas of the reference: charge, fire, reset, and the gradient of all three.

    h = v + (x - v) / 2; s = 1[h > .5]; v = h (1 - s); backward
    dh_t = g^s_t g'(h_t - .5) + (g^v_t + dh_{t+1} / 2) (1 - s_t); dx_t = dh_t / 2.
    """
    v, charges, spikes, potentials = np.zeros_like(x[0]), [], [], []
    for step in x:
        h = v + (step - v) / np.float32(2.0)
        s = (h > np.float32(0.5)).astype(x.dtype)
        v = h * (1 - s)
        charges.append(h)
        spikes.append(s)
        potentials.append(v)
    later, grads = np.zeros(x.shape[1:], dtype=np.float64), []
    for h, s, gs, gv in reversed(list(zip(charges, spikes, grad_spikes, grad_membrane, strict=True))):
        later = gs * SLOPES[surrogate](h.astype(np.float64) - 0.5) + (gv + 0.5 * later) * (1 - s)
        grads.append(later / 2.0)
    return np.stack(spikes), np.stack(potentials), np.stack(grads[::-1])


def run(neurons, x):
    reset(neurons)
    keep_membrane(neurons, True)
    spikes = neurons(x)
    return spikes, membrane(neurons)


@pytest.mark.parametrize("surrogate", ["triangle", "rectangle"])
@pytest.mark.parametrize("through", ["spikes", "membrane", "both"])
def test_lif_against_oracle(surrogate, through):
    rng = np.random.default_rng(1)
    x = (1.2 * rng.standard_normal((10, 8, 64))).astype(np.float32)
    grad_spikes, grad_membrane = rng.standard_normal((2, *x.shape)).astype(np.float32)
    if through == "spikes":
        grad_membrane[:] = 0
    elif through == "membrane":
        grad_spikes[:] = 0
    inputs = torch.from_numpy(x).requires_grad_()
    spikes, potentials = run(lif(surrogate), inputs)
    (spikes * torch.from_numpy(grad_spikes) + potentials * torch.from_numpy(grad_membrane)).sum().backward()
    expected_spikes, expected_potentials, expected_grad = oracle(x, grad_spikes, grad_membrane, surrogate)
    assert 0.02 < expected_spikes.mean() < 0.9
    np.testing.assert_array_equal(spikes.detach(), expected_spikes)
    np.testing.assert_array_equal(potentials.detach(), expected_potentials)
    np.testing.assert_allclose(inputs.grad, expected_grad, rtol=1e-5, atol=1e-6)


def test_threshold_is_strict():
    at_threshold, above = torch.full((1, 1, 1), 1.0), torch.full((1, 1, 1), 1.0 + 2.0**-22)
    assert THRESHOLD == 0.5 + 2.0**-24
    assert run(lif(), at_threshold)[0].item() == 0.0
    assert run(lif(), above)[0].item() == 1.0


def test_state_carries_over_until_reset():
    neurons, x = lif(), torch.full((2, 1, 1), 0.55)
    calls = [neurons(x).flatten().tolist() for _ in range(2)]
    reset(neurons)
    calls.append(neurons(x).flatten().tolist())
    # h is .275, .4125 in the first call, and .48125, .515625 in a call that goes on from there.
    assert calls == [[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]


def test_reset_drops_membrane():
    neurons = lif()
    run(neurons, torch.rand(2, 3, 4))
    reset(neurons)
    assert membrane(neurons) is None


def test_membrane_is_stored_only_when_asked():
    neurons, x = lif(), torch.rand(2, 3, 4)
    neurons(x)
    assert membrane(neurons) is None
    keep_membrane(neurons, True)
    neurons(x)
    assert membrane(neurons).shape == x.shape
    keep_membrane(neurons, False)
    assert membrane(neurons) is None


def test_spiking_layers_come_by_name():
    net = nn.Sequential(conv2d(2, 3, 3), lif(), nn.Sequential(nn.Linear(4, 5), lif("rectangle")))
    assert list(spiking_layers(net)) == ["1", "2.1"]


def test_layers_equal_single_steps():
    x, conv = torch.randn(3, 2, 4, 9, 8), conv2d(4, 5, 3, padding=1)
    assert conv.bias is None
    expected = torch.stack([nn.functional.conv2d(step, conv.weight, padding=1) for step in x])
    torch.testing.assert_close(conv(x), expected)
    torch.testing.assert_close(avg_pool()(x), torch.stack([nn.functional.avg_pool2d(step, 2) for step in x]))
