"""Time-step mixup: which steps of an image sequence are replaced by event frames.

A sample keeps its image frames up to one replacement point t* and shows event frames from there on; it never
turns back. This module holds the law of t*, its draw and the replacement itself. Every draw is a pure
function of seed, epoch, sample and occurrence, and `mix` holds no chance at all.

Source: Time-step Mixup (arXiv 2509.12959, 2511.12150) for the rule; the equation that links the per-step
probability to the mix ratio is (inferred) from the rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.random_keys import Purpose, uniform
from tmkt_train.choices import MixLaw

if TYPE_CHECKING:
    from torch import Tensor


_HALVINGS = 60


class Mixed(NamedTuple):
    """A mixed sequence and what the auxiliary objectives must know about it.

    Attributes:
        frames: Mixed frames, shape (T, B, ...), the dtype of the input; owned by the caller.
        mask: Mix mask, shape (T, B), bool; true where the frame is an event frame.
        ratio: Realized mix ratio (T + 1 - t*) / T, shape (B,), float32, in [0, 1].
    """

    frames: Tensor
    mask: Tensor
    ratio: Tensor


def expected_ratio(probability: float, num_steps: int, law: MixLaw = "sequential") -> float:
    """Return the expected share of event steps for a per-step replacement probability (inferred).

    With q = 1 - p, the sequential law gives 1 - (q + q^2 + ... + q^T) / T. The renormalised law is the
    sequential one on condition that t* <= T: the mean of (T + 1 - t) / T, step t weighted with q^(t - 1).

    Args:
        probability: Probability p that a step triggers the replacement, in [0, 1].
        num_steps: Number of steps T, at least 1.
        law: Law of the replacement point.

    Returns:
        Expected mix ratio in [0, 1]; increasing in p. The renormalised law starts from (T + 1) / (2 T).

    Raises:
        SpecError: The probability lies outside [0, 1], or there is no step.

    Example:
        >>> expected_ratio(0.5, 2), expected_ratio(0.0, 10), expected_ratio(0.0, 10, "renormalised")
        (0.625, 0.0, 0.55)
    """
    _check_unit("probability", probability)
    _check_steps(num_steps)
    match law:
        case "sequential":
            return 1.0 - float(np.sum((1.0 - probability) ** np.arange(1, num_steps + 1))) / num_steps
        case "renormalised":
            weights = _decay(probability, num_steps)
            return float(np.arange(num_steps, 0, -1) @ weights / (num_steps * weights.sum()))


def replacement_probability(mix_ratio: float, num_steps: int, law: MixLaw = "sequential") -> float:
    """Return the per-step probability whose expected share of event steps is `mix_ratio` (inferred).

    Solved by bisection in double precision; the ends 0 and 1 are exact.

    Args:
        mix_ratio: Expected share of event steps, in [0, 1].
        num_steps: Number of steps T, at least 1.
        law: Law of the replacement point.

    Returns:
        Probability p in [0, 1].

    Raises:
        SpecError: The ratio lies outside [0, 1], or below (T + 1) / (2 T) for the renormalised law.

    Example:
        >>> round(replacement_probability(0.5, 10), 10)
        0.1311783012
    """
    _check_unit("mix ratio", mix_ratio)
    least = expected_ratio(0.0, num_steps, law)
    if mix_ratio < least:
        message = (
            f"mixing: mix ratio {mix_ratio:g}, expected at least {least:.4g} with the {law} law and "
            f"{num_steps} steps; raise the ratio or choose the sequential law"
        )
        raise SpecError(message)
    if mix_ratio in (least, 1.0):
        return float(mix_ratio == 1.0)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if expected_ratio(middle, num_steps, law) < mix_ratio:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def replacement_points(
    seed: int,
    epoch: int,
    uids: NDArray[np.uint64],
    occurrences: NDArray[np.int64],
    probability: float,
    num_steps: int,
    law: MixLaw = "sequential",
) -> NDArray[np.int64]:
    """Draw the replacement point t* of each sample.

    The sequential law compares one draw per step (k = 1 to T) with the probability and takes the first step
    that triggers. The renormalised law inverts its cumulative distribution at a single draw (k = 0); at
    probability 0 it is uniform over the steps.

    Args:
        seed: Seed of the run, 0 or more.
        epoch: Epoch, 0 or more.
        uids: Numbers of the samples, shape (B,), uint64; see `tmkt_data.random_keys.sample_uid`.
        occurrences: How often each sample was drawn earlier in the epoch, shape (B,), int64, 0 or more.
        probability: Per-step probability, see `replacement_probability`.
        num_steps: Number of steps T.
        law: Law of the replacement point.

    Returns:
        Points t*, shape (B,), int64, in 1 to T, or T + 1 where no step triggers. Independent of batch and
        order.

    Raises:
        SpecError: The probability lies outside [0, 1], or there is no step.

    Example:
        >>> uids, occurrences = np.arange(8, dtype=np.uint64), np.zeros(8, dtype=np.int64)
        >>> replacement_points(42, 0, uids, occurrences, replacement_probability(0.5, 10), 10).tolist()
        [3, 3, 7, 5, 2, 1, 8, 7]
    """
    _check_unit("probability", probability)
    _check_steps(num_steps)
    match law:
        case "sequential":
            steps = np.arange(1, num_steps + 1)
            draws = uniform(seed, epoch, uids[:, None], occurrences[:, None], Purpose.MIX, steps[None, :])
            triggered = draws < probability
            points = np.where(triggered.any(axis=1), triggered.argmax(axis=1), num_steps)
        case "renormalised":
            cumulative = np.cumsum(_decay(probability, num_steps))
            draw = uniform(seed, epoch, uids, occurrences, Purpose.MIX, 0)
            points = np.searchsorted(cumulative / cumulative[-1], draw, side="right")
    return (points + 1).astype(np.int64)


def slide_points(
    seed: int,
    epoch: int,
    uids: NDArray[np.uint64],
    occurrences: NDArray[np.int64],
    probability: float,
    points: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Replace whole samples with a probability, on top of given replacement points.

    Args:
        seed: Seed of the run, 0 or more.
        epoch: Epoch, 0 or more.
        uids: Numbers of the samples, shape (B,), uint64.
        occurrences: How often each sample was drawn earlier in the epoch, shape (B,), int64.
        probability: Probability of replacing a whole sample, in [0, 1]; one draw per sample.
        points: Points of the samples that do not slide, shape (B,), int64; T + 1 everywhere for sliding
            alone.

    Returns:
        Composed points, shape (B,), int64: 1 where the slide fires, else those given.

    Raises:
        SpecError: The probability lies outside [0, 1].

    Source:
        Whole-sample sliding of He et al., AAAI 2024 (arXiv 2303.13077).
    """
    _check_unit("slide probability", probability)
    fires = uniform(seed, epoch, uids, occurrences, Purpose.SLIDE, 1) < probability
    return np.where(fires, np.int64(1), points).astype(np.int64)


