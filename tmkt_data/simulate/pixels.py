"""Pixels of a simulated event camera: what all of them do, and how they differ from each other."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.random_keys import BELL_SCALE, Purpose, bell, uniform

_ON, _OFF, _HOT = 0, 4, 8
"""Indices of the draws of a pixel of a sensor: four for each threshold, one for being hot."""
_DARK_NOISE = 0.25
"""Share of the shot noise in the brightest light, as in v2e."""
_DARK_FOLLOW = 20.0 / 275.0
"""Bandwidth in the dark relative to the brightest light, as in v2e."""


def _value(default: Any, low: float, high: float, text: str) -> Any:
    return field(default=default, metadata={"range": (low, high), "text": text})


@dataclass(frozen=True, kw_only=True)
class PixelModel:
    """What the pixels of an event camera do; each part is switched off by its own value.

    The defaults are typical of a DAVIS sensor under office light, as in v2e's settings between clean and noisy (own
    choice); `tmkt-data simulate --like` fits them to recordings.

    Raises:
        SpecError: Values are out of range; the message names all of them.

    Source: thresholds and linear interpolation: Rebecq et al., ESIM, CoRL 2018. Linear toe, spread of the thresholds,
        bandwidth by light, leak and shot noise: Hu et al., v2e, CVPRW 2021. Refractory period, hot pixels and timestamp
        jitter: Joubert et al., ICNS simulator, Front. Neurosci. 2021.
    """

    threshold_on: float = _value(0.2, 0.01, 10, "Increase of log intensity that fires an ON event, mean over pixels.")
    threshold_off: float = _value(0.2, 0.01, 10, "Decrease that fires an OFF event, mean over pixels.")
    threshold_spread: float = _value(
        0.1, 0, 0.4, "Standard deviation of each threshold over pixels, relative to it; 0: off."
    )
    toe: float = _value(0.08, 1e-3, 1, "Brightness, relative to white, below which the response is linear, not log.")
    black_level: float = _value(0.0, 0, 0.99, "Brightness of black relative to white, from stray light; 0: off.")
    negative: bool = _value(False, 0, 1, "Show the negative of the image, or swap the polarities: the same.")
    blur: int = _value(1, 0, 100, "Passes of a 3 x 3 binomial filter over the image, for the optics; 0: off.")
    time_constant_us: float = _value(
        3000, 0, 1e6, "Time constant of the photoreceptor in white light, microseconds; 0: infinite bandwidth."
    )
    slow_in_the_dark: bool = _value(True, 0, 1, "Bandwidth grows with the light, from 7 % in black; false: constant.")
    refractory_us: float = _value(1000, 0, 1e6, "Time without events after an event, microseconds; 0: off.")
    leak_hz: float = _value(0.1, 0, 100, "ON events by leak per pixel and second in a still scene; 0: off.")
    shot_hz: float = _value(1.0, 0, 1000, "Shot noise in black per pixel and second, a quarter in white; 0: off.")
    hot_share: float = _value(0.0005, 0, 0.5, "Share of hot pixels; 0: off.")
    hot_hz: float = _value(30.0, 0, 1000, "Noise events of a hot pixel per second.")
    jitter_us: float = _value(100, 0, 1e5, "Largest shift of a timestamp in either direction, microseconds; 0: off.")
    step_us: int = _value(1000, 10, 100_000, "Time between two views of the image, microseconds; linear in between.")

    def __post_init__(self) -> None:
        wrong = [line for option in dataclasses.fields(self) if (line := self._mistake(option))]
        if wrong:
            raise SpecError(f"pixel model: found {'; '.join(wrong)}; give values in range")

    def _mistake(self, option: dataclasses.Field[Any]) -> str:
        value = getattr(self, option.name)
        kind: type = type(option.default)
        if kind is bool or type(value) is bool:
            return "" if kind is type(value) else f"{option.name} {value!r} (expected {kind.__name__})"
        low, high = option.metadata["range"]
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        if not is_number or not low <= value <= high or (kind is int and value != int(value)):
            whole = "a whole number from " if kind is int else ""
            return f"{option.name} {value!r} (expected {whole}{low:g} to {high:g})"
        object.__setattr__(self, option.name, kind(value))
        return ""


class Sensor(NamedTuple):
    """A sensor: pixels of one model that differ from each other.

    Attributes:
        size: Width and height.
        threshold_on: Change of log intensity that fires an ON event, shape (H, W), float32.
        threshold_off: Change that fires an OFF event, as a positive number, shape (H, W), float32.
        leak: Drift by leak, log intensity per microsecond, shape (H, W), float32.
        hot: Noise events of hot pixels per microsecond, 0 elsewhere, shape (H, W), float32.
    """

    size: SensorSize
    threshold_on: NDArray[np.float32]
    threshold_off: NDArray[np.float32]
    leak: NDArray[np.float32]
    hot: NDArray[np.float32]


def draw_sensor(model: PixelModel, size: SensorSize, seed: int) -> Sensor:
    """Draw the pixels of a sensor: the same for all recordings of one seed.

    Args:
        model: The pixel model.
        size: Width and height.
        seed: Seed, 0 or more.

    Example:
        >>> sensor = draw_sensor(PixelModel(threshold_spread=0.0), SensorSize(4, 3), seed=0)
        >>> sensor.threshold_on.shape, round(float(sensor.threshold_on.max()), 4)
        ((3, 4), 0.2)
    """
    pixels = np.arange(size.width * size.height, dtype=np.uint64)
    shape = size.height, size.width

    def threshold(mean: float, first: int) -> NDArray[np.float32]:
        draws = bell(lambda k: uniform(seed, 0, pixels, 0, Purpose.SIMULATE, first + k))
        drawn = mean * np.maximum(1.0 + model.threshold_spread * draws * BELL_SCALE, 0.1)
        return np.asarray(drawn.reshape(shape), np.float32)

    on, off = threshold(model.threshold_on, _ON), threshold(model.threshold_off, _OFF)
    is_hot = uniform(seed, 0, pixels, 0, Purpose.SIMULATE, _HOT).reshape(shape) < model.hot_share
    leak = (on * np.float32(model.leak_hz * 1e-6)).astype(np.float32)
    return Sensor(size, on, off, leak, np.where(is_hot, model.hot_hz * 1e-6, 0.0).astype(np.float32))


def circuit_of(model: PixelModel) -> tuple[float, float, float, float, float, float, float]:
    """Return what all pixels share, in the units of `kernels.pixel_circuit.Circuit`."""
    # Without a time constant, the step is as good as infinitely long beside it.
    per_step = model.step_us / model.time_constant_us if model.time_constant_us else 1e30
    dark = _DARK_FOLLOW if model.slow_in_the_dark else 1.0
    noise = model.shot_hz * 1e-6
    return (
        float(model.step_us),
        per_step * dark,
        per_step * (1.0 - dark),
        noise,
        noise * (_DARK_NOISE - 1.0),
        float(model.refractory_us),
        float(model.jitter_us),
    )
