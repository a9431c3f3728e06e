"""Paths on which an image moves in front of a simulated camera: saccades, random walk, jitter, or points of a file."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.random_keys import BELL_SCALE, Purpose, bell, uniform
from tmkt_data.simulate.saccade import published_path

MAX_DURATION_US = 1 << 23
"""Longest path, 8.4 s: the times of an ATIS file."""
_KNOT_US = 10_000
PathKind = Literal["saccades", "random-walk", "jitter", "points"]
PATH_KINDS: tuple[PathKind, ...] = get_args(PathKind)


@dataclass(frozen=True, kw_only=True)
class Path:
    """Displacement of the image over time; a positive dx moves it to the right on the sensor, a positive dy down.

    `saccades`, `random-walk` and `jitter` are shifted so that their mean is 0: the image is seen, on average, where its
    twin shows it. `points` are taken as they are.

    Attributes:
        kind: `saccades`: three along a triangle, as published with N-Caltech101. `random-walk`: a random step every
            10 ms. `jitter`: a random place around the same point every 10 ms. `points`: straight lines.
        scale: Length relative to the published path; of the random ones, relative to 7 px: the root mean square
            displacement of `random-walk` at its end, and four times that of `jitter`.
        saccade_us: Duration of one of the three saccades, microseconds.
        duration_us: Duration of the random ones, microseconds.
        points: Rows of milliseconds, dx and dy in sensor pixels; the first at 0 ms, times increasing.

    Raises:
        SpecError: Values are out of range.
    """

    kind: PathKind = "saccades"
    scale: float = 1.0
    saccade_us: int = 100_000
    duration_us: int = 300_000
    points: tuple[tuple[float, float, float], ...] = field(default=())

    def __post_init__(self) -> None:
        if self.kind not in PATH_KINDS:
            raise SpecError(f"path: found kind {self.kind!r}, expected one of {', '.join(PATH_KINDS)}")
        if not _is_number(self.scale) or not 0 <= self.scale <= 100:
            raise SpecError(f"path: found scale {self.scale!r}, expected 0 to 100")
        for name, high in (("saccade_us", MAX_DURATION_US // 3), ("duration_us", MAX_DURATION_US)):
            value = getattr(self, name)
            if type(value) is not int or not _KNOT_US <= value <= high:
                raise SpecError(
                    f"path: found {name} {value!r}, expected a whole number from {_KNOT_US} to {high} microseconds"
                )
        if self.kind == "points":
            _require_points(self.points)
        elif self.points:
            raise SpecError(f"path: found points for kind {self.kind!r}; give kind = 'points'")

    @property
    def total_us(self) -> int:
        """Duration of the whole path, microseconds."""
        match self.kind:
            case "saccades":
                return 3 * self.saccade_us
            case "points":
                return int(self.points[-1][0] * 1000)
            case _:
                return self.duration_us

    @property
    def is_random(self) -> bool:
        """Whether each recording has a path of its own."""
        return self.kind in ("random-walk", "jitter")

    def positions(self, step_us: int, key: int) -> NDArray[np.float64]:
        """Return the displacement at each step.

        Args:
            step_us: Time between two steps, microseconds, at most `total_us`.
            key: Key of the draws of this recording; used by the random ones alone.

        Returns:
            dx and dy in sensor pixels, shape (total_us // step_us + 1, 2), float64.

        Example:
            >>> Path(kind="points", points=((0, 0, 0), (2, 4, -2))).positions(1000, key=0).tolist()
            [[0.0, 0.0], [2.0, -1.0], [4.0, -2.0]]
        """
        times = np.arange(self.total_us // step_us + 1) * float(step_us)
        match self.kind:
            case "saccades":
                found = np.stack(published_path(self.scale, self.saccade_us).displacement(times), axis=1)
            case "points":
                rows = np.asarray(self.points, np.float64)
                return np.stack([np.interp(times, rows[:, 0] * 1000, rows[:, axis]) for axis in (1, 2)], axis=1)
            case _:
                knots = self._random_knots(key)
                at = np.arange(len(knots)) * float(_KNOT_US)
                found = np.stack([np.interp(times, at, knots[:, axis]) for axis in (0, 1)], axis=1)
        # Rounded, so that machines whose sums differ in the last bits agree.
        return np.asarray(np.round((found - found.mean(axis=0)) * 2.0**20) / 2.0**20)

    def _random_knots(self, key: int) -> NDArray[np.float64]:
        count = -(-self.duration_us // _KNOT_US) + 1
        index = np.arange(count)[:, None]
        axes = np.arange(2)
        steps = bell(lambda k: uniform(key, 0, 0, 0, Purpose.SACCADE, 8 * index + 2 * k + axes)) * BELL_SCALE
        if self.kind == "jitter":
            return np.asarray(steps * (7.0 * self.scale / 4 / 2.0**0.5))
        steps[0] = 0.0
        return np.cumsum(steps * (7.0 * self.scale / math.sqrt(2.0 * (count - 1))), axis=0)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require_points(points: tuple[tuple[float, float, float], ...]) -> None:
    is_table = len(points) >= 2 and all(len(row) == 3 and all(map(_is_number, row)) for row in points)
    if not is_table:
        raise SpecError("path: found other points, expected two or more rows of milliseconds, dx and dy")
    times = [row[0] for row in points]
    if times[0] != 0 or any(late <= early for early, late in itertools.pairwise(times)):
        raise SpecError(
            f"path: found times {times[0]:g}, {times[1]:g}, ... ms, expected them to start at 0 and increase"
        )
    if not 1 <= times[-1] * 1000 <= MAX_DURATION_US:
        raise SpecError(f"path: ends at {times[-1]:g} ms, expected at most {MAX_DURATION_US / 1000:g} ms")
