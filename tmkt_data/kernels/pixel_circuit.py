"""Pixels of an event camera: photoreceptor, change detector and noise, row by row over a moving image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel
from tmkt_data.kernels.event_columns import EventColumns

Scene = tuple[NDArray[np.float32], NDArray[np.float32]]
"""What the pixels see, with a margin on every side, shape (rows, columns) each: log intensity, and the share of the
brightest light, in [0, 1], which bandwidth and noise depend on."""
View = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
"""Where pixel (0, 0) looks at each step, shape (S + 1,) each: left, top, and the shares of the next column and row.

At every step `left >= 0` and `left + width < columns`, and the same for rows: nothing is checked here.
"""
Circuit = tuple[float, float, float, float, float, float, float]
"""What all pixels share:

- step_us: time between two steps, microseconds, above 0;
- follow_dark, follow_light: step / time constant = follow_dark + follow_light * light;
- noise_dark, noise_light: noise events per microsecond = noise_dark + noise_light * light, 0 or more for all light;
- refractory_us: time without events after an event, microseconds, 0 or more;
- jitter_us: largest shift of a timestamp in either direction, microseconds.
"""
Mismatch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""What each pixel has of its own, shape (height, width) each:

- threshold_on, threshold_off: change of log intensity that fires an event, above 0;
- leak: drift of the reference, log intensity per microsecond, 0 or more;
- hot: noise events per microsecond beside those of the circuit, 0 or more.
"""
NUM_STATES = 10
"""Rows of the scratch memory of `sense_light`."""

_ONE, _ZERO = np.float32(1.0), np.float32(0.0)
_START, _FIRST_NOISE, _OF_EVENTS = 0, 1, 2
"""Numbers of the draws of a pixel: one for its start, one for its first noise, three for each event."""


@kernel
def _mix(word: np.uint64) -> np.uint64:
    """Hash one word like `tmkt_data.random_keys.mix64`."""
    z = word + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint64(z ^ (z >> np.uint64(31)))


@kernel
def _draw(pixel_key: np.uint64, number: int) -> float:
    """Draw a uniform number in (0, 1)."""
    word = _mix(pixel_key ^ np.uint64(number))
    return (float(word >> np.uint64(11)) + 0.5) * 2.0**-53


@kernel
def _exponential(pixel_key: np.uint64, number: int) -> float:
    """Draw from the exponential distribution of mean 1, without the last bits, in which logarithms differ."""
    return max(float(round(-math.log(_draw(pixel_key, number)) * 2.0**20)), 1.0) * 2.0**-20


