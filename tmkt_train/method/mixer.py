"""The replacement points of a run: time-step mixup and whole-sample sliding, composed, over the training progress."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_train.choices import MixDistribution, MixSchedule, SlideSchedule
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.mixing import replacement_points, replacement_probability, slide_points

if TYPE_CHECKING:
    from tmkt_train.recipe.schema import MixTable


@dataclass(frozen=True, slots=True)
class Mixer:
    """Draw of the replacement points: a pure function of the keys of the samples and the training progress.

    A sample slides with a probability of its own and is then replaced from the first step on. A sample that does not
    slide is mixed by time step or, without time-step mixup, keeps its image frames.

    Attributes:
        num_time_steps: Time steps T.
        mix: End ratio, schedule and distribution of time-step mixup.
        start: Mix ratio at the start, in [0, 1], `by-count` resolved; None for no time-step mixup.
        slide: Schedule of the probability of sliding.
        slide_from: Progress from which the schedules `step` and `late-step` slide.
    """

    num_time_steps: int
    mix: MixTable
    start: float | None = 0.5
    slide: SlideSchedule = "off"
    slide_from: float = 0.5

    def ratio(self, progress: float) -> float:
        """Return the expected share of event steps, sliding included, at a training progress in [0, 1]."""
        slides = slide_probability_at(progress, self.slide, self.slide_from)
        return slides + (1.0 - slides) * self._mix_ratio(progress)

    def points(self, keys: DrawKeys, progress: float) -> NDArray[np.int64]:
        """Draw the replacement point t* of each sample.

        Args:
            keys: Keys of B samples.
            progress: Iterations done over all iterations, in [0, 1].

        Returns:
            Points, shape (B,), int64 in 1 to T + 1.
        """
        points = np.full(len(keys.uids), self.num_time_steps + 1, dtype=np.int64)
        if self.start is not None:
            probability = _probability(self._mix_ratio(progress), self.num_time_steps, self.mix.law)
            points = replacement_points(keys, probability, self.num_time_steps, self.mix.law)
        if self.slide != "off":
            points = slide_points(keys, slide_probability_at(progress, self.slide, self.slide_from), points)
        return points

    def _mix_ratio(self, progress: float) -> float:
        if self.start is None:
            return 0.0
        return mix_ratio_at(progress, self.mix.schedule, self.start, self.mix.end_ratio)


@functools.lru_cache(maxsize=64)
def _probability(ratio: float, num_time_steps: int, distribution: MixDistribution) -> float:
    return replacement_probability(ratio, num_time_steps, distribution)


def mix_ratio_at(progress: float, schedule: MixSchedule, start: float, end: float) -> float:
    """Return the mix ratio at a training progress.

    Args:
        progress: Iterations done over all iterations, in [0, 1].
        schedule: "constant" stays at `start` (inferred default of the method, at 0.5); "linear" and "cubic" go from
            `start` to `end` with the first and third power of the progress.
        start: Value at progress 0.
        end: Value at progress 1; used by "linear" and "cubic".

    Returns:
        The ratio, between `start` and `end`.

    Raises:
        SpecError: The progress lies outside [0, 1].

    Example:
        >>> [mix_ratio_at(0.5, name, 0.0, 1.0) for name in ("constant", "linear", "cubic")]
        [0.0, 0.5, 0.125]
    """
    if not 0.0 <= progress <= 1.0:
        message = f"schedule: progress {progress:g}, expected 0 to 1; divide iterations done by all iterations"
        raise SpecError(message)
    match schedule:
        case "constant":
            return start
        case "linear":
            return start + (end - start) * progress
        case "cubic":
            return start + (end - start) * progress**3


def slide_probability_at(progress: float, schedule: SlideSchedule, start: float = 0.5) -> float:
    """Return the probability that a whole image sequence is replaced by its recording.

    Args:
        progress: Iterations done over all iterations, in [0, 1].
        schedule: "cubic" is the third power of the progress; "step" and "late-step" are 0 before `start` and 1 from
            there; "off" is 0.
        start: Progress from which the last two slide.

    Returns:
        The probability, in [0, 1].

    Raises:
        SpecError: The progress lies outside [0, 1].

    Example:
        >>> [slide_probability_at(0.5, name) for name in ("off", "cubic", "step")]
        [0.0, 0.125, 1.0]

    Source:
        He et al., AAAI 2024; "late-step" is what their code runs under the name of no sliding.
    """
    match schedule:
        case "off":
            return 0.0
        case "cubic":
            return mix_ratio_at(progress, "cubic", 0.0, 1.0)
        case "step" | "late-step":
            return float(progress >= start)
