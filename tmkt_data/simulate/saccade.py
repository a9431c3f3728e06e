"""Motion of the image: three saccades along a triangle, each smooth at both ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tmkt_data.errors import SpecError


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
