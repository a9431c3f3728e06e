"""Time-step mixup: which steps of an image sequence are replaced by event frames.

A sample shows image frames before one replacement point t* and event frames from t* on; it never switches back.
This module holds the distribution of t*, its draw and the replacement itself. Every draw is a pure function of
seed, epoch, sample and occurrence, and `mix` is deterministic.

Source: Time-step Mixup (arXiv 2509.12959, 2511.12150) for the rule; the equation that links the per-step
probability to the mix ratio is (inferred) from the rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.random_keys import Purpose
from tmkt_train.choices import MixDistribution
from tmkt_train.data.sampling import DrawKeys

if TYPE_CHECKING:
    from torch import Tensor


_HALVINGS = 60


class Mixed(NamedTuple):
    """A mixed sequence with the labels of the auxiliary objectives.

    Attributes:
        frames: Mixed frames, shape (T, B, ...), the dtype of the input; owned by the caller.
        mask: Mix mask, shape (T, B), bool; true where the frame is an event frame.
        ratio: Realized mix ratio (T + 1 - t*) / T, shape (B,), float32, in [0, 1].
    """

    frames: Tensor
    mask: Tensor
    ratio: Tensor


def expected_ratio(probability: float, num_time_steps: int, distribution: MixDistribution = "sequential") -> float:
    """Return the expected share of event steps for a per-step replacement probability (inferred).

    With q = 1 - p, the sequential distribution gives 1 - (q + q^2 + ... + q^T) / T. The renormalised one is the
    sequential one conditioned on t* <= T: the mean of (T + 1 - t) / T, step t weighted with q^(t - 1).

    Args:
        probability: Probability p that a step triggers the replacement, in [0, 1].
        num_time_steps: Time steps T, at least 1.
        distribution: Distribution of t*.

    Returns:
        Expected mix ratio in [0, 1]; increasing in p. The renormalised distribution starts at (T + 1) / (2 T).

    Raises:
        SpecError: The probability lies outside [0, 1], or there are no steps.

    Example:
        >>> expected_ratio(0.5, 2), expected_ratio(0.0, 10), expected_ratio(0.0, 10, "renormalised")
        (0.625, 0.0, 0.55)
    """
    _check_unit("probability", probability)
    _check_steps(num_time_steps)
    match distribution:
        case "sequential":
            return 1.0 - float(np.sum((1.0 - probability) ** np.arange(1, num_time_steps + 1))) / num_time_steps
        case "renormalised":
            weights = _decay(probability, num_time_steps)
            return float(np.arange(num_time_steps, 0, -1) @ weights / (num_time_steps * weights.sum()))


def replacement_probability(
    mix_ratio: float, num_time_steps: int, distribution: MixDistribution = "sequential"
) -> float:
    """Return the per-step probability whose expected share of event steps is `mix_ratio` (inferred).

    Solved by bisection in double precision; the ends 0 and 1 are exact.

    Args:
        mix_ratio: Expected share of event steps, in [0, 1].
        num_time_steps: Time steps T, at least 1.
        distribution: Distribution of t*.

    Returns:
        Probability p in [0, 1].

    Raises:
        SpecError: The ratio lies outside [0, 1], or below (T + 1) / (2 T) with the renormalised distribution.

    Example:
        >>> round(replacement_probability(0.5, 10), 10)
        0.1311783012
    """
    _check_unit("mix ratio", mix_ratio)
    least = expected_ratio(0.0, num_time_steps, distribution)
    if mix_ratio < least:
        message = (
            f"mixing: mix ratio {mix_ratio:g}, expected at least {least:.4g} with the {distribution} distribution "
            f"and {num_time_steps} steps; raise the ratio or choose the sequential distribution"
        )
        raise SpecError(message)
    if mix_ratio in (least, 1.0):
        return float(mix_ratio == 1.0)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if expected_ratio(middle, num_time_steps, distribution) < mix_ratio:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def replacement_points(
    keys: DrawKeys, probability: float, num_time_steps: int, distribution: MixDistribution = "sequential"
) -> NDArray[np.int64]:
    """Draw the replacement point t* of each sample.

    The sequential distribution compares one draw per step (k = 1 to T) with the probability and takes the first
    step that triggers. The renormalised one inverts its cumulative distribution at a single draw (k = 0); at
    probability 0 it is uniform over the steps.

    Args:
        keys: Keys of B samples.
        probability: Per-step probability, see `replacement_probability`.
        num_time_steps: Time steps T.
        distribution: Distribution of t*.

    Returns:
        Points t*, shape (B,), int64, in 1 to T, or T + 1 where no step triggers; independent of batch and order.

    Raises:
        SpecError: The probability lies outside [0, 1], or there are no steps.

    Example:
        >>> keys = DrawKeys(42, 0, np.arange(8, dtype=np.uint64), np.zeros(8, dtype=np.int64))
        >>> replacement_points(keys, replacement_probability(0.5, 10), 10).tolist()
        [3, 3, 7, 5, 2, 1, 8, 7]
    """
    _check_unit("probability", probability)
    _check_steps(num_time_steps)
    match distribution:
        case "sequential":
            triggered = keys.uniform(Purpose.MIX, np.arange(1, num_time_steps + 1)) < probability
            points = np.where(triggered.any(axis=1), triggered.argmax(axis=1), num_time_steps)
        case "renormalised":
            cumulative = np.cumsum(_decay(probability, num_time_steps))
            draws = keys.uniform(Purpose.MIX, 0)
            points = np.searchsorted(cumulative / cumulative[-1], draws, side="right")
    return (points + 1).astype(np.int64)


def slide_points(keys: DrawKeys, probability: float, points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Replace whole samples with a probability, on top of given replacement points.

    Args:
        keys: Keys of B samples.
        probability: Probability of replacing a whole sample, in [0, 1]; one draw per sample.
        points: Points of the samples that do not slide, shape (B,), int64; T + 1 everywhere for sliding alone.

    Returns:
        Composed points, shape (B,), int64: 1 where the sample slides, otherwise the given point.

    Raises:
        SpecError: The probability lies outside [0, 1].

    Source:
        Whole-sample sliding of He et al., AAAI 2024 (arXiv 2303.13077).
    """
    _check_unit("slide probability", probability)
    slides = keys.uniform(Purpose.SLIDE, 1) < probability
    return np.where(slides, np.int64(1), points).astype(np.int64)


