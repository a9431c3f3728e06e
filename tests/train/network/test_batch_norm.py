from __future__ import annotations

import torch
from torch import nn

from tmkt_train.network.batch_norm import batch_norm, normalize_over_ranks


def frames_of_two_scales(seed):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1.0, 6.0).view(5, 1, 1, 1, 1)
    return scale * torch.randn(5, 3, 4, 6, 6, generator=generator) + scale


def test_per_step_norm_equals_separate_calls():
    norm, plain = batch_norm(4, "per-step"), nn.BatchNorm2d(4)
    with torch.no_grad():
        for module in (norm, plain):
            module.weight.copy_(torch.tensor([1.0, 0.5, 2.0, -1.0]))
            module.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5]))
    for seed in (0, 1):  # two streams, one after the other
        x = frames_of_two_scales(seed).requires_grad_()
        z = x.detach().clone().requires_grad_()
        found, expected = norm(x), torch.stack([plain(step) for step in z])
        assert torch.equal(found, expected)
        outward = torch.randn(found.shape, generator=torch.Generator().manual_seed(9))
        found.backward(outward)
        expected.backward(outward)
        torch.testing.assert_close(x.grad, z.grad)
    torch.testing.assert_close(norm.weight.grad, plain.weight.grad)
    torch.testing.assert_close(norm.bias.grad, plain.bias.grad)
    assert torch.equal(norm.running_mean, plain.running_mean)
    assert torch.equal(norm.running_var, plain.running_var)
    assert norm.num_batches_tracked.item() == plain.num_batches_tracked.item() == 10
    assert (norm.eps, norm.momentum) == (1e-5, 0.1)


def test_fused_norm_is_one_call_and_differs_from_per_step():
    x = frames_of_two_scales(0)
    fused, plain, per_step = batch_norm(4, "fused"), nn.BatchNorm2d(4), batch_norm(4, "per-step")
    found = fused(x)
    torch.testing.assert_close(found, plain(x.flatten(0, 1)).view(x.shape))
    torch.testing.assert_close(fused.running_var, plain.running_var)
    assert fused.num_batches_tracked.item() == 1
    assert (found - per_step(x)).abs().max() > 0.1
    assert not torch.allclose(fused.running_mean, per_step.running_mean)


def test_norms_agree_in_evaluation():
    per_step, fused = batch_norm(4, "per-step"), batch_norm(4, "fused")
    per_step(frames_of_two_scales(0))
    fused.load_state_dict(per_step.state_dict())
    per_step.eval()
    fused.eval()
    x = frames_of_two_scales(1)
    torch.testing.assert_close(per_step(x), fused(x))
    torch.testing.assert_close(per_step(x), torch.stack([per_step(step.unsqueeze(0))[0] for step in x]))
    assert per_step.num_batches_tracked.item() == 5


def test_no_norm_is_the_identity():
    x = torch.randn(2, 3, 4, 5, 5)
    assert torch.equal(batch_norm(4, "none")(x), x)


def test_statistics_over_ranks_are_those_of_one_rank_alone():
    frames = frames_of_two_scales(0)[0].double().requires_grad_()
    weight, bias = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
    mean, var = torch.zeros(2, 4, dtype=torch.float64)
    expected = nn.functional.batch_norm(frames, mean, var, weight, bias, True, 1.0, 1e-5)
    found, *moments = normalize_over_ranks(frames, weight, bias, 1e-5)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(moments, [mean, var])
    assert torch.autograd.gradcheck(lambda *given: normalize_over_ranks(*given, 1e-5)[0], (frames, weight, bias))
