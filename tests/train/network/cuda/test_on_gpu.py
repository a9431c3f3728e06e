"""Stages on a real GPU: against the float64 oracle and the plain layers, twice, without synchronization, in a graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tmkt_train.network.stages import Signal, run_plain

pytest.importorskip("triton")

from tmkt_train.network.cuda import door

from .stage_checks import BOTH, Case, Layers, check, draw, outward, run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
HALF = (torch.float16, torch.bfloat16)
NETWORKS = [
    # VGG-SNN at 48 x 48, ResNet-18 and SCNN: the shapes of their layers, in small batches.
    Case(10, 64, 3, (48, 48), streams=BOTH, outputs=128),
    Case(10, 128, 3, (48, 48), streams=BOTH, is_pooled=True, outputs=256),
    Case(10, 256, 3, (24, 24), streams=BOTH, outputs=256),
    Case(10, 512, 3, (12, 12), streams=BOTH, is_pooled=True, outputs=512),
    Case(10, 512, 3, (6, 6), streams=BOTH, is_pooled=True, keeps=True),
    Case(10, 512, 5, (6, 6), streams=BOTH, is_separate=True, outputs=512),
    Case(6, 64, 4, (48, 48), streams=BOTH, outputs=64),
    Case(4, 15, 8, (24, 24), mode="none", surrogate="rectangle", is_pooled=True, outputs=40),
    Case(4, 40, 8, (8, 8), mode="none", surrogate="rectangle", is_pooled=True),
    Case(4, 300, 8, (1, 1), mode="none", surrogate="rectangle", keeps=True),
    Case(12, 40, 3, (9, 11), mode="fused", streams=BOTH, surrogate="rectangle", is_pooled=True),
    Case(16, 128, 3, (13, 7), mode="fused", is_separate=True, streams=("image",), is_pooled=True),
    Case(16, 15, 3, (13, 7), mode="evaluation", is_separate=True, streams=BOTH, keeps=True),
    Case(10, 256, 3, (12, 12), mode="evaluation", streams=BOTH, is_pooled=True, outputs=64),
    Case(5, 33, 4, (9, 5), dtype=torch.float64, streams=BOTH, is_pooled=True),
]


@pytest.fixture(autouse=True)
def _numerics_of_a_run():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    # Else cuDNN may sum the gradient of a weight in another order each time.
    torch.use_deterministic_algorithms(True)
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch.use_deterministic_algorithms(was_deterministic)


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_a_stage_equals_the_oracle_and_itself(case):
    check(case, "cuda")
    found, again = run(case, "cuda"), run(case, "cuda")
    for one, other in zip(found.tensors(), again.tensors(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("case", NETWORKS[1:6:2], ids=str)
def test_a_stage_in_half_precision(case, dtype):
    check(replace(case, dtype=dtype), "cuda")


@pytest.mark.parametrize("surrogate", ["triangle", "rectangle"])
@pytest.mark.parametrize("mode", ["per-step", "fused", "none", "evaluation"])
def test_a_stage_equals_its_plain_layers(mode, surrogate):
    case = Case(10, 64, 4, (24, 24), mode=mode, surrogate=surrogate, dtype=torch.float64, is_pooled=True, outputs=32)
    found, expected = run(case, "cuda"), run(case, "cuda", stage_runner=run_plain)
    for one, other in zip(found.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_a_stage_in_a_graph_without_synchronization(dtype):
    case = Case(10, 64, 4, (24, 24), streams=BOTH, dtype=dtype, is_pooled=True, outputs=32)
    layers, (x, _) = Layers(case, "cuda"), draw(case, "cuda")
    x.requires_grad_()
    grad = outward(torch.Size((10, 8, 32, 12, 12)), "cuda").to(dtype)
    weights = [*layers.norm.parameters(), *layers.conv.parameters()]

    def step():
        values = door.run_stage(layers.stage, Signal(x)).values
        return [values.detach(), *torch.autograd.grad(values, [x, *weights], grad)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            expected = step()
    torch.cuda.current_stream().wait_stream(side)
    expected = [tensor.clone() for tensor in expected]
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    before = layers.norm.running_mean.clone()
    counted = layers.norm.num_batches_tracked.item()
    for tensor in found:
        tensor.fill_(torch.nan)
    graph.replay()
    torch.cuda.synchronize()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert layers.norm.num_batches_tracked.item() == counted + 20
    assert not torch.equal(before, layers.norm.running_mean)
