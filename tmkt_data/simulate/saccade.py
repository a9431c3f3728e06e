"""Motion of the image: three saccades along a triangle, each smooth at both ends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tmkt_data.errors import SpecError
from tmkt_data.random_keys import Purpose, uniform

LEAST_PARTS = 30
"""Parts that a path is cut into at least, over all time bins: 10 ms of the published one."""


class DrawnKeys(NamedTuple):
    """What the random path of some samples is drawn by.

    Attributes:
        seed: Seed of the run.
        epoch: Epoch.
        uids: Hashes of the sample ids, shape (B,), uint64.
        occurrences: Number of earlier draws of each in the epoch, shape (B,), int64.
    """

    seed: int
    epoch: int
    uids: NDArray[np.uint64]
    occurrences: NDArray[np.int64]


NO_KEYS = DrawnKeys(0, 0, np.zeros(0, np.uint64), np.zeros(0, np.int64))
"""Stands for no samples: nothing is drawn."""


@dataclass(frozen=True, slots=True)
class SaccadePath:
    """Displacement of the image over time.

    Sign: at time t the sensor pixel (x, y) sees the image point (x - dx(t), y - dy(t)). A positive dx moves
    the image to the right on the sensor, a positive dy down; subtracting (dx, dy) from the coordinates of an
    event maps it back to the image.

    Within one saccade the position follows the minimum-jerk polynomial, 10 u^3 - 15 u^4 + 6 u^5, with zero
    velocity and acceleration at both ends. The corners are those of the published motion model; velocity
    profile and rest are fitted to the three peaks in the event rate of real recordings (inferred).

    Attributes:
        corners: Waypoints of the image, (dx, dy) in pixels; one saccade between neighbors.
        saccade_us: Duration of one saccade including its rest, microseconds.
        rest_us: Time within `saccade_us` without motion, half before and half after the motion.

    Source: Orchard et al., Front. Neurosci. 9:437, 2015; corners as in `stabilize.m` of that dataset.
    """

    corners: tuple[tuple[float, float], ...] = ((0.0, 0.0), (3.5, 7.0), (7.0, 0.0), (0.0, 0.0))
    saccade_us: int = 100_000
    rest_us: int = 15_000

    def __post_init__(self) -> None:
        """Validate the path.

        Raises:
            SpecError: Fewer than two corners, a corner that is not finite, or a rest without time to move.
        """
        if len(self.corners) < 2 or not np.isfinite(np.asarray(self.corners, dtype=np.float64)).all():
            raise SpecError(f"saccade path: found corners {self.corners}, expected two or more finite points")
        if not 0 <= self.rest_us < self.saccade_us:
            raise SpecError(
                f"saccade path: found rest_us {self.rest_us} in saccades of {self.saccade_us} us, "
                "expected 0 or more and less than the saccade"
            )

    @property
    def duration_us(self) -> int:
        """Duration of the whole path, microseconds."""
        return self.saccade_us * (len(self.corners) - 1)

    def displacement(self, t_us: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the displacement at given times.

        Args:
            t_us: Times in microseconds, any shape; before 0 and after the end the image rests.

        Returns:
            dx and dy in pixels, float64, with the shape of `t_us`.

        Example:
            >>> dx, dy = SaccadePath().displacement([0, 50_000, 100_000, 200_000, 300_000])
            >>> dx.tolist(), dy.tolist()
            ([0.0, 1.75, 3.5, 7.0, 0.0], [0.0, 3.5, 7.0, 0.0, 0.0])
        """
        times = np.clip(np.asarray(t_us, dtype=np.float64), 0.0, float(self.duration_us))
        leg = np.minimum(times // self.saccade_us, len(self.corners) - 2).astype(np.int64)
        u = (times - leg * self.saccade_us - self.rest_us / 2) / (self.saccade_us - self.rest_us)
        u = np.clip(u, 0.0, 1.0)
        share = u * u * u * (10.0 + u * (6.0 * u - 15.0))
        corners = np.asarray(self.corners, dtype=np.float64)
        start, way = corners[leg], corners[leg + 1] - corners[leg]
        return start[..., 0] + share * way[..., 0], start[..., 1] + share * way[..., 1]


def published_path(scale: float = 1.0, saccade_us: int = 100_000) -> SaccadePath:
    """Return the published path, longer or shorter, faster or slower.

    Args:
        scale: Length relative to the published path.
        saccade_us: Duration of one of its three saccades, microseconds; the rest is in proportion.
    """
    known = SaccadePath()
    corners = tuple((scale * dx, scale * dy) for dx, dy in known.corners)
    return SaccadePath(corners, saccade_us, int(saccade_us * known.rest_us / known.saccade_us))


def paths_in_cells(path: SaccadePath, num_time_bins: int, cells_per_px: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a path about its mean position on frames of several scales.

    Args:
        path: The path; its duration is cut into the time bins.
        num_time_bins: Number of time bins, T.
        cells_per_px: Columns and rows of each frame that one sensor pixel covers, shape (B, 2).

    Returns:
        Displacement to the right and down, shape (B, T S + 1, 2), float32, in cells, with S parts in each time bin.

    Example:
        >>> path = SaccadePath(corners=((0, 0), (2, 0)))
        >>> paths_in_cells(path, 30, np.array([[0.5, 0.5]]))[0, [0, 30], 0].tolist()
        [-0.5, 0.5]
    """
    positions = _about_mean(path, num_time_bins)
    cells = np.empty((len(cells_per_px), *positions.shape), np.float32)
    # One axis after the other: NumPy is slow over an innermost dimension of 2.
    for axis in (0, 1):
        cells[..., axis] = np.multiply.outer(cells_per_px[:, axis], positions[:, axis])
    return cells


def random_paths(
    path: SaccadePath, num_time_bins: int, cells_per_px: NDArray[np.float64], keys: DrawnKeys
) -> NDArray[np.float32]:
    """Return a path of its own for each draw: turned by any angle, 0.5 to 1.5 times as long, half of them mirrored.

    Args:
        path: The path that is varied.
        num_time_bins: Number of time bins, T.
        cells_per_px: As in `paths_in_cells`.
        keys: Seed, epoch, hashes of the sample ids, (B,), and numbers of earlier draws, (B,).

    Returns:
        As `paths_in_cells`.
    """
    angle, length, side = uniform(*keys, Purpose.SACCADE, np.arange(3)[:, None])
    # Rounded, so that machines whose sines differ in the last bits agree.
    sine, cosine = (np.round(turn(2 * np.pi * angle) * 2.0**24) / 2.0**24 for turn in (np.sin, np.cos))
    along, across = _about_mean(path, num_time_bins).T[:, None] * (0.5 + length)[:, None]
    across = np.where(side[:, None] < 0.5, across, -across)
    sine, cosine = sine[:, None], cosine[:, None]
    cells = np.empty((*along.shape, 2), np.float32)
    cells[..., 0] = (cosine * along - sine * across) * cells_per_px[:, :1]
    cells[..., 1] = (sine * along + cosine * across) * cells_per_px[:, 1:]
    return cells


@lru_cache(maxsize=16)
def _about_mean(path: SaccadePath, num_time_bins: int) -> NDArray[np.float64]:
    parts = max(1, -(-LEAST_PARTS // num_time_bins))
    times = np.linspace(0.0, path.duration_us, num_time_bins * parts + 1)
    positions = np.stack(path.displacement(times), axis=1)
    centered = np.asarray(positions - positions.mean(axis=0), np.float64)
    centered.flags.writeable = False
    return centered
