"""A simulated event camera that views images: pixels, sensor, and the path on which images move."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import ImageError, SpecError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.kernels.event_columns import EventColumns, empty_columns, first_events
from tmkt_data.random_keys import Purpose, draw_key
from tmkt_data.simulate.brightness import blurred, lin_log
from tmkt_data.simulate.paths import Path
from tmkt_data.simulate.pixels import PixelModel, circuit_of, draw_sensor

if TYPE_CHECKING:
    from tmkt_data.kernels.pixel_circuit import Scene, View

CAMERA_VERSION = 1
"""Incremented with every change of the events for the same image, id, seed and settings."""
MAX_SIDE = 4096
"""Largest side of a simulated sensor."""
_WHITE = 255.0


@dataclass(frozen=True)
class CameraSettings:
    """What a simulated camera is, beside its size.

    Attributes:
        pixels: The pixel model.
        path: The path of the image.

    Raises:
        SpecError: A step of the pixel model is longer than the path.
    """

    pixels: PixelModel = field(default_factory=PixelModel)
    path: Path = field(default_factory=Path)

    def __post_init__(self) -> None:
        if self.pixels.step_us > self.path.total_us:
            raise SpecError(
                f"camera: found step_us {self.pixels.step_us}, the path takes {self.path.total_us} us; give a shorter "
                "step or a longer path"
            )


class SimulatedCamera:
    """Records images as an event camera would: a pure function of settings, sensor size, seed, sample id and image.

    One camera is used by several threads at once.

    Args:
        settings: Pixel model and path.
        size: Width and height of the sensor.
        seed: Seed of the sensor's pixels and of all draws, 0 or more.

    Raises:
        SpecError: The sensor has no pixels or too many, or the path leaves it.

    Example:
        >>> image = np.zeros((20, 30), np.uint8)
        >>> image[5:15, 10:20] = 200
        >>> camera = SimulatedCamera(CameraSettings(), SensorSize(30, 20), seed=0)
        >>> events = camera.record(image, uid=7)
        >>> len(events) > 500, bool((np.diff(events.t) >= 0).all())
        (True, True)
    """

    def __init__(self, settings: CameraSettings, size: SensorSize, seed: int = 0) -> None:
        if not (1 <= size.width <= MAX_SIDE and 1 <= size.height <= MAX_SIDE):
            raise SpecError(
                f"camera: found a sensor of {size.width} x {size.height}, expected 1 x 1 to {MAX_SIDE} x {MAX_SIDE}"
            )
        self.settings = settings
        self.size = size
        self.seed = seed
        self._sensor = draw_sensor(settings.pixels, size, seed)
        self._scratch = threading.local()
        if not settings.path.is_random:
            _require_in_view(settings.path.positions(settings.pixels.step_us, 0), (size.height, size.width), "camera")

    def record(self, light: NDArray[np.uint8], uid: int, place: str = "simulated recording") -> Events:
        """Record one image.

        The image lies at the top left of the sensor, where `prepare folder` places its twin, and moves along the path;
        beyond it, its edges go on.

        Args:
            light: Gray values, shape (h, w), uint8, no larger than the sensor.
            uid: Hash of the sample id, see `sample_uid`; draws noise, jitter and random paths.
            place: Prefix of error messages.

        Returns:
            Events sorted by time; owned by the caller.

        Raises:
            ImageError: No gray image, or one larger than the sensor.
            SpecError: The path leaves the image.
        """
        # numba loads only here.
        from tmkt_data.kernels.pixel_circuit import NUM_STATES, sense_light, sort_by_time

        if light.ndim != 2 or light.dtype != np.uint8 or not light.size:
            raise ImageError(f"{place}: found {light.dtype} of shape {light.shape}, expected (h, w) of uint8")
        if light.shape[0] > self.size.height or light.shape[1] > self.size.width:
            raise ImageError(f"{place}: {light.shape[1]} x {light.shape[0]} pixels, expected no more than the sensor")
        pixels = self.settings.pixels
        key = int(draw_key(self.seed, 1, uid, 0, Purpose.SIMULATE))
        positions = self.settings.path.positions(pixels.step_us, key)
        scene, view = self._see(light, positions, place)
        sensor, size = self._sensor, self.size
        mismatch = sensor.threshold_on, sensor.threshold_off, sensor.leak, sensor.hot
        states, counts = np.empty((NUM_STATES, size.width), np.float32), np.empty(size.width, np.int64)
        columns, spare = self._room(8 * size.width * size.height)
        while True:
            count = sense_light(scene, view, circuit_of(pixels), mismatch, np.uint64(key), states, counts, columns)
            if count <= len(columns[0]):
                break
            columns, spare = self._room(count)
        found = first_events(columns, count)
        sort_by_time(found, np.empty(4096, np.int64), spare)
        t, x, y, p = found
        return Events(t.copy(), x.copy(), y.copy(), p.copy(), size, count)

    def _room(self, num_events: int) -> tuple[EventColumns, EventColumns]:
        """Return room for events and as much again to sort them in; kept from one recording of a thread to the next."""
        room: tuple[EventColumns, EventColumns] | None = getattr(self._scratch, "room", None)
        if room is None or len(room[0][0]) < num_events:
            room = self._scratch.room = empty_columns(num_events), empty_columns(num_events)
        return room

    def _see(self, light: NDArray[np.uint8], positions: NDArray[np.float64], place: str) -> tuple[Scene, View]:
        """Return what the pixels see with a margin for the path, and where they look at each step."""
        pixels, (width, height) = self.settings.pixels, self.size
        reach_x, reach_y = _require_in_view(positions, light.shape, place)
        margin_x, margin_y = int(reach_x) + 2, int(reach_y) + 2
        shown = (255 - light if pixels.negative else light).astype(np.uint8)
        seen = blurred(shown, pixels.blur) / _WHITE
        seen = pixels.black_level + (1.0 - pixels.black_level) * seen
        margins = (
            (margin_y, margin_y + height - light.shape[0]),
            (margin_x, margin_x + width - light.shape[1]),
        )
        level, bright = (
            np.ascontiguousarray(np.pad(part, margins, mode="edge"), np.float32)
            for part in (lin_log(seen, pixels.toe), seen)
        )
        at = np.array([margin_x, margin_y]) - positions
        first = np.floor(at)
        shares = np.ascontiguousarray((at - first).T, np.float32)
        lefts, tops = np.ascontiguousarray(first.T, np.int64)
        return (level, bright), (lefts, tops, shares[0], shares[1])


def _require_in_view(positions: NDArray[np.float64], shape: tuple[int, ...], place: str) -> tuple[float, float]:
    """Return how far a path reaches across and down; refuse one on which the image is out of view."""
    reach_x, reach_y = np.abs(positions).max(axis=0).tolist()
    if reach_x >= shape[1] or reach_y >= shape[0]:
        raise SpecError(
            f"{place}: the path reaches {reach_x:.1f} px across and {reach_y:.1f} px down and leaves the image of "
            f"{shape[1]} x {shape[0]} sensor pixels; give a shorter path, or a larger sensor"
        )
    return reach_x, reach_y
