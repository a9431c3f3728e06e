"""Both streams in one pass against two passes, in float64 on the plain layers, so that rounding decides no spike."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tmkt_train.data.batches import Batch
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.losses import cka, tet_loss
from tmkt_train.method.methods import build_method
from tmkt_train.method.mixer import Mixer
from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.stages import LayerChoices
from tmkt_train.recipe.schema import LossTable, MixTable

TOLERANCE = 1e-10


def make(backbone, num_time_steps, batch_norm, statistics, *, separate=True):
    torch.manual_seed(0)
    shape = FrameShape(num_time_steps, 2, (20, 18) if backbone == "scnn" else (16, 17))
    return build_model(backbone, shape, Heads(5, separate=separate), LayerChoices(batch_norm, statistics)).double()


def draw(net, batch, seed):
    shape = net.frame_shape
    generator = torch.Generator().manual_seed(seed)
    size = shape.num_time_steps, batch, shape.num_channels, *shape.size
    return 3 * torch.rand(size, generator=generator, dtype=torch.float64)


def losses(net, merged, seeds=(1, 3)):
    net.train()
    total = 0
    for seed in seeds:
        mixed, events = draw(net, 4, seed), draw(net, 4, seed + 1)
        image, event = net.forward_pair(mixed, events, tap=True, merged=merged)
        labels = torch.tensor([0, 4, 2, 2])
        aligned = 1 - cka(image.alignment, event.alignment).abs().mean()
        total = total + tet_loss(image.logits, labels).mean() + tet_loss(event.logits, labels).mean() + aligned
        total = total + image.features.square().mean()
    total.backward()
    return total


SMALL = [
    (num_time_steps, "scnn", batch_norm, statistics)
    for num_time_steps in (4, 10)
    for batch_norm, statistics in [
        ("per-step", "shared"), ("per-step", "event"), ("fused", "shared"), ("fused", "event"), ("none", "shared"),
    ]
]  # fmt: skip


# A deep network takes seconds a step: its layers are those of the small one, so that few steps show as much.
@pytest.mark.parametrize(
    ("num_time_steps", "backbone", "batch_norm", "statistics"),
    [*SMALL, (3, "vgg-snn", "per-step", "shared"), (3, "resnet18", "per-step", "event")],
)
def test_one_pass_gives_loss_gradients_and_buffers_of_two(num_time_steps, backbone, batch_norm, statistics):
    two = make(backbone, num_time_steps, batch_norm, statistics)
    one = copy.deepcopy(two)
    seeds = (1, 3) if backbone == "scnn" else (1,)
    expected, found = losses(two, merged=False, seeds=seeds), losses(one, merged=True, seeds=seeds)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    for (name, here), (_, there) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        torch.testing.assert_close(here.grad, there.grad, rtol=1e-8, atol=TOLERANCE, msg=name)
    for (name, here), (_, there) in zip(one.named_buffers(), two.named_buffers(), strict=True):
        torch.testing.assert_close(here, there, rtol=TOLERANCE, atol=TOLERANCE, msg=name)
    assert any(name.endswith("num_batches_tracked") for name, _ in one.named_buffers()) == (batch_norm != "none")


@pytest.mark.parametrize(("name", "estimator"), [("kt", "biased"), ("kt+tsm", "biased"), ("tmkt", "debiased")])
def test_one_pass_gives_the_loss_and_the_gradients_of_each_method(name, estimator):
    net = make("scnn", 4, "per-step", "event")
    loss = LossTable(cka=estimator, coefficients="learned")
    method = build_method(name, loss, mixer=Mixer(4, MixTable(), 0.5, "cubic"), feature_size=net.feature_size).double()
    rows = np.arange(4)
    keys = DrawKeys(0, 0, rows.astype(np.uint64), np.zeros(4, np.int64))
    batch = Batch(draw(net, 4, 1), draw(net, 4, 2), torch.tensor([0, 4, 2, 2]), rows, keys)
    found = []
    for merged in (False, True):
        one = copy.deepcopy(net)
        one.forward_pair = partial(one.forward_pair, merged=merged)
        method.zero_grad()
        objective = method(one, batch, 0.5)
        objective.loss.backward()
        parameters = [*one.parameters(), *method.parameters()]
        found.append((objective.loss, objective.terms, [parameter.grad.clone() for parameter in parameters]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=TOLERANCE)


@pytest.mark.parametrize("statistics", ["shared", "event"])
def test_one_pass_in_evaluation_uses_the_statistics_of_each_stream(statistics):
    net = make("scnn", 4, "per-step", statistics)
    losses(net, merged=False)
    net.eval()
    mixed, events = draw(net, 3, 5), draw(net, 3, 6)
    with torch.no_grad():
        for found, expected in zip(
            net.forward_pair(mixed, events, tap=True, merged=True),
            net.forward_pair(mixed, events, tap=True),
            strict=True,
        ):
            torch.testing.assert_close(found.logits, expected.logits, rtol=TOLERANCE, atol=TOLERANCE)
            torch.testing.assert_close(found.alignment, expected.alignment, rtol=TOLERANCE, atol=TOLERANCE)


def test_one_head_classifies_both_streams():
    net = make("scnn", 4, "per-step", "shared", separate=False)
    mixed = draw(net, 2, 1)
    image, event = net.forward_pair(mixed, mixed, merged=True)
    torch.testing.assert_close(image.logits, event.logits)
    assert image.alignment is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_passes_between_layers_and_heads_and_gradients_are_float32(dtype):
    net = make("scnn", 4, "per-step", "shared").float()
    net.compute_dtype = dtype
    seen = set()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, result: seen.add(result.dtype))
    image, event = net.forward_pair(draw(net, 4, 1).float(), draw(net, 4, 2).float(), tap=True, merged=True)
    loss = tet_loss(image.logits, torch.arange(4)).mean() - cka(image.alignment, event.alignment).mean()
    loss.backward()
    assert seen == {dtype}
    assert {part.dtype for output in (image, event) for part in (output.logits, output.features, output.alignment)} == {
        torch.float32
    }
    assert {parameter.grad.dtype for parameter in net.body.parameters()} == {torch.float32}
    assert all(parameter.grad.isfinite().all() for parameter in net.body.parameters())
    assert all(buffer.isfinite().all() for buffer in net.buffers())
