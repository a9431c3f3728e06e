"""Objectives on one batch: pure functions from network outputs to losses.

Half-precision outputs are converted to float32 first. Shapes are step-major: (T, B, ...).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tmkt_data.errors import SpecError
from tmkt_train.choices import CkaEstimator

_CKA_EPS = 1e-7
MIN_ALIGNMENT_ROWS: dict[CkaEstimator, int] = {"biased": 2, "debiased": 4}
"""Least number of rows in a batch for the alignment."""


def tet_loss(logits: Tensor, labels: Tensor, *, margin_weight: float = 1e-3, margin: float = 0.5) -> Tensor:
    """Return the temporal-efficient-training loss of each step.

    For each step, (1 - margin_weight) times the cross-entropy plus margin_weight times the mean square of
    (logit - margin) over batch and classes. No label smoothing.

    Args:
        logits: Shape (T, B, K).
        labels: Classes, shape (B,), int64 in 0 to K - 1.
        margin_weight: Weight of the second term, in [0, 1].
        margin: Value that the logits are drawn to; the firing threshold.

    Returns:
        Losses, shape (T,). The training loss is their mean, or see `weighted_event_loss`.

    Example:
        >>> round(tet_loss(torch.zeros(1, 2, 101), torch.tensor([0, 100])).item(), 6)
        4.610755

    Source:
        Deng et al., ICLR 2022; as used by He et al., AAAI 2024; for time-step mixup (inferred).
    """
    logits = _full_precision(logits)
    num_steps, batch_size, _ = logits.shape
    entropies = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(num_steps), reduction="none")
    squares = (logits - margin).square().mean(dim=(1, 2))
    return (1.0 - margin_weight) * entropies.view(num_steps, batch_size).mean(dim=1) + margin_weight * squares


def mean_logits_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the logits averaged over the steps, used where TET is off.

    Args:
        logits: Shape (T, B, K).
        labels: Classes, shape (B,), int64 in 0 to K - 1.

    Returns:
        Loss, a scalar.
    """
    return functional.cross_entropy(_full_precision(logits).mean(dim=0), labels)


def weighted_event_loss(step_losses: Tensor, sigma: Tensor | None) -> Tensor:
    """Average the per-step losses of the event stream with weights 1 - sigma.

    Args:
        step_losses: Losses of the steps, shape (T,); both terms of `tet_loss` are weighted.
        sigma: Regularization coefficients, shape (T,), in [0, 1]; None for weights of 1.

    Returns:
        Loss, a scalar: the sum of the weighted losses over T.

    Source:
        Spatio-temporal regularization of He et al., AAAI 2024; for time-step mixup (inferred).
    """
    return step_losses.mean() if sigma is None else ((1.0 - sigma) * step_losses).mean()


def cka(x: Tensor, y: Tensor, estimator: CkaEstimator = "biased") -> Tensor:
    """Return the linear centered kernel alignment of two feature sets, for each step.

    With centered Gram matrices K and L, the value is <K, L> / (|K| |L| + 1e-7) in Frobenius terms, batched over the
    steps. Gradients flow to both sides. Features of zero give 0 and a zero gradient. The value depends on the batch
    size and is high even for independent features when D is much larger than B: log it beside `shuffled_cka`.

    Autocast is off inside. Products are in TF32 only if the caller has allowed it for matrix products
    (`torch.set_float32_matmul_precision`); PyTorch's default does not.

    Args:
        x: Features of one stream, shape (T, B, D), B at least 2.
        y: Features of the other, shape (T, B, D'); row b belongs with row b of `x`.
        estimator: "biased" is the value above; "debiased" drops the diagonal of the Gram matrices, so that independent
            features give about 0 for any D; it needs B of 4 or more and can be negative.

    Returns:
        Alignment, shape (T,), in [0, 1] up to rounding ("debiased": at most 1); float32, or float64 for float64
        features.

    Raises:
        SpecError: The shapes do not match, or the batch has fewer rows than the estimator needs: 2, or 4.

    Example:
        >>> x = torch.tensor([[[0.0, 1.0], [2.0, 0.0], [3.0, 5.0]]])
        >>> round(cka(x, 10 * x + 7).item(), 6)
        1.0

    Source:
        Kornblith et al., ICML 2019; the biased estimator, as used by He et al., AAAI 2024. The debiased one is that
        of Song et al., JMLR 2012.
    """
    return _of_grams(*_grams(x, y, estimator), estimator)


