from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.autograd import gradcheck

from tmkt_data.errors import SpecError
from tmkt_train.method.auxiliary import RegularizationCoefficients
from tmkt_train.method.losses import (
    alignment_loss,
    cka,
    cka_and_floor,
    distillation_loss,
    mean_logits_loss,
    modality_guidance_loss,
    ratio_perception_loss,
    shuffled_cka,
    tet_loss,
    weighted_event_loss,
)

finite = st.floats(-20, 20, width=32)


def log_softmax(values):
    peak = values.max(axis=-1, keepdims=True)
    return values - peak - np.log(np.exp(values - peak).sum(axis=-1, keepdims=True))


def naive_tet(logits, labels, weight=1e-3, margin=0.5):
    losses = []
    for step in np.asarray(logits, dtype=np.float64):
        entropy = -np.mean([log_softmax(row)[label] for row, label in zip(step, labels, strict=True)])
        losses.append((1 - weight) * entropy + weight * np.mean((step - margin) ** 2))
    return np.array(losses)


def naive_cka(x, y):
    """The uncentered Grams between two centering matrices H, step by step, in float64."""
    values = []
    for a, b in zip(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), strict=True):
        h = np.eye(len(a)) - 1.0 / len(a)
        k, l = h @ a @ a.T @ h, h @ b @ b.T @ h  # noqa: E741
        values.append(np.sum(k * l) / (np.linalg.norm(k) * np.linalg.norm(l) + 1e-7))
    return np.array(values)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_the_divergence_from_the_teacher(temperature):
    logits, teacher = normal(3, 5, 7, dtype=torch.float64), normal(4, 5, 7, seed=1, dtype=torch.float64)
    student, expected = (log_softmax(each.numpy().mean(axis=0) / temperature) for each in (logits, teacher))
    divergence = np.mean(np.sum(np.exp(expected) * (expected - student), axis=1))
    found = distillation_loss(logits, teacher, temperature)
    assert found.item() == pytest.approx(temperature**2 * divergence, rel=1e-12)
    assert distillation_loss(logits, logits, temperature).item() == pytest.approx(0, abs=1e-12)


def test_distillation_teaches_the_student_alone():
    logits, teacher = (normal(3, 5, 7, seed=seed, dtype=torch.float64).requires_grad_() for seed in (0, 1))
    distillation_loss(logits, teacher, 2.0).backward()
    assert teacher.grad is None
    # Of each step: (softmax(student / C) - softmax(teacher / C)) C / (T B).
    student, expected = ((each.detach().mean(dim=0) / 2).softmax(dim=1) for each in (logits, teacher))
    torch.testing.assert_close(logits.grad, ((student - expected) * 2 / 15).expand(3, 5, 7))


def test_tet_of_zero_logits():
    losses = tet_loss(torch.zeros(3, 4, 101), torch.tensor([0, 5, 99, 100]))
    np.testing.assert_allclose(losses, [4.610755] * 3, rtol=0, atol=5e-7)
    assert losses[0].item() == pytest.approx(0.999 * np.log(101) + 0.001 * 0.25, abs=1e-6)


@given(logits=arrays(np.float32, (2, 3, 5), elements=finite), labels=st.tuples(*[st.integers(0, 4)] * 3))
@settings(deadline=None)
def test_tet_against_naive(logits, labels):
    found = tet_loss(torch.from_numpy(logits), torch.tensor(labels), margin_weight=0.2, margin=1.5)
    np.testing.assert_allclose(found, naive_tet(logits, labels, 0.2, 1.5), rtol=1e-5, atol=1e-5)


def test_tet_steps_are_separate():
    logits, labels = normal(4, 3, 6).requires_grad_(), torch.tensor([1, 0, 5])
    tet_loss(logits, labels)[2].backward()
    assert logits.grad[2].abs().sum() > 0
    assert logits.grad[[0, 1, 3]].abs().sum() == 0


def test_tet_gradient():
    logits = normal(2, 3, 4, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda z: tet_loss(z, torch.tensor([3, 0, 1])), logits)


