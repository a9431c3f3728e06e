"""Simulate a recording of an image that moves along a saccade path in front of the sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import ImageError, SpecError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.formats.atis import ATIS_SIZE, MAX_TIME_US
from tmkt_data.kernels.event_columns import empty_columns, first_events
from tmkt_data.random_keys import BELL_SCALE, Purpose, bell, draw_key, uniform
from tmkt_data.simulate.brightness import log_brightness
from tmkt_data.simulate.saccade import SaccadePath

SIMULATOR_VERSION = 1
"""Incremented with every change of the events for the same image, key and settings."""

_START, _ON, _OFF, _KEY = 0, 1, 5, 9
"""Indices of the draws of a pixel: one start, four for each threshold, one key."""


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Settings of the simulator; the sensor is fitted to N-MNIST (inferred).

    Attributes:
        threshold_on: Increase of the natural log brightness that fires an ON event, mean over pixels.
        threshold_off: Decrease that fires an OFF event, mean over pixels.
        threshold_spread: Standard deviation of each threshold over pixels, relative to it, 0 to 0.4.
        refractory_us: Refractory period of a pixel after an event, microseconds.
        time_constant_us: Time constant of a pixel's first-order low-pass, microseconds; 0 for none.
        noise_rate_hz: Noise events per pixel and second, ON and OFF equally likely.
        jitter_us: Maximum time shift of an event in either direction, microseconds; uniform.
        black_level: Brightness of gray value 0 relative to 255, from stray light and screen black.
        negative: Show the negative of the image: dark strokes on a bright screen for white on black.
        blur: Passes of a 3 x 3 binomial filter over the image, variance 0.5 px^2 each, for the optics.
        step_us: Time between two image positions, microseconds; brightness is linear in between.
        path: Motion of the image; it sets the duration of the recording.
    """

    threshold_on: float = 0.2
    threshold_off: float = 0.2
    threshold_spread: float = 0.1
    refractory_us: int = 1_000
    time_constant_us: int = 3_000
    noise_rate_hz: float = 0.35
    jitter_us: int = 500
    black_level: float = 0.1
    negative: bool = False
    blur: int = 1
    step_us: int = 1_000
    path: SaccadePath = field(default_factory=SaccadePath)

    def __post_init__(self) -> None:
        """Validate all settings.

        Raises:
            SpecError: Values are out of range; the message names all of them.
        """
        ranges = (
            ("threshold_on", self.threshold_on, 1e-3, math.inf),
            ("threshold_off", self.threshold_off, 1e-3, math.inf),
            ("threshold_spread", self.threshold_spread, 0.0, 0.4),
            ("refractory_us", self.refractory_us, 0, MAX_TIME_US),
            ("time_constant_us", self.time_constant_us, 0, MAX_TIME_US),
            ("noise_rate_hz", self.noise_rate_hz, 0.0, 1e6 / max(self.step_us, 1)),
            ("jitter_us", self.jitter_us, 0, MAX_TIME_US),
            ("black_level", self.black_level, 1e-3, 1.0),
            ("blur", self.blur, 0, 100),
            ("step_us", self.step_us, 1, self.path.duration_us),
            ("path.duration_us", self.path.duration_us, 1, MAX_TIME_US + 1),
        )
        wrong = [
            f"{name} {value} (expected {low:g} to {high:g})"
            for name, value, low, high in ranges
            if not low <= value <= high
        ]
        if wrong:
            raise SpecError(f"simulator settings: found {', '.join(wrong)}; give values in range")


DEFAULT_SETTINGS = SimulatorSettings()
"""The published path; ON for increasing brightness, as in N-Caltech101."""

NMNIST_SETTINGS = SimulatorSettings(
    negative=True, path=SaccadePath(corners=((0.0, 1.5), (2.8, 7.1), (5.6, 1.5), (0.0, 1.5)))
)
"""Best fit to the recordings of N-MNIST, measured by `benchmarks/simulator_fidelity.py` (inferred).

Their polarities match dark strokes on a bright screen, and 0.8 of the published path, starting 1.5 px lower.
"""

_DEFAULT_SENSOR = SensorSize(34, 34)


