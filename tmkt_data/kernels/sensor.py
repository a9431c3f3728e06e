"""Sensor model: a pixel fires an event when its log brightness has changed by a threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel
from tmkt_data.kernels.event_columns import EventColumns

Steps = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Column and row displacement at each step, including the image offset, shape (S + 1,) each, pixels."""
Behavior = tuple[float, float, float, float, float]
"""What all pixels share:

- step_us: time between two steps, microseconds, above 0;
- follow: fraction by which a pixel's level approaches the true brightness in one step, in (0, 1];
- refractory_us: time without events after an event, microseconds, 0 or more;
- noise_per_step: probability of a noise event per pixel and step, in [0, 1];
- jitter_us: maximum time shift of an event in either direction, microseconds.
"""
Pixels = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.uint64]]
"""What each pixel has of its own, shape (height * width,) each:

- threshold_on: log-brightness increase that fires an ON event, above 0;
- threshold_off: decrease that fires an OFF event, above 0;
- start: initial reference, in (-1, 1): +1 is one ON threshold above the first level, -1 one OFF threshold below;
- key: random key for noise and jitter.
"""


@kernel
def _mix(word: np.uint64) -> np.uint64:
    """Hash one word like `tmkt_data.random_keys.mix64`."""
    z = word + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint64(z ^ (z >> np.uint64(31)))


@kernel
def _unit(word: np.uint64) -> float:
    """Map a hashed word to [0, 1) by its upper 53 bits."""
    return float(word >> np.uint64(11)) * 2.0**-53


@kernel
def sense_changes(
    brightness: NDArray[np.float64],
    steps: Steps,
    size: tuple[int, int],
    behavior: Behavior,
    pixels: Pixels,
    out: EventColumns,
) -> int:
    """Simulate every pixel over the whole path and write its events, pixel by pixel in row-major order.

    Between two steps the level of a pixel is linear. An event fires when it differs from the reference by a threshold;
    the pixel then ignores its refractory time, and the level after that is its new reference.

    Args:
        brightness: Logarithm of the image's brightness, shape (h, w), finite; edge values are replicated.
        steps: See `Steps`.
        size: Width and height of the sensor, at most 65536 each.
        behavior: See `Behavior`.
        pixels: See `Pixels`.
        out: Written to: capacity N; times lie in [0, S * step_us).

    Returns:
        Number of events. If above N, only the first N were written; call again with that capacity.

    Source: Lichtsteiner et al. 2008 (pixel), Rebecq et al. 2018 (linear interpolation between steps).
    """
    dx, dy = steps
    step_us, follow, refractory_us, noise_per_step, jitter_us = behavior
    threshold_on, threshold_off, start, keys = pixels
    t, x, y, p = out
    width, height = size
    rows, columns = brightness.shape
    num_steps = dx.size - 1
    last_us = np.int64(num_steps * step_us) - 1
    count = 0
    for pixel in range(width * height):
        row = pixel // width
        column = pixel - row * width
        on, off, key = threshold_on[pixel], threshold_off[pixel], keys[pixel]
        level = 0.0
        reference = 0.0
        blind_until = -1.0
        num_own = 0
        for step in range(num_steps + 1):
            at_x = min(max(column - dx[step], 0.0), columns - 1.0)
            at_y = min(max(row - dy[step], 0.0), rows - 1.0)
            left, top = int(at_x), int(at_y)
            right, bottom = min(left + 1, columns - 1), min(top + 1, rows - 1)
            share_x, share_y = at_x - left, at_y - top
            upper = brightness[top, left] + share_x * (brightness[top, right] - brightness[top, left])
            lower = brightness[bottom, left] + share_x * (brightness[bottom, right] - brightness[bottom, left])
            seen = upper + share_y * (lower - upper)
            if step == 0:
                level = seen
                reference = seen + start[pixel] * (on if start[pixel] > 0.0 else off)
                continue
            before = level
            level = before + follow * (seen - before)
            now = (step - 1) * step_us
            end = now + step_us
            slope = (level - before) / step_us
            while True:
                if blind_until > now:
                    if blind_until >= end:
                        break
                    now = blind_until
                    reference = before + slope * (now - (end - step_us))
                here = before + slope * (now - (end - step_us))
                if slope > 0.0:
                    event_us = now + (reference + on - here) / slope
                elif slope < 0.0:
                    event_us = now + (reference - off - here) / slope
                else:
                    break
                event_us = max(event_us, now)
                if event_us >= end:
                    break
                if count < t.size:
                    draw = _unit(_mix(key ^ np.uint64(2 * num_own + 1)))
                    shifted = np.int64(event_us + jitter_us * (2.0 * draw - 1.0))
                    t[count] = min(max(shifted, np.int64(0)), last_us)
                    x[count] = column
                    y[count] = row
                    p[count] = slope > 0.0
                count += 1
                num_own += 1
                reference = reference + on if slope > 0.0 else reference - off
                now = event_us
                blind_until = event_us + refractory_us
            if noise_per_step > 0.0:
                word = _mix(key ^ np.uint64(2 * step))
                draw = _unit(word)
                if draw < noise_per_step:
                    if count < t.size:
                        noise_us = np.int64(end - step_us + step_us * (draw / noise_per_step))
                        t[count] = min(noise_us, last_us)
                        x[count] = column
                        y[count] = row
                        p[count] = word % np.uint64(2) != 0
                    count += 1
    return count
