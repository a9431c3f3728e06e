from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tmkt_data.errors import SpecError
from tmkt_train.method.auxiliary import AuxiliaryHeads, RegularizationCoefficients
from tmkt_train.method.losses import alignment_loss, cka, modality_guidance_loss, ratio_perception_loss, tet_loss
from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import FrameShape, Heads, NetworkOutput
from tmkt_train.network.neurons import spiking_layers
from tmkt_train.network.stages import LayerChoices, Signal, run_plain


def build(backbone="scnn", *, classes=5, size=(16, 16), steps=3, norm=None, separate=True, channels=2, seed=0):
    torch.manual_seed(seed)
    mode = norm or ("none" if backbone == "scnn" else "per-step")
    return build_model(backbone, FrameShape(steps, channels, size), Heads(classes, separate), LayerChoices(mode))


def frames(steps=3, batch=2, channels=2, size=(16, 16), seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 4.0 * torch.rand(steps, batch, channels, *size, generator=generator)


def build_lively_scnn():
    network = build("scnn", norm="per-step")
    with torch.no_grad():
        network.body.linear.weight.mul_(8.0)  # at 16 x 16 the last layer would else be silent from the start
    return network


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_vgg_snn_counts():
    # Counts of the reference training model: two heads and T coefficients; one head in evaluation.
    network = build("vgg-snn", classes=101, size=(48, 48), steps=10)
    assert count(network) == 10_153_674
    assert count(network) + count(RegularizationCoefficients(10)) == 10_153_684
    assert count(build("vgg-snn", classes=101, size=(48, 48), steps=10, separate=False)) == 9_688_165
    parts = dict.fromkeys((nn.Conv2d, nn.BatchNorm2d, nn.Linear), 0)
    for module in network.modules():
        for kind in parts:
            if isinstance(module, kind):
                parts[kind] += count(module)
    assert list(parts.values()) == [9_217_152, 5_504, 2 * 465_509]
    assert (network.feature_size, network.alignment_size) == (4_608, 18_432)
    assert all(module.bias is None for module in network.modules() if isinstance(module, nn.Conv2d))


def test_scnn_counts_and_start():
    network = build("scnn", classes=1623, size=(28, 28), steps=12, separate=False)
    assert count(network) == 696_573
    assert count(network) + count(RegularizationCoefficients(12)) == 696_585
    assert (network.feature_size, network.alignment_size) == (300, 300)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions:
        assert module.bias is None
        spread = (2.0 / module.weight[0].numel()) ** 0.5
        assert module.weight.std().item() == pytest.approx(spread, rel=0.1)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            assert 0.099 < module.weight.abs().max().item() <= 0.1
            assert module.weight.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.02)


