"""Fit the path and the polarity of a camera to recordings and the images that they were made from."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tmkt_data.datasets.cameras import Camera, CameraView, FrameLayout
from tmkt_data.errors import PairingError, counted
from tmkt_data.images.log_intensity import unit_response
from tmkt_data.pairs.event_scale import scale_events
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.sample_ids import evenly_spaced
from tmkt_data.simulate.closeness import standardized
from tmkt_data.simulate.saccade import SaccadePath

MAX_RECORDINGS = 40
LEAST_CORRELATION = 0.1
"""Mean correlation below which no path is taken to be found."""
_FIRST_SCALE = 0.8
_SCALES = tuple(round(0.3 + 0.1 * step, 1) for step in range(14))
_FINE = 0.05
_TURN, _FINE_TURN = 45.0, 7.5


class Motion(NamedTuple):
    """A variation of the published path, and a polarity.

    Attributes:
        is_negative: Whether ON and OFF events are those of the negative of the images.
        is_mirrored: Whether the path is mirrored, left to right, before it is turned.
        degrees: Turn of the path, clockwise on the sensor.
        scale: Length relative to the published path.
    """

    is_negative: bool = False
    is_mirrored: bool = False
    degrees: float = 0.0
    scale: float = 1.0

    @property
    def camera(self) -> Camera:
        """The camera that moves like this; corners in steps of 0.01 px.

        Example:
            >>> Motion(degrees=90.0, scale=2.0).camera.path.corners[1]
            (-14.0, 7.0)
        """
        corners = np.asarray(SaccadePath().corners) * [-1.0 if self.is_mirrored else 1.0, 1.0]
        angle = np.radians(self.degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        found = np.round(self.scale * corners @ turn.T, 2) + 0.0
        return Camera(SaccadePath(tuple((dx, dy) for dx, dy in found.tolist())), self.is_negative)


@dataclasses.dataclass(frozen=True)
class MotionFit:
    """How the camera of a cache moved.

    Attributes:
        motion: The motion with the highest correlation.
        own: Mean correlation of recordings with the frames of their twins along it, over steps, channels and cells.
        published: The same along the published path, polarity as it is.
        other_polarity: The highest one found with the other polarity, over all directions.
        num_recordings: Recordings that were compared.
    """

    motion: Motion
    own: float
    published: float
    other_polarity: float
    num_recordings: int

    def to_dict(self) -> dict[str, Any]:
        """Return motion, camera and correlations as plain values."""
        path = self.motion.camera.path
        return {
            "motion": self.motion._asdict(),
            "camera": {"negative": self.motion.is_negative, "corners": path.corners}
            | {"saccade_us": path.saccade_us, "rest_us": path.rest_us},
            "own": self.own,
            "published": self.published,
            "other_polarity": self.other_polarity,
            "num_recordings": self.num_recordings,
        }

    def to_toml(self) -> str:
        """Return the camera as TOML, which `datasets.cameras.camera_from` reads."""
        camera = self.motion.camera
        corners = ", ".join(f"[{dx}, {dy}]" for dx, dy in camera.path.corners)
        return (
            f"# fitted to {counted(self.num_recordings, 'recording')}: correlation {self.own:.3f}; along the published "
            f"path {self.published:.3f}, with the other polarity {self.other_polarity:.3f}\n"
            f"negative = {str(camera.is_negative).lower()}\n"
            f"corners = [{corners}]\n"
            f"saccade_us = {camera.path.saccade_us}\n"
            f"rest_us = {camera.path.rest_us}\n"
        )


def fit_motion(frames: PairedFrames) -> MotionFit:
    """Fit direction, length and polarity of the published path to recordings of a split and their twins.

    All directions in steps of 45 degrees, mirrored or not, are compared with both polarities; then the length and the
    angle of the best one are refined, to 0.05 and 7.5 degrees.

    Args:
        frames: Pairs of one split, of any encoder; at most `MAX_RECORDINGS` recordings, evenly spaced, are read.

    Raises:
        PairingError: No recording has a twin, or none of the paths correlates with the recordings.
        CacheError: A frame was modified after it was written.
    """
    compared = _Compared(frames)
    first = [
        Motion(is_negative, is_mirrored, turn * _TURN, _FIRST_SCALE)
        for is_negative in (False, True)
        for is_mirrored in (False, True)
        for turn in range(8)
    ]
    scores = {motion: compared.correlation(motion) for motion in first}
    best = max(scores, key=scores.__getitem__)
    for refine in (_other_lengths, _other_angles, _near_lengths):
        scores |= {motion: compared.correlation(motion) for motion in refine(best) if motion not in scores}
        best = max(scores, key=scores.__getitem__)
    if scores[best] < LEAST_CORRELATION:
        raise PairingError(
            f"{frames.cache.info.path.name}: no path found: the best one correlates {scores[best]:.2f} with "
            f"{counted(compared.num_recordings, 'recording')}, expected {LEAST_CORRELATION} or more; the camera moved "
            "otherwise, or images and recordings do not belong together; use 'microsaccade' or 'gradient'"
        )
    return MotionFit(
        motion=best._replace(degrees=best.degrees % 360),
        own=scores[best],
        published=compared.correlation(Motion()),
        other_polarity=max(score for motion, score in scores.items() if motion.is_negative != best.is_negative),
        num_recordings=compared.num_recordings,
    )


def _other_lengths(near: Motion) -> list[Motion]:
    return [near._replace(scale=scale) for scale in _SCALES]


def _other_angles(near: Motion) -> list[Motion]:
    return [near._replace(degrees=near.degrees + _FINE_TURN * step) for step in range(-3, 4)]


def _near_lengths(near: Motion) -> list[Motion]:
    return [near._replace(scale=round(near.scale + _FINE * step, 2)) for step in (-1, 1)]


class _Compared:
    """Recordings, standardized, and the intensities of their twins."""

    def __init__(self, frames: PairedFrames) -> None:
        with_twin = np.flatnonzero(frames.twins >= 0)
        cache, place = frames.cache, frames.cache.info.path.name
        if not len(with_twin):
            raise PairingError(
                f"{place}: no recording of split {frames.split!r} has a twin, expected one or more to fit a path to; "
                "prepare recordings with the images that they were made from"
            )
        chosen = with_twin[evenly_spaced(len(with_twin), MAX_RECORDINGS)]
        images = frames.twins[chosen]
        events = cache.event_frames(frames.rows[chosen])
        self.num_recordings = len(chosen)
        self._rate = float(np.abs(events).mean(dtype=np.float64))
        self._events = standardized(scale_events(events.copy(), "log1p"))
        self._intensities = cache.finest_frames(images)
        self._sizes = np.stack([cache.tables[f"images/{side}_px"][images] for side in ("height", "width")], axis=1)
        self._layout = FrameLayout.of(cache.spec, cache.info.facts)

    def correlation(self, motion: Motion) -> float:
        """Return the mean correlation of the recordings with their twins along a path, at scale log1p."""
        spec = self._layout.spec
        view = CameraView(motion.camera, self._layout)
        changes = view.changes(self._intensities, self._sizes, unit_response(spec.num_channels))
        mean = float(np.abs(changes).mean(dtype=np.float64))
        if not mean or not self._rate:
            return 0.0
        shown = standardized(scale_events(changes * np.float32(self._rate / mean), "log1p"))
        return float((shown * self._events).sum(axis=1, dtype=np.float64).mean())