def mix_mask(replacement: Tensor | NDArray[np.int64], num_steps: int) -> Tensor:
    """Tell which frames of a mixed sequence are event frames.

    Args:
        replacement: Points t*, shape (B,), integers in 1 to T + 1.
        num_steps: Number of steps T.

    Returns:
        Mask, shape (T, B), bool, on the device of the points; non-decreasing along T.

    Example:
        >>> mix_mask(np.array([1, 3, 4]), 3).int().tolist()
        [[1, 0, 0], [1, 0, 0], [1, 1, 0]]
    """
    import torch

    points = torch.as_tensor(replacement)
    steps = torch.arange(1, num_steps + 1, device=points.device)
    return steps.unsqueeze(1) >= points.unsqueeze(0)


def mix(image: Tensor, events: Tensor, replacement: Tensor) -> Mixed:
    """Put event frames in the place of image frames from the replacement point on.

    A pure function: no randomness, no blending, inputs untouched. Each frame of the result equals the frame
    of one of the two sides bit by bit.

    Args:
        image: Image sequence, shape (T, B, ...), any dtype.
        events: Event sequence, same shape, dtype and device.
        replacement: Points t*, shape (B,), int64 in 1 to T + 1, on any device.

    Returns:
        The mixed sequence, its mask and the realized ratio.

    Raises:
        SpecError: The two sequences, or the points, differ in shape.
    """
    import torch

    if image.shape != events.shape or replacement.shape != image.shape[1:2]:
        message = (
            f"mix: image {tuple(image.shape)}, events {tuple(events.shape)}, points "
            f"{tuple(replacement.shape)}, expected [T, B, ...] twice and [B]; pass both sides step-major"
        )
        raise SpecError(message)
    num_steps = image.shape[0]
    points = replacement.to(image.device, non_blocking=True)
    mask = mix_mask(points, num_steps)
    shown = mask.reshape(*mask.shape, *(1 for _ in image.shape[2:]))
    ratio = (num_steps + 1 - points).to(torch.float32) / num_steps
    return Mixed(frames=torch.where(shown, events, image), mask=mask, ratio=ratio)


def _decay(probability: float, num_steps: int) -> NDArray[np.float64]:
    """Return q^0 to q^(T - 1), shape (T,): what the law of t* is proportional to."""
    return np.power(1.0 - probability, np.arange(num_steps), dtype=np.float64)


def _check_unit(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        message = f"mixing: {name} {value:g}, expected 0 to 1; choose a share between none and all"
        raise SpecError(message)


def _check_steps(num_steps: int) -> None:
    if num_steps < 1:
        message = f"mixing: {num_steps} steps, expected 1 or more; prepare the cache with at least one step"
        raise SpecError(message)
