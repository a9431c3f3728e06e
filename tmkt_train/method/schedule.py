"""Values that change during training, as pure functions of progress or epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tmkt_data.errors import SpecError
from tmkt_train.choices import LearningRateSchedule, MixSchedule, SlideSchedule


def mix_ratio_at(progress: float, schedule: MixSchedule, start: float, end: float) -> float:
    """Return a mix ratio, or a slide probability, at a point of the training.

    Args:
        progress: Iterations done over iterations in all, in [0, 1].
        schedule: "constant" stays at `start` (inferred default of the method, at 0.5); "linear" and "cubic"
            go from `start` to `end` with the first and third power of the progress.
        start: Value at progress 0.
        end: Value at progress 1; used by "linear" and "cubic".

    Returns:
        The value, between `start` and `end`.

    Raises:
        SpecError: The progress lies outside [0, 1].

    Example:
        >>> [mix_ratio_at(0.5, name, 0.0, 1.0) for name in ("constant", "linear", "cubic")]
        [0.0, 0.5, 0.125]
    """
    if not 0.0 <= progress <= 1.0:
        message = f"schedule: progress {progress:g}, expected 0 to 1; divide iterations done by iterations in all"
        raise SpecError(message)
    match schedule:
        case "constant":
            return start
        case "linear":
            return start + (end - start) * progress
        case "cubic":
            return start + (end - start) * progress**3


def slide_probability_at(progress: float, schedule: SlideSchedule) -> float:
    """Return the probability that a whole image sequence gives way to its recording.

    Args:
        progress: Iterations done over iterations in all, in [0, 1].
        schedule: "cubic" is the third power of the progress; "step" is 0 up to half-way and 1 from there; "off" is 0.

    Returns:
        The probability, in [0, 1].

    Raises:
        SpecError: The progress lies outside [0, 1].

    Example:
        >>> [slide_probability_at(0.5, name) for name in ("off", "cubic", "step")]
        [0.0, 0.125, 1.0]

    Source:
        He et al., AAAI 2024; "step" is what their code runs under the name of no sliding.
    """
    match schedule:
        case "off":
            return 0.0
        case "cubic":
            return mix_ratio_at(progress, "cubic", 0.0, 1.0)
        case "step":
            return float(progress >= 0.5)


def learning_rate_at(
    epoch: int,
    epochs: int,
    base_lr: float,
    min_lr: float,
    warmup_epochs: int,
    warmup_lr: float,
    schedule: LearningRateSchedule = "cosine",
    step_epochs: Sequence[int] = (),
    step_factor: float = 0.1,
) -> float:
    """Return the learning rate of an epoch.

    During warm-up it rises on a line from `warmup_lr` toward `base_lr`. After it, the main curve is read at
    the epoch itself: warm-up does not shift the curve.

    Args:
        epoch: Epoch, from 0.
        epochs: Number of epochs E, at least 1.
        base_lr: Rate in force, after any scaling with the batch size.
        min_lr: Where the cosine ends (at epoch E, which is never reached); unused by the others.
        warmup_epochs: Number of warm-up epochs, 0 for none.
        warmup_lr: Rate of epoch 0 when there is a warm-up.
        schedule: Main curve: "cosine" is min + (base - min) (1 + cos(pi e / E)) / 2, "step" multiplies by
            `step_factor` at each of `step_epochs`, "constant" stays.
        step_epochs: Epochs from which one more factor applies.
        step_factor: Factor of each step.

    Returns:
        The learning rate of that epoch.

    Raises:
        SpecError: The epoch lies outside 0 to E.

    Example:
        >>> [learning_rate_at(e, 10, 0.1, 0.0, 2, 0.0) for e in (0, 1, 5)]
        [0.0, 0.05, 0.05]
    """
    if not 0 <= epoch <= epochs or epochs < 1:
        message = f"schedule: epoch {epoch} of {epochs}, expected 0 to the number of epochs; count epochs from 0"
        raise SpecError(message)
    if epoch < warmup_epochs:
        return warmup_lr + epoch * (base_lr - warmup_lr) / warmup_epochs
    match schedule:
        case "cosine":
            return min_lr + 0.5 * (base_lr - min_lr) * (1.0 + math.cos(math.pi * epoch / epochs))
        case "step":
            return base_lr * step_factor ** sum(epoch >= step for step in step_epochs)
        case "constant":
            return base_lr