def test_resnet18_counts_and_start():
    network = build("resnet18", classes=20, size=(48, 48), steps=6)
    assert count(network) + count(RegularizationCoefficients(6)) == 11_187_886
    assert count(build("resnet18", classes=20, size=(48, 48), steps=6, separate=False)) == 11_177_620
    assert (network.feature_size, network.alignment_size, network.body.tapped) == (512, 512, None)
    assert len(network.spiking_layer_names) == 19
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is None
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
            assert module.weight.std().item() == pytest.approx((2.0 / fan_out) ** 0.5, rel=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


@pytest.mark.parametrize(
    ("backbone", "size", "num_neurons"),
    # docs/method.md, "Networks".
    [("vgg-snn", 48, 921_600), ("resnet18", 48, 1_492_992), ("scnn", 28, 15 * 24**2 + 40 * 8**2 + 300)],
)
def test_neuron_counts(backbone, size, num_neurons):
    network, sizes = build(backbone, size=(size, size), steps=2), {}
    for name, neurons in spiking_layers(network).items():
        neurons.register_forward_hook(
            lambda _module, _inputs, spikes, name=name: sizes.update({name: spikes[0, 0].numel()})
        )
    network.eval()(frames(2, 1, size=(size, size)))
    assert sum(sizes.values()) == num_neurons


@pytest.mark.parametrize("tap", [False, True])
@pytest.mark.parametrize(
    ("backbone", "size", "feature", "potential", "channels"),
    [
        ("vgg-snn", (16, 16), 512, 2048, 2),
        ("vgg-snn", (21, 33), 512 * 2, 512 * 2 * 4, 1),
        ("resnet18", (8, 8), 512, 512, 2),
        ("resnet18", (21, 33), 512, 512, 1),
        ("scnn", (16, 16), 300, 300, 2),
        ("scnn", (28, 31), 300, 300, 3),
    ],
)
def test_shapes(backbone, size, feature, potential, channels, tap):
    network = build(backbone, size=size, channels=channels)
    output = network(frames(size=size, channels=channels), tap=tap)
    assert isinstance(output, NetworkOutput)
    assert output.logits.shape == (3, 2, 5)
    assert output.features.shape == (3, 2, feature)
    assert network.feature_size == feature
    assert network.alignment_size == potential
    assert (output.alignment is not None) == tap
    if tap:
        assert output.alignment.shape == (3, 2, potential)


@pytest.mark.parametrize(("backbone", "num_layers"), [("vgg-snn", 8), ("scnn", 3)])
def test_spiking_layers(backbone, num_layers):
    network = build(backbone)
    assert network.spiking_layer_names == [f"lif{number}" for number in range(1, num_layers + 1)]
    surrogates = {type(node.surrogate_function).__name__ for node in spiking_layers(network).values()}
    assert surrogates == {"PiecewiseQuadratic" if backbone == "vgg-snn" else "Rect"}


@pytest.mark.parametrize("backbone", ["vgg-snn", "resnet18", "scnn"])
@pytest.mark.parametrize("norm", ["per-step", "fused", "none"])
def test_every_pass_starts_from_rest(backbone, norm):
    network = build(backbone, norm=norm).eval()
    first, other = network(frames(), tap=True), network(frames(batch=3, seed=2))
    again = network(frames(), tap=True)
    assert other.logits.shape[1] == 3
    for name in ("logits", "features", "alignment"):
        assert torch.equal(getattr(first, name), getattr(again, name))


def test_a_pass_ignores_state_that_someone_left():
    network = build_lively_scnn().eval()
    first = network(frames(), tap=True)
    network.body(Signal(frames(seed=3)), run_plain)  # runs the neurons without the network's own reset
    again = network(frames(), tap=True)
    assert torch.equal(first.alignment, again.alignment)


@pytest.mark.parametrize("backbone", ["vgg-snn", "scnn"])
def test_tap_is_membrane_after_reset_of_last_layer(backbone):
    network = build(backbone, norm="per-step")
    seen = []
    last = list(spiking_layers(network).values())[-1]
    hook = last.register_forward_hook(lambda _module, inputs, spikes: seen.append((inputs[0], spikes)))
    output = network(frames(), tap=True)
    hook.remove()
    (charge, spikes), v = seen[0], 0.0
    for t in range(3):
        h = v + (charge[t] - v) / 2.0
        v = torch.where(h > 0.5, 0.0, h)
        assert torch.equal(spikes[t], (h > 0.5).float())
        torch.testing.assert_close(output.alignment[t], v.flatten(1))
    assert output.alignment.abs().sum() > 0


def test_resnet18_aligns_by_its_real_valued_feature():
    output = build("resnet18")(frames(), tap=True)
    assert output.alignment is output.features
    assert len(output.features.unique()) > 512
    assert output.features.min() < 0


@pytest.mark.parametrize(("surrogate", "name"), [("triangle", "PiecewiseQuadratic"), ("rectangle", "Rect")])
def test_surrogate_can_be_chosen(surrogate, name):
    choices = LayerChoices("none", surrogate=surrogate)
    network = build_model("scnn", FrameShape(2, 2, (16, 16)), Heads(3, separate=False), choices)
    assert {type(node.surrogate_function).__name__ for node in spiking_layers(network).values()} == {name}


def test_vgg_feature_is_pooled_spikes_and_scnn_feature_is_spikes():
    features = build("vgg-snn")(frames()).features
    assert set(features.unique().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert features.sum() > 0
    features = build_lively_scnn()(frames()).features
    assert set(features.unique().tolist()) == {0.0, 1.0}


def test_logits_are_the_head_at_each_step():
    network = build()
    x = frames()
    for head, layer in (("event", network.event_head), ("image", network.image_head)):
        output = network(x, head=head)
        torch.testing.assert_close(output.logits, torch.stack([layer(step) for step in output.features]))
    assert not torch.equal(network(x, head="image").logits, network(x, head="event").logits)


def test_shared_head_serves_both_streams():
    network = build(separate=False)
    assert network.image_head is None
    assert torch.equal(network(frames(), head="image").logits, network(frames(), head="event").logits)


def test_evaluation_network_takes_event_weights_of_training_network():
    two, one = build(seed=0), build(separate=False, seed=1)
    weights = {name: value for name, value in two.state_dict().items() if not name.startswith("image_head.")}
    one.load_state_dict(weights)
    assert torch.equal(two.eval()(frames()).logits, one.eval()(frames()).logits)


def test_steps_are_causal():
    network = build_lively_scnn()
    network(frames())  # running statistics
    network.eval()
    x = frames()
    changed = x.clone()
    changed[2] *= 3.0
    first, second = network(x).logits, network(changed).logits
    assert torch.equal(first[:2], second[:2])
    assert not torch.equal(first[2], second[2])


def test_rows_do_not_mix_in_evaluation():
    network = build_lively_scnn().eval()
    x = frames(batch=4)
    together = network(x).logits
    alone = torch.cat([network(x[:, b : b + 1]).logits for b in range(4)], dim=1)
    torch.testing.assert_close(together, alone)


def test_a_pass_leaves_no_graph_behind():
    network = build()
    network(frames(), tap=True).logits.sum().backward()
    twin = copy.deepcopy(network)  # fails while a layer holds a tensor with a graph
    assert torch.equal(twin(frames()).logits, network(frames()).logits)


@pytest.mark.parametrize(("norm", "calls"), [("per-step", 3), ("fused", 1)])
def test_norm_updates_per_pass(norm, calls):
    network = build("scnn", norm=norm)
    network(frames())
    assert network.state_dict()["body.norm1.num_batches_tracked"].item() == calls


def test_each_loss_reaches_its_parameters():
    def reached(loss, modules):
        return {
            name: any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
            for name, module in modules.items()
        } | {"loss": loss.isfinite().item()}

    labels = torch.tensor([0, 3, 1])
    mask = torch.tensor([[False, False, True], [False, True, True], [True, True, True]])
    for term in ("image", "event", "alignment", "modality", "ratio"):
        network = build("scnn", norm="per-step")
        heads = AuxiliaryHeads(network.feature_size)
        image = network(frames(batch=3), head="image", tap=True)
        event = network(frames(batch=3, seed=5), head="event", tap=True)
        loss = {
            "image": lambda image=image: tet_loss(image.logits, labels).mean(),
            "event": lambda event=event: tet_loss(event.logits, labels).mean(),
            "alignment": lambda a=image, b=event: alignment_loss(cka(a.alignment, b.alignment)),
            "modality": lambda image=image, heads=heads: modality_guidance_loss(heads.modality(image.features), mask),
            "ratio": lambda image=image, heads=heads: ratio_perception_loss(
                heads.ratio(image.features), mask.float().mean(0)
            ),
        }[term]()
        loss.backward()
        modules = {
            "body": network.body,
            "image": network.image_head,
            "event": network.event_head,
            "modality": heads.modality_head,
            "ratio": heads.ratio_head,
        }
        found = reached(loss, modules)
        expected = {name: name in ("body", term) for name in modules} | {"loss": True}
        assert found == expected, term


def test_auxiliary_heads():
    torch.manual_seed(0)
    heads, features = AuxiliaryHeads(7), torch.randn(4, 3, 7)
    modality = heads.modality(features)
    assert modality.shape == (4, 3)
    expected = features.numpy() @ heads.modality_head.weight.detach().numpy()[0]
    np.testing.assert_allclose(modality.detach(), expected + heads.modality_head.bias.item(), rtol=1e-5, atol=1e-6)
    ratio = heads.ratio(features)
    assert ratio.shape == (3,)
    logits = features.numpy().mean(0) @ heads.ratio_head.weight.detach().numpy()[0]
    logits = logits + heads.ratio_head.bias.item()
    np.testing.assert_allclose(ratio.detach(), 1 / (1 + np.exp(-logits)), rtol=1e-5)
    assert count(heads) == 16


def test_coefficients():
    learned = RegularizationCoefficients(4)
    np.testing.assert_allclose(learned().detach(), [0.7310586] * 4, rtol=1e-6)
    assert [tuple(p.shape) for p in learned.parameters()] == [(4,)]
    fixed = RegularizationCoefficients(4, "fixed", 0.0)
    assert fixed().tolist() == [0.0] * 4
    assert count(fixed) == 0
    assert RegularizationCoefficients(4, "off")() is None


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_coefficient_outside_unit_interval(value):
    with pytest.raises(SpecError, match=r"^regularization: coefficient .*, expected 0 to 1; "):
        RegularizationCoefficients(4, "fixed", value)


@pytest.mark.parametrize("backbone", ["vgg-snn", "scnn"])
@pytest.mark.parametrize("size", [(15, 32), (32, 15)])
def test_too_small_input(backbone, size):
    message = (
        f"{backbone}: input {size[0]} x {size[1]}, expected at least 16 x 16; prepare the cache with a larger size"
    )
    with pytest.raises(SpecError) as caught:
        build(backbone, size=size)
    assert str(caught.value) == message


@pytest.mark.parametrize("shape", [(2, 3, 2, 16, 16), (3, 2, 1, 16, 16), (3, 2, 2, 16, 17), (3, 2, 16, 16)])
def test_other_frames_are_refused(shape):
    expected = r"^network: frames \(.*\), expected \[T=3, B, C=2, H=16, W=16\]; [^\n]+$"
    with pytest.raises(SpecError, match=expected):
        build()(torch.zeros(shape))


def test_same_seed_same_weights():
    first, second = build(seed=4).state_dict(), build(seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