def simulate_recording(
    image: NDArray[np.uint8],
    *,
    key: int,
    sensor_size: SensorSize = _DEFAULT_SENSOR,
    offset: tuple[float, float] = (0.0, 0.0),
    settings: SimulatorSettings = DEFAULT_SETTINGS,
) -> Events:
    """Simulate the events that a camera records of an image moving along a saccade path.

    The event at (x, y) at time t comes from the image point (x - offset_x - dx(t), y - offset_y - dy(t)).
    Events are a pure function of the arguments: there is no generator state, and logarithms are rounded so
    that results agree across machines.

    Args:
        image: Gray values, shape (H, W), uint8; edge values are replicated.
        key: Key of all random draws, 0 to 2**64 - 1, such as from `random_keys.draw_key`.
        sensor_size: Size of the sensor, at most 256 x 240, the limit of ATIS files.
        offset: Position of the first image pixel on the sensor at zero displacement, (x, y) in pixels.
        settings: Sensor and path.

    Returns:
        Events sorted by time, then in row-major order; owned by the caller.

    Raises:
        ImageError: The image is not a two-dimensional uint8 array with pixels.
        SpecError: The sensor has no pixels or exceeds the limit of ATIS files.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((28, 28), np.uint8)
        >>> image[8:20, 12:15] = 255
        >>> events = simulate_recording(image, key=7)
        >>> len(events) > 500, events.sensor_size
        (True, SensorSize(width=34, height=34))
    """
    # numba loads only here.
    from tmkt_data.kernels.sensor import sense_changes

    _check_arguments(image, sensor_size)
    num_steps = settings.path.duration_us // settings.step_us
    dx, dy = settings.path.displacement(np.arange(num_steps + 1) * settings.step_us)
    pixels = _draw_pixels(key, sensor_size, settings)
    follow = _round(-math.expm1(-settings.step_us / settings.time_constant_us)) if settings.time_constant_us else 1.0
    noise_per_step = settings.noise_rate_hz * settings.step_us * 1e-6
    behavior = (
        float(settings.step_us),
        follow,
        float(settings.refractory_us),
        noise_per_step,
        float(settings.jitter_us),
    )
    steps, size = (dx + offset[0], dy + offset[1]), (sensor_size.width, sensor_size.height)
    shown = 255 - image if settings.negative else image
    brightness = log_brightness(shown, settings.black_level, settings.blur)
    capacity = 16 * sensor_size.width * sensor_size.height
    while True:
        columns = empty_columns(capacity)
        count = sense_changes(brightness, steps, size, behavior, pixels, columns)
        if count <= capacity:
            break
        capacity = count
    t, x, y, p = first_events(columns, count)
    order = np.argsort(t, kind="stable")
    return Events(t[order], x[order], y[order], p[order], sensor_size, count)


def _check_arguments(image: NDArray[np.uint8], sensor_size: SensorSize) -> None:
    if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
        raise ImageError(
            f"simulated recording: the image has shape {image.shape} and type {image.dtype}, "
            "expected (H, W) of uint8; convert it to gray first"
        )
    if not (1 <= sensor_size.width <= ATIS_SIZE.width and 1 <= sensor_size.height <= ATIS_SIZE.height):
        raise SpecError(
            f"simulated recording: found a sensor of {sensor_size.width} x {sensor_size.height}, "
            f"expected 1 x 1 to {ATIS_SIZE.width} x {ATIS_SIZE.height}; scale the image down"
        )


def _round(value: float) -> float:
    """Round off the last bits, in which logarithms differ between machines."""
    return round(value * 2**24) / 2**24


def _draw_pixels(
    key: int, size: SensorSize, settings: SimulatorSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.uint64]]:
    """Return the ON threshold, OFF threshold, initial reference and key per pixel, (height * width,) each."""
    pixels = np.arange(size.width * size.height, dtype=np.uint64)

    def threshold(mean: float, first: int) -> NDArray[np.float64]:
        draws = bell(lambda k: uniform(key, 0, pixels, 0, Purpose.SIMULATE, first + k))
        return mean * np.maximum(1.0 + settings.threshold_spread * (draws * BELL_SCALE), 0.1)

    start = uniform(key, 0, pixels, 0, Purpose.SIMULATE, _START) - 0.5
    keys = draw_key(key, 0, pixels, 0, Purpose.SIMULATE, _KEY)
    return threshold(settings.threshold_on, _ON), threshold(settings.threshold_off, _OFF), start, keys