def test_mean_logits_loss_against_naive():
    logits, labels = normal(5, 3, 7), torch.tensor([6, 0, 2])
    rows = log_softmax(logits.double().mean(dim=0).numpy())
    expected = -np.mean([row[label] for row, label in zip(rows, labels, strict=True)])
    assert mean_logits_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_half_precision_is_taken_to_float32():
    logits, labels = normal(2, 3, 4).bfloat16(), torch.tensor([1, 2, 3])
    assert tet_loss(logits, labels).dtype == torch.float32
    assert mean_logits_loss(logits, labels).dtype == torch.float32
    x, y = normal(2, 6, 40).bfloat16(), normal(2, 6, 40, seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = cka(x, y)
    assert under_autocast.dtype == torch.float32
    np.testing.assert_allclose(under_autocast, naive_cka(x.float(), y.float()), rtol=1e-5)


@given(
    x=arrays(np.float32, (2, 4, 6), elements=st.floats(-3, 3, width=32)),
    y=arrays(np.float32, (2, 4, 3), elements=st.floats(-3, 3, width=32)),
)
@settings(deadline=None)
def test_cka_against_naive(x, y):
    found = cka(torch.from_numpy(x).double(), torch.from_numpy(y).double())
    np.testing.assert_allclose(found, naive_cka(x, y), rtol=1e-6, atol=1e-9)


def test_cka_in_float32_against_naive():
    x = normal(3, 16, 300)
    y = x + 0.5 * normal(3, 16, 300, seed=1)
    np.testing.assert_allclose(cka(x, y), naive_cka(x, y), rtol=1e-5)


def test_cka_equals_feature_form():
    x, y = normal(4, 12, 9).double(), normal(4, 12, 7, seed=1).double()
    xc, yc = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    norm = torch.linalg.matrix_norm
    expected = norm(xc.mT @ yc) ** 2 / (norm(xc.mT @ xc) * norm(yc.mT @ yc))
    np.testing.assert_allclose(cka(x, y), expected, rtol=1e-8)


def test_cka_of_itself_is_one():
    np.testing.assert_allclose(cka(normal(5, 8, 20), normal(5, 8, 20)), np.ones(5), rtol=1e-6)


def test_cka_invariances():
    x, y = normal(3, 10, 8, seed=2).double(), normal(3, 10, 8, seed=3).double()
    turn = torch.linalg.qr(normal(8, 8, seed=4).double()).Q
    plain = cka(x, y)
    assert plain.max() < 0.9
    np.testing.assert_allclose(cka(y, x), plain, rtol=1e-9)
    np.testing.assert_allclose(cka(x + 5.0, y - 3.0), plain, rtol=1e-8)
    np.testing.assert_allclose(cka(7.0 * x, 0.5 * y), plain, rtol=1e-8)
    np.testing.assert_allclose(cka(x @ turn, y), plain, rtol=1e-8)
    rows = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(cka(x[:, rows], y[:, rows]), plain, rtol=1e-8)


def test_cka_of_features_scaled_by_a_thousand():
    x, y = normal(2, 16, 512), normal(2, 16, 512, seed=1)
    np.testing.assert_allclose(cka(1e3 * x, 1e3 * y), cka(x, y), rtol=1e-5)
    np.testing.assert_allclose(cka(1e3 * x, 1e3 * x), np.ones(2), rtol=1e-5)


@pytest.mark.parametrize("zero_both", [False, True])
def test_cka_of_zero_features(zero_both):
    x = torch.zeros(2, 4, 5, requires_grad=True)
    y = (torch.zeros(2, 4, 5) if zero_both else normal(2, 4, 5)).requires_grad_()
    alignment = cka(x, y)
    assert alignment.tolist() == [0.0, 0.0]
    alignment_loss(alignment).backward()
    assert x.grad.abs().max() == 0.0
    assert y.grad.abs().max() == 0.0


def test_cka_gradient_flows_to_both_sides():
    x = normal(2, 5, 4, dtype=torch.float64).requires_grad_()
    y = normal(2, 5, 3, seed=1, dtype=torch.float64).requires_grad_()
    assert gradcheck(cka, (x, y))


def test_cka_of_independent_wide_features_is_high():
    # Isotropic Gaussian features: about D / (D + B), measured .81 at D = 512, B = 120.
    found = cka(normal(2, 120, 512), normal(2, 120, 512, seed=1))
    np.testing.assert_allclose(found, [0.81, 0.81], atol=0.01)


@pytest.mark.parametrize("estimator", ["biased", "debiased"])
@pytest.mark.parametrize("rows", [4, 7])
def test_shared_gram_matrices_give_alignment_floor_and_gradient_of_separate_ones(estimator, rows):
    generator = torch.Generator().manual_seed(rows)
    x, y = (torch.randn(3, rows, width, dtype=torch.float64, generator=generator) for width in (5, 11))
    x.requires_grad_()
    gradients = []
    for shared in (False, True):
        found, floor = cka_and_floor(x, y, estimator, shared=shared)
        assert not floor.requires_grad
        assert torch.equal(found, cka(x, y, estimator))
        torch.testing.assert_close(floor, shuffled_cka(x, y, estimator), rtol=1e-12, atol=1e-14)
        gradients.append(torch.autograd.grad(found.sum(), x)[0])
    assert torch.equal(*gradients)
    assert torch.equal(cka_and_floor(x, y, estimator)[1], shuffled_cka(x, y, estimator))


def test_gram_matrices_of_half_precision_features_are_summed_in_float32():
    # Partial sums of 4096 equal products in float16 would overflow 65504, and in bfloat16 stop growing at 256 of them.
    x = torch.full((1, 4, 4096), 16.0)
    x[:, ::2] = -16.0
    for dtype in (torch.float16, torch.bfloat16):
        found, floor = cka_and_floor(x.to(dtype), x.to(dtype), shared=True)
        assert found.dtype == floor.dtype == torch.float32
        torch.testing.assert_close(found, cka(x, x), rtol=1e-6, atol=0)


def test_shuffled_cka_moves_rows_by_one():
    x, y = normal(2, 6, 4).requires_grad_(), normal(2, 6, 4, seed=1)
    found = shuffled_cka(x, y)
    rolled = np.concatenate([y[:, -1:], y[:, :-1]], axis=1)
    np.testing.assert_allclose(found, naive_cka(x.detach(), rolled), rtol=1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("x", "y"), [((2, 1, 4), (2, 1, 4)), ((2, 3, 4), (2, 2, 4)), ((2, 3, 4), (1, 3, 4)), ((3, 4), (3, 4))]
)
def test_cka_refuses_single_rows_and_other_shapes(x, y):
    with pytest.raises(SpecError, match=r"^alignment: features .*, expected \[T, B, D\].*B at least 2; [^\n]+$"):
        cka(torch.zeros(x), torch.zeros(y))


def test_alignment_loss_weights():
    alignment = torch.tensor([0.9, -0.5, 0.2])
    assert alignment_loss(alignment).item() == pytest.approx((0.1 + 0.5 + 0.8) / 3)
    sigma = torch.tensor([1.0, 0.5, 0.0])
    assert alignment_loss(alignment, sigma).item() == pytest.approx((0.1 + 0.25) / 3)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_fixed_coefficient_weighs_all_terms(value):
    sigma = RegularizationCoefficients(3, "fixed", value)()
    logits, labels = normal(3, 4, 5), torch.tensor([0, 1, 2, 3])
    losses, alignment = tet_loss(logits, labels), torch.tensor([0.9, 0.5, 0.2])
    expected = (1 - value) * naive_tet(logits, labels).mean()
    assert weighted_event_loss(losses, sigma).item() == pytest.approx(expected, rel=1e-5)
    assert alignment_loss(alignment, sigma).item() == pytest.approx(value * (0.1 + 0.5 + 0.8) / 3)


def test_event_loss_without_coefficients():
    assert weighted_event_loss(torch.tensor([1.0, 2.0, 6.0]), None).item() == 3.0


def test_gradient_of_learned_coefficients():
    coefficients = RegularizationCoefficients(4)
    with torch.no_grad():
        coefficients.eta.copy_(torch.tensor([1.0, -0.5, 2.0, 0.3]))
    losses, alignment, weight = torch.tensor([4.6, 3.0, 0.2, 0.1]), torch.tensor([0.9, 0.8, 0.1, -0.4]), 0.5
    sigma = coefficients()
    (weighted_event_loss(losses, sigma) + weight * alignment_loss(alignment, sigma)).backward()
    s = 1.0 / (1.0 + np.exp(-coefficients.eta.detach().double().numpy()))
    expected = s * (1 - s) / 4 * (weight * (1 - np.abs(alignment.numpy())) - losses.numpy())
    np.testing.assert_allclose(coefficients.eta.grad, expected, rtol=1e-5)
    # While the event loss exceeds the alignment loss, the coefficient grows.
    assert coefficients.eta.grad[0] < 0


@given(
    logits=arrays(np.float32, (3, 4), elements=finite),
    mask=arrays(np.bool_, (3, 4)),
)
@settings(deadline=None)
def test_modality_guidance_against_naive(logits, mask):
    z = logits.astype(np.float64)
    expected = np.mean(np.where(mask, np.logaddexp(0, -z), np.logaddexp(0, z)))
    found = modality_guidance_loss(torch.from_numpy(logits), torch.from_numpy(mask)).item()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_modality_guidance_of_a_silent_head():
    found = modality_guidance_loss(torch.zeros(2, 3), torch.tensor([[True, False, True]] * 2))
    assert found.item() == pytest.approx(np.log(2))


def test_ratio_perception_is_mean_square():
    found = ratio_perception_loss(torch.tensor([0.5, 0.25]), torch.tensor([1.0, 0.0]))
    assert found.item() == pytest.approx((0.25 + 0.0625) / 2)


def test_gradients_of_auxiliary_losses():
    logits = normal(3, 2, dtype=torch.float64).requires_grad_()
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    assert gradcheck(lambda z: modality_guidance_loss(z, mask), logits)
    predicted = torch.tensor([0.2, 0.7], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda r: ratio_perception_loss(r, torch.tensor([0.1, 0.9])), predicted)


def naive_debiased_cka(x, y):
    """Pair by pair, as the U-statistic is defined, in float64."""

    def hsic(k, l):  # noqa: E741
        n = len(k)
        total = sum(k[i, j] * l[i, j] for i in range(n) for j in range(n) if i != j)
        sums_k = [sum(k[i, j] for j in range(n) if j != i) for i in range(n)]
        sums_l = [sum(l[i, j] for j in range(n) if j != i) for i in range(n)]
        total += sum(sums_k) * sum(sums_l) / ((n - 1) * (n - 2))
        total -= 2 / (n - 2) * sum(a * b for a, b in zip(sums_k, sums_l, strict=True))
        return total / (n * (n - 3))

    values = []
    for a, b in zip(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), strict=True):
        k, l = a @ a.T, b @ b.T  # noqa: E741
        values.append(hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l)))
    return np.array(values)