def cka_and_floor(
    x: Tensor, y: Tensor, estimator: CkaEstimator = "biased", *, shared: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Return `cka` and `shuffled_cka` of the same features.

    Args:
        x: Features of one stream, shape (T, B, D), B at least 2.
        y: Features of the other, shape (T, B, D').
        estimator: As in `cka`.
        shared: Whether the rows of `y` are shifted in its Gram matrices instead of computing them again; the floor
            then differs in its last digits. None: on every device but a CPU.

    Returns:
        Alignment and floor, shape (T,) each; the floor without gradient.

    Raises:
        SpecError: As in `cka`.
    """
    if shared is None:
        shared = x.device.type != "cpu"
    if not shared:
        return cka(x, y, estimator), shuffled_cka(x, y, estimator)
    k, l = _grams(x, y, estimator)  # noqa: E741
    shifted = l.detach().roll((1, 1), dims=(1, 2))
    return _of_grams(k, l, estimator), _of_grams(k.detach(), shifted, estimator)


def _grams(x: Tensor, y: Tensor, estimator: CkaEstimator) -> tuple[Tensor, Tensor]:
    """Return the Gram matrices that an estimator compares, shape (T, B, B) each; raises as `cka` says."""
    least = MIN_ALIGNMENT_ROWS[estimator]
    if x.ndim != 3 or x.shape[:2] != y.shape[:2] or x.shape[1] < least:
        message = (
            f"alignment: features {tuple(x.shape)} and {tuple(y.shape)}, expected [T, B, D] with equal T and "
            f"B, B at least {least}; skip the alignment loss for a smaller batch"
        )
        raise SpecError(message)
    gram = _hollow_gram if estimator == "debiased" else centered_gram
    with torch.autocast(device_type=x.device.type, enabled=False):
        return gram(x), gram(y)


def _of_grams(k: Tensor, l: Tensor, estimator: CkaEstimator) -> Tensor:  # noqa: E741
    return _debiased_cka_of_grams(k, l) if estimator == "debiased" else cka_of_grams(k, l)


def cka_of_grams(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Return the biased alignment of two sets of features from their centered Gram matrices, (T, B, B): shape (T,)."""
    norms = torch.linalg.matrix_norm(k) * torch.linalg.matrix_norm(l)
    alignment: Tensor = (k * l).sum(dim=(1, 2)) / (norms + _CKA_EPS)
    return alignment


def _debiased_cka_of_grams(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    norms = _unbiased_hsic(k, k).clamp_min(0) * _unbiased_hsic(l, l).clamp_min(0)
    # Epsilon under the root keeps the gradient of zero features finite.
    return _unbiased_hsic(k, l) / ((norms + _CKA_EPS**2).sqrt())


def _hollow_gram(features: Tensor) -> Tensor:
    # Centering only changes the rounding: the estimator itself is invariant to translation.
    gram = centered_gram(features)
    return gram - torch.diag_embed(gram.diagonal(dim1=1, dim2=2))


def _unbiased_hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Return the unbiased HSIC of hollow Gram matrices (T, n, n), shape (T,)."""
    n = k.shape[1]
    rows_k, rows_l = k.sum(dim=2), l.sum(dim=2)
    product = rows_k.sum(dim=1) * rows_l.sum(dim=1) / ((n - 1) * (n - 2))
    cross = 2 / (n - 2) * (rows_k * rows_l).sum(dim=1)
    hsic: Tensor = ((k * l).sum(dim=(1, 2)) + product - cross) / (n * (n - 3))
    return hsic


def shuffled_cka(x: Tensor, y: Tensor, estimator: CkaEstimator = "biased") -> Tensor:
    """Return the alignment of `x` with the rows of `y` shifted by one: the floor to compare `cka` with.

    The arguments are those of `cka`; the result, shape (T,), has no gradient.

    Raises:
        SpecError: As in `cka`.
    """
    return cka(x.detach(), y.detach().roll(1, dims=1), estimator)


def alignment_loss(alignment: Tensor, sigma: Tensor | None = None, estimator: CkaEstimator = "biased") -> Tensor:
    """Return the domain alignment loss: the mean over steps of sigma (1 - |alignment|).

    Args:
        alignment: Alignment of the steps, shape (T,), from `cka`.
        sigma: Regularization coefficients, shape (T,), in [0, 1]; None for weights of 1.
        estimator: Where the alignment comes from; "debiased" can be negative, and its sign is kept.

    Returns:
        Loss, a scalar.

    Source:
        He et al., AAAI 2024; for time-step mixup between its two streams, weight (inferred).
    """
    distance = 1.0 - (alignment if estimator == "debiased" else alignment.abs())
    return distance.mean() if sigma is None else (sigma * distance).mean()


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return how far the predictions of a stream are from those of its teacher.

    The Kullback-Leibler divergence of softmax(logits / temperature) from softmax(teacher / temperature), of logits
    averaged over the steps, times temperature squared: its gradient keeps its size at every temperature.

    Args:
        logits: Shape (T, B, K).
        teacher: Logits of the teacher, shape (T', B, K); no gradient reaches them.
        temperature: Above 0; the larger, the more the classes that are not predicted count.

    Returns:
        Loss in nats, a scalar, 0 or more.

    Example:
        >>> one = torch.tensor([[[0.0, 2.0]]])
        >>> round(distillation_loss(torch.zeros(3, 1, 2), one, 1.0).item(), 6)
        0.327813

    Source:
        Hinton, Vinyals and Dean, arXiv 1503.02531; for KT, CKD (arXiv 2507.09269), whose teacher is another network.
    """
    student, expected = (_full_precision(each).mean(dim=0) / temperature for each in (logits, teacher.detach()))
    divergence = functional.kl_div(
        student.log_softmax(dim=1), expected.log_softmax(dim=1), reduction="batchmean", log_target=True
    )
    return temperature**2 * divergence


def modality_guidance_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the loss of classifying frames as image or event (inferred): binary cross-entropy over all frames.

    Args:
        logits: Outputs of the modality head, shape (T, B).
        mask: Mix mask, shape (T, B), bool; true where the frame is an event frame.

    Returns:
        Loss, a scalar; log 2 for an uninformative head.
    """
    logits = _full_precision(logits)
    return functional.binary_cross_entropy_with_logits(logits, mask.to(logits.dtype))


def ratio_perception_loss(predicted: Tensor, ratio: Tensor) -> Tensor:
    """Return the loss of predicting the realized mix ratio of a sequence (inferred): the mean squared error.

    Args:
        predicted: Outputs of the ratio head, shape (B,), in (0, 1).
        ratio: Realized, not expected, mix ratio, shape (B,), in [0, 1].

    Returns:
        Loss, a scalar; the variance of the ratio for an uninformative head.
    """
    predicted = _full_precision(predicted)
    return (predicted - ratio.to(predicted.dtype)).square().mean()


def centered_gram(features: Tensor) -> Tensor:
    """Return the Gram matrices of features centered over the batch, in float32 or more: (T, B, D) to (T, B, B)."""
    features = _full_precision(features)
    centered = features - features.mean(dim=1, keepdim=True)
    return centered @ centered.mT


def _full_precision(values: Tensor) -> Tensor:
    """Return the values in float32, or as they are in float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