@kernel
def sense_light(
    scene: Scene,
    view: View,
    circuit: Circuit,
    mismatch: Mismatch,
    key: np.uint64,
    scratch: NDArray[np.float32],
    num_events: NDArray[np.int64],
    out: EventColumns,
) -> int:
    """Simulate every pixel over the whole path and write its events, row by row and step by step.

    In each step the photoreceptor follows the log intensity by a first-order low-pass, whose bandwidth grows with the
    light (implicit Euler: stable for any step). Its change, plus the leak, is linear within the step; an event fires
    where the change since the last one reaches a threshold. Noise events come at the times of a Poisson process whose
    rate falls with the light. Either event resets the pixel, which then ignores its refractory time.

    Args:
        scene: See `Scene`.
        view: See `View`.
        circuit: See `Circuit`.
        mismatch: See `Mismatch`.
        key: Key of all draws of this recording.
        scratch: Scratch memory, shape (NUM_STATES, width), float32; overwritten.
        num_events: Scratch memory, shape (width,), int64; overwritten.
        out: Written to: capacity N; times lie in [0, S * step_us), sorted only roughly.

    Returns:
        Number of events. If above N, only the first N were written; call again with that capacity.

    Source: Lichtsteiner et al. 2008 (pixel); Hu et al., v2e, 2021 (bandwidth, leak and shot noise by light); Rebecq et
        al., ESIM, 2018 (linear interpolation between steps).
    """
    level_map, light_map = scene
    lefts, tops, shares_x, shares_y = view
    step_us, follow_dark, follow_light, noise_dark, noise_light, refractory_us, jitter_us = circuit
    threshold_on, threshold_off, leak, hot = mismatch
    t, x, y, p = out
    height, width = threshold_on.shape
    num_steps = lefts.size - 1
    last_us = np.int64(num_steps * step_us) - 1
    dt, per_dt = np.float32(step_us), np.float32(1.0 / step_us)
    a0, a1 = np.float32(follow_dark), np.float32(follow_light)
    n0, n1 = np.float32(noise_dark * step_us), np.float32(noise_light * step_us)
    level, asleep, change, awake = scratch[0], scratch[1], scratch[2], scratch[3]
    seen, light = scratch[4], scratch[9]
    count = 0
    for row in range(height):
        ons, offs, leaks, hots = threshold_on[row], threshold_off[row], leak[row], hot[row]
        for column in range(width):
            pixel_key = _mix(key ^ np.uint64(row * width + column))
            # A pixel that leaks has come from its last event at a still image; another from a change either way.
            start = _draw(pixel_key, _START) - (0.0 if leaks[column] > _ZERO else 0.5)
            scratch[5, column] = start * (ons[column] if start > 0.0 else offs[column])
            scratch[7, column] = _exponential(pixel_key, _FIRST_NOISE)
            asleep[column] = _ZERO
            num_events[column] = 0
        for step in range(num_steps + 1):
            left, top = lefts[step], tops[step] + row
            share_x, share_y = shares_x[step], shares_y[step]
            upper, lower = level_map[top, left : left + width + 1], level_map[top + 1, left : left + width + 1]
            if step == 0:
                for column in range(width):
                    high = upper[column] + share_x * (upper[column + 1] - upper[column])
                    low = lower[column] + share_x * (lower[column + 1] - lower[column])
                    level[column] = high + share_y * (low - high)
                continue
            dark, pale = light_map[top, left : left + width + 1], light_map[top + 1, left : left + width + 1]
            new = step % 2
            gap, gap_new = scratch[6 - new], scratch[5 + new]
            noise, noise_new = scratch[8 - new], scratch[7 + new]
            # Short loops over a few arrays each: LLVM makes vector instructions of these, not of one long loop.
            for column in range(width):
                high = upper[column] + share_x * (upper[column + 1] - upper[column])
                low = lower[column] + share_x * (lower[column + 1] - lower[column])
                seen[column] = high + share_y * (low - high)
            for column in range(width):
                high = dark[column] + share_x * (dark[column + 1] - dark[column])
                low = pale[column] + share_x * (pale[column + 1] - pale[column])
                light[column] = high + share_y * (low - high)
            for column in range(width):
                before = level[column]
                now = before + (_ONE - np.divide(_ONE, _ONE + (a0 + a1 * light[column]))) * (seen[column] - before)
                level[column] = now
                change[column] = (now - before) + leaks[column] * dt
            for column in range(width):
                awake[column] = _ONE - min(asleep[column] * per_dt, _ONE)
                asleep[column] = max(asleep[column] - dt, _ZERO)
            for column in range(width):
                gap_new[column] = gap[column] + awake[column] * change[column]
            for column in range(width):
                burn = (n0 + n1 * light[column]) + hots[column] * dt
                noise_new[column] = noise[column] - awake[column] * burn
            num_firing = np.int32(0)
            for column in range(width):
                is_quiet = (gap_new[column] < ons[column]) & (gap_new[column] > -offs[column])
                num_firing += np.int32(1) if not (is_quiet & (noise_new[column] > _ZERO)) else np.int32(0)
            if num_firing == 0:
                continue
            for column in range(width):
                on, off = float(ons[column]), float(offs[column])
                if gap_new[column] < ons[column] and gap_new[column] > -offs[column] and noise_new[column] > _ZERO:
                    continue
                pixel_key = _mix(key ^ np.uint64(row * width + column))
                burn = (n0 + n1 * light[column]) + hots[column] * dt
                slope, rate = float(change[column]) / step_us, float(burn) / step_us
                here, until_noise = float(gap[column]), float(noise[column])
                now_us = step_us * (1.0 - float(awake[column]))
                while True:
                    left_us = step_us - now_us
                    there = here + slope * left_us
                    wait_us, kind = left_us, 0
                    if there >= on:
                        kind = 1
                        wait_us = (on - here) / slope if here < on else 0.0
                    elif there <= -off:
                        kind = -1
                        wait_us = (-off - here) / slope if here > -off else 0.0
                    if rate > 0.0 and until_noise <= rate * wait_us:
                        kind = 2
                        wait_us = until_noise / rate
                    if kind == 0:
                        gap_new[column] = min(max(there, -off), on)
                        noise_new[column] = max(until_noise - rate * left_us, 0.0)
                        break
                    first = _OF_EVENTS + 3 * num_events[column]
                    num_events[column] += 1
                    is_on = kind == 1 if kind < 2 else _draw(pixel_key, first + 1) < 0.5
                    if count < t.size:
                        shift_us = jitter_us * (2.0 * _draw(pixel_key, first) - 1.0)
                        event_us = np.int64(math.floor((step - 1) * step_us + now_us + wait_us + shift_us))
                        t[count] = min(max(event_us, np.int64(0)), last_us)
                        x[count] = column
                        y[count] = row
                        p[count] = is_on
                    count += 1
                    until_noise = _exponential(pixel_key, first + 2) if kind == 2 else until_noise - rate * wait_us
                    here = 0.0
                    now_us += wait_us + refractory_us
                    if now_us >= step_us:
                        gap_new[column] = _ZERO
                        noise_new[column] = until_noise
                        asleep[column] = now_us - step_us
                        break
    return count


@kernel
def sort_by_time(events: EventColumns, starts: NDArray[np.int64], spare: EventColumns) -> None:
    """Sort events by time; those of one time keep their order.

    Args:
        events: Sorted in place; times in [0, 2**24).
        starts: Scratch memory, shape (4096,), int64; overwritten.
        spare: Scratch memory for as many events or more; overwritten.
    """
    t, x, y, p = events
    spare_t, spare_x, spare_y, spare_p = spare
    for index in range(t.size):
        spare_t[index], spare_x[index], spare_y[index], spare_p[index] = t[index], x[index], y[index], p[index]
    for shift in (0, 12):
        from_t, from_x, from_y, from_p = (spare_t, spare_x, spare_y, spare_p) if shift == 0 else (t, x, y, p)
        to_t, to_x, to_y, to_p = (t, x, y, p) if shift == 0 else (spare_t, spare_x, spare_y, spare_p)
        starts[:] = 0
        for index in range(t.size):
            starts[(from_t[index] >> shift) & 4095] += 1
        total = 0
        for digit in range(4096):
            total += starts[digit]
            starts[digit] = total - starts[digit]
        for index in range(t.size):
            digit = (from_t[index] >> shift) & 4095
            place = starts[digit]
            starts[digit] = place + 1
            to_t[place], to_x[place], to_y[place], to_p[place] = (
                from_t[index], from_x[index], from_y[index], from_p[index]
            )  # fmt: skip
    for index in range(t.size):
        t[index], x[index], y[index], p[index] = spare_t[index], spare_x[index], spare_y[index], spare_p[index]
