"""Fit a simulated camera to real recordings of known images: polarity, path, optics, noise, bandwidth, thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.events.events import Events, SensorSize, Window
from tmkt_data.events.filters import place_events
from tmkt_data.random_keys import sample_uid
from tmkt_data.simulate.camera import CameraSettings, SimulatedCamera
from tmkt_data.simulate.closeness import Closeness, compare
from tmkt_data.simulate.pixels import PixelModel

SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
TIME_CONSTANTS_US = (0, 500, 1000, 2000, 3000, 5000, 8000, 12_000)
BLURS = (0, 1, 2)
TOES = (0.02, 0.08, 0.2, 0.5, 1.0)
NUM_PARTS = 5
"""Parts of a fit."""
_ROUNDS, _FEW_ROUNDS = 4, 2
"""Rounds that set the thresholds: of a new model, and of one that changes little."""
_DARK_SHARE = 0.75
"""Share of the shot noise in black that the brightest light takes away, see `PixelModel`."""


class KnownRecording(NamedTuple):
    """A real recording and the image that it shows.

    Attributes:
        id: Sample id.
        light: The image as it lies on the sensor, its edges continued, shape (H, W) of the sensor, uint8.
        events: The recording, times from 0.
        window: Rows and columns of `light` that the recording was cropped to; None for all of it.
    """

    id: str
    light: NDArray[np.uint8]
    events: Events
    window: Window | None = None


class Fit(NamedTuple):
    """A state of the fit.

    Attributes:
        settings: The camera so far.
        what: What has just been fitted.
        closeness: How close it comes to the recordings that it is fitted to.
    """

    settings: CameraSettings
    what: str
    closeness: Closeness


class CameraFit:
    """Fits a camera to recordings.

    Polarity and length of the path are those whose frames correlate most with the recordings. Noise and leak are
    counted at pixels where the simulated image fires nothing. For each blur, toe and time constant the thresholds are
    set so that ON and OFF events are as many as recorded; those with the closest frames and rate profile are taken.

    Args:
        known: Recordings to fit to, one or more, whose `light` has one shape.
        size: Width and height of their sensor, on which events are compared.
        start: Where the fit starts; what is not fitted stays.
        seed: Seed of the simulated sensor and its noise.
        workers: Number of threads.

    Raises:
        SpecError: There are no recordings, or the path is random.
    """

    def __init__(
        self, known: Sequence[KnownRecording], size: SensorSize, start: CameraSettings, seed: int = 0, workers: int = 1
    ) -> None:
        if not known or not all(len(recording.events) for recording in known):
            raise SpecError("fit: found no recordings with events, expected one or more with their images")
        if start.path.is_random:
            raise SpecError(
                f"fit: found the path {start.path.kind!r}, expected one that all recordings have, as saccades"
            )
        self._known, self._size, self._start, self._seed = known, size, start, seed
        self._workers = workers

    def run(self) -> Iterator[Fit]:
        """Fit, yielding the state after each of the parts; the last one is the result."""
        settings = self._start
        parts: tuple[tuple[str, Callable[[CameraSettings], CameraSettings]], ...] = (
            ("polarity and path length", self._fit_path),
            ("thresholds", self._fit_thresholds),
            ("blur and toe", self._fit_optics),
            ("noise and leak", self._fit_noise),
            ("bandwidth and thresholds", self._fit_bandwidth),
        )
        for what, fit in parts:
            settings = fit(settings)
            yield Fit(settings, what, self.closeness(settings, self._known))

    def closeness(self, settings: CameraSettings, known: Sequence[KnownRecording]) -> Closeness:
        """Return how close a camera comes to recordings."""
        simulated = self.record(settings, known)
        return compare([recording.events for recording in known], simulated, self._size, settings.path.total_us)

    def record(self, settings: CameraSettings, known: Sequence[KnownRecording]) -> list[Events]:
        """Simulate a recording of each image, cropped as the real one."""
        camera = SimulatedCamera(settings, SensorSize(*known[0].light.shape[::-1]), self._seed)

        def record(one: KnownRecording) -> Events:
            return _cropped(camera.record(one.light, sample_uid(one.id), one.id), one.window, self._size)

        with ThreadPoolExecutor(self._workers, "fit") as pool:
            return list(pool.map(record, known))

    def _fit_path(self, settings: CameraSettings) -> CameraSettings:
        quiet = dataclasses.replace(settings.pixels, leak_hz=0.0, shot_hz=0.0, hot_share=0.0)
        scales = SCALES if settings.path.kind == "saccades" else (settings.path.scale,)
        tried = [
            CameraSettings(
                dataclasses.replace(quiet, negative=negative), dataclasses.replace(settings.path, scale=scale)
            )
            for negative in (False, True)
            for scale in scales
        ]
        best = max(tried, key=lambda one: self.closeness(one, self._known).own_frames)
        return CameraSettings(dataclasses.replace(settings.pixels, negative=best.pixels.negative), best.path)

    def _fit_thresholds(self, settings: CameraSettings, rounds: int = _ROUNDS) -> CameraSettings:
        """Set the thresholds so that ON and OFF events are as many as recorded: events go with their inverse."""
        wanted = _polarity_counts([recording.events for recording in self._known])
        for _ in range(rounds):
            found = _polarity_counts(self.record(settings, self._known))
            off, on = (np.clip(found / np.maximum(wanted, 1), 0.25, 4.0)).tolist()
            settings = _changed(
                settings,
                threshold_on=_in_range(settings.pixels.threshold_on * on),
                threshold_off=_in_range(settings.pixels.threshold_off * off),
            )
        return settings

    def _fit_optics(self, settings: CameraSettings) -> CameraSettings:
        """Choose the blur and the toe, below which the response to light is linear."""
        tried = [_changed(settings, blur=blur, toe=toe) for blur in BLURS for toe in TOES]
        return self._closest([self._fit_thresholds(one, _FEW_ROUNDS) for one in tried])

    def _fit_noise(self, settings: CameraSettings) -> CameraSettings:
        """Count events where the image fires nothing, also at half the thresholds."""
        pixels = settings.pixels
        eager = _changed(
            settings,
            threshold_on=_in_range(pixels.threshold_on / 2),
            threshold_off=_in_range(pixels.threshold_off / 2),
            leak_hz=0.0,
            shot_hz=0.0,
            hot_share=0.0,
        )
        total = np.zeros(3)
        for recording, events in zip(self._known, self.record(eager, self._known), strict=True):
            is_still = ~_grown(self._map(events) > 0)
            shown = _cropped_light(recording.light, recording.window, self._size)
            light = (255 - shown if pixels.negative else shown)[is_still] / 255.0
            on, off = (self._map(recording.events, polarity)[is_still] for polarity in (True, False))
            is_calm = on + off < 5
            total += (on[is_calm].sum(), off[is_calm].sum(), (1.0 - _DARK_SHARE * light[is_calm]).sum())
        if not total[2]:
            return settings
        seconds = settings.path.total_us * 1e-6
        on_hz, off_hz = (float(count) for count in total[:2] / total[2] / seconds)
        # Shot noise is ON and OFF alike; what ON events are more may be leak, or noise that prefers ON.
        noises = [(on_hz + off_hz, 0.0), (2 * min(on_hz, off_hz), max(on_hz - off_hz, 0.0))]
        tried = [
            _changed(settings, shot_hz=min(shot_hz, 1000.0), leak_hz=min(leak_hz, 100.0), hot_share=0.0)
            for shot_hz, leak_hz in noises
        ]
        return self._closest([self._fit_thresholds(one, _FEW_ROUNDS) for one in tried])

    def _fit_bandwidth(self, settings: CameraSettings) -> CameraSettings:
        tried = [_changed(settings, time_constant_us=float(time_us)) for time_us in TIME_CONSTANTS_US]
        return self._fit_thresholds(
            self._closest([self._fit_thresholds(one, _FEW_ROUNDS) for one in tried]), _FEW_ROUNDS
        )

    def _closest(self, tried: Sequence[CameraSettings]) -> CameraSettings:
        """Return the camera whose frames and rate profile correlate most with the recordings."""

        def score(settings: CameraSettings) -> float:
            found = self.closeness(settings, self._known)
            return found.own_frames + found.profile

        return max(tried, key=score)

    def _map(self, events: Events, polarity: bool | None = None) -> NDArray[np.int64]:
        chosen = slice(None) if polarity is None else events.p == polarity
        cells = events.y[chosen].astype(np.int64) * self._size.width + events.x[chosen]
        counts = np.bincount(cells, minlength=self._size.width * self._size.height)
        return counts.reshape(self._size.height, self._size.width).astype(np.int64)


def _cropped(events: Events, window: Window | None, size: SensorSize) -> Events:
    """Return the events that a recording keeps which is cropped to a window."""
    if window is None:
        return events
    placed = place_events(events, window.size, (-window.x_first, -window.y_first))
    return dataclasses.replace(placed, sensor_size=size)


def _cropped_light(light: NDArray[np.uint8], window: Window | None, size: SensorSize) -> NDArray[np.uint8]:
    """Return what the sensor of the recordings sees, shape (H, W)."""
    first_x, first_y = (window.x_first, window.y_first) if window is not None else (0, 0)
    return light[first_y : first_y + size.height, first_x : first_x + size.width]


def _changed(settings: CameraSettings, **values: float) -> CameraSettings:
    return dataclasses.replace(settings, pixels=dataclasses.replace(settings.pixels, **values))  # type: ignore[arg-type]


def _in_range(threshold: float) -> float:
    low, high = PixelModel.__dataclass_fields__["threshold_on"].metadata["range"]
    return float(np.clip(threshold, low, high))


def _polarity_counts(recordings: Sequence[Events]) -> NDArray[np.float64]:
    """Return the medians of OFF and ON events over recordings."""
    return np.asarray(np.median([np.bincount(events.p, minlength=2) for events in recordings], axis=0), np.float64)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask with its neighbors, two pixels in each direction."""
    padded = np.pad(mask, 2)
    height, width = mask.shape
    shifted = [padded[dy : dy + height, dx : dx + width] for dy in range(5) for dx in range(5)]
    return np.asarray(np.logical_or.reduce(shifted))