def mix_mask(points: Tensor | NDArray[np.int64], num_time_steps: int) -> Tensor:
    """Return which frames of a mixed sequence are event frames.

    Args:
        points: Replacement points t*, shape (B,), integers in 1 to T + 1.
        num_time_steps: Time steps T.

    Returns:
        Mask, shape (T, B), bool, on the device of the points; non-decreasing along T.

    Example:
        >>> mix_mask(np.array([1, 3, 4]), 3).int().tolist()
        [[1, 0, 0], [1, 0, 0], [1, 1, 0]]
    """
    import torch

    first = torch.as_tensor(points)
    steps = torch.arange(1, num_time_steps + 1, device=first.device)
    return steps.unsqueeze(1) >= first.unsqueeze(0)


def mix(image: Tensor, events: Tensor, points: Tensor) -> Mixed:
    """Replace image frames by event frames from the replacement point on.

    A pure function: no randomness, no blending, inputs untouched. Each frame of the result is a bit-exact copy
    of the frame of one of the two sides.

    Args:
        image: Image sequence, shape (T, B, ...), any dtype.
        events: Event sequence, same shape, dtype and device.
        points: Replacement points t*, shape (B,), int64 in 1 to T + 1, on any device.

    Returns:
        The mixed sequence, its mask and the realized ratio.

    Raises:
        SpecError: The two sequences, or the points, differ in shape.
    """
    import torch

    if image.shape != events.shape or points.shape != image.shape[1:2]:
        message = (
            f"mix: image {tuple(image.shape)}, events {tuple(events.shape)}, points "
            f"{tuple(points.shape)}, expected [T, B, ...] twice and [B]; pass both sides step-major"
        )
        raise SpecError(message)
    num_time_steps = image.shape[0]
    points = points.to(image.device, non_blocking=True)
    mask = mix_mask(points, num_time_steps)
    shown = mask.reshape(*mask.shape, *(1 for _ in image.shape[2:]))
    ratio = (num_time_steps + 1 - points).to(torch.float32) / num_time_steps
    return Mixed(frames=torch.where(shown, events, image), mask=mask, ratio=ratio)


def _decay(probability: float, num_time_steps: int) -> NDArray[np.float64]:
    """Return q^0 to q^(T - 1), shape (T,), which the distribution of t* is proportional to."""
    return np.power(1.0 - probability, np.arange(num_time_steps), dtype=np.float64)


def _check_unit(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        message = f"mixing: {name} {value:g}, expected 0 to 1; choose a share between none and all"
        raise SpecError(message)


def _check_steps(num_time_steps: int) -> None:
    if num_time_steps < 1:
        message = f"mixing: {num_time_steps} steps, expected 1 or more; prepare the cache with at least one step"
        raise SpecError(message)
