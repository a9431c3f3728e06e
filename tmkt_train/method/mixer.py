"""When a sample's image frames give way to event frames: time-step mixup and whole-sample sliding, composed."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmkt_train.choices import MixLaw, MixSchedule, SlideSchedule
from tmkt_train.method.mixing import replacement_points, replacement_probability, slide_points
from tmkt_train.method.schedule import mix_ratio_at, slide_probability_at


@dataclass(frozen=True, slots=True)
class Mixer:
    """The draw of replacement points: a pure function of seed, epoch, sample, occurrence and progress.

    A sample slides with its own probability, and is then replaced from the first step on; one that does not is
    mixed by time step, or, without time-step mixup, stays as it is.

    Attributes:
        seed: Seed of the run.
        num_steps: Steps T.
        start: Expected share of event steps at the start, and throughout with the schedule `constant`.
        end: Expected share at the end, for `linear` and `cubic`.
        schedule: Course of the share.
        law: Law of the first event step.
        time_step: Whether there is time-step mixup at all.
        slide: Course of the probability of sliding.
    """

    seed: int
    num_steps: int
    start: float = 0.5
    end: float = 1.0
    schedule: MixSchedule = "constant"
    law: MixLaw = "sequential"
    time_step: bool = True
    slide: SlideSchedule = "off"

    def ratio(self, progress: float) -> float:
        """Return the expected share of event steps at a point of the training in [0, 1].

        Args:
            progress: Iterations done over iterations in all.
        """
        slides = slide_probability_at(progress, self.slide)
        return slides + (1.0 - slides) * self._mixed(progress)

    def points(
        self,
        uids: NDArray[np.uint64],
        occurrences: NDArray[np.int64],
        epoch: int,
        progress: float,
    ) -> NDArray[np.int64]:
        """Draw the first event step of each sample, shape (B,), int64 in 1 to T + 1; arguments as in `ratio`."""
        points = np.full(len(uids), self.num_steps + 1, dtype=np.int64)
        if self.time_step:
            probability = _probability(self._mixed(progress), self.num_steps, self.law)
            points = replacement_points(self.seed, epoch, uids, occurrences, probability, self.num_steps, self.law)
        if self.slide != "off":
            slides = slide_probability_at(progress, self.slide)
            points = slide_points(self.seed, epoch, uids, occurrences, slides, points)
        return points

    def _mixed(self, progress: float) -> float:
        if not self.time_step:
            return 0.0
        return mix_ratio_at(progress, self.schedule, self.start, self.end)


@functools.lru_cache(maxsize=64)
def _probability(ratio: float, num_steps: int, law: MixLaw) -> float:
    return replacement_probability(ratio, num_steps, law)