def test_debiased_cka_is_its_definition():
    x, y = normal(3, 6, 4, seed=1), normal(3, 6, 5, seed=2) + 3
    np.testing.assert_allclose(cka(x, y, "debiased"), naive_debiased_cka(x, y), rtol=1e-4, atol=1e-5)


def test_debiased_cka_of_independent_features_is_near_zero_where_the_biased_one_is_near_one():
    x, y = normal(5, 16, 4000, seed=1), normal(5, 16, 4000, seed=2)
    assert cka(x, y, "biased").min() > 0.9
    assert cka(x, y, "debiased").abs().mean() < 0.1
    assert cka(x, x, "debiased").min() > 0.999


def test_debiased_cka_has_the_gradient_of_its_formula():
    x, y = normal(2, 5, 3, seed=1, dtype=torch.float64), normal(2, 5, 4, seed=2, dtype=torch.float64)
    assert gradcheck(lambda a, b: cka(a, b, "debiased"), (x.requires_grad_(), y.requires_grad_()))


def test_debiased_cka_of_zeros_is_zero_with_a_finite_gradient():
    x = torch.zeros(2, 5, 3, requires_grad=True)
    value = cka(x, normal(2, 5, 3), "debiased")
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert torch.isfinite(x.grad).all()


def test_debiased_cka_needs_four_rows():
    with pytest.raises(SpecError, match="B at least 4"):
        cka(normal(1, 3, 2), normal(1, 3, 2), "debiased")


def test_debiased_loss_keeps_the_sign():
    alignment = torch.tensor([-0.5, 0.5])
    assert alignment_loss(alignment, estimator="debiased").item() == pytest.approx(1.0)
    assert alignment_loss(alignment, estimator="biased").item() == pytest.approx(0.5)
