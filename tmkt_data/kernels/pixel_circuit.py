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
_NOTHING, _ON, _OFF, _OF_NOISE = 0, 1, -1, 2
"""What comes first in what is left of a step."""
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
def _look(seen_map: NDArray[np.float32], view: View, at: tuple[int, int], out: NDArray[np.float32]) -> None:
    """Write what the pixels of a row see of a map at one step, between four of its cells; `at` is row and step."""
    lefts, tops, shares_x, shares_y = view
    row, step = at
    left, top, share_x, share_y = lefts[step], tops[step] + row, shares_x[step], shares_y[step]
    upper, lower = seen_map[top, left : left + out.size + 1], seen_map[top + 1, left : left + out.size + 1]
    for column in range(out.size):
        high = upper[column] + share_x * (upper[column + 1] - upper[column])
        low = lower[column] + share_x * (lower[column + 1] - lower[column])
        out[column] = high + share_y * (low - high)


@kernel
def _start_row(
    own: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    keys: tuple[np.uint64, int],
    gap: NDArray[np.float32],
    noise: NDArray[np.float32],
) -> None:
    """Draw change and noise that the pixels of a row start with.

    Args:
        own: Thresholds and leak of the row, see `Mismatch`.
        keys: Key of the recording, and number of the first pixel.
        gap: Written to: change since an event before, log intensity.
        noise: Written to: noise still to come.
    """
    ons, offs, leaks = own
    key, first = keys
    for column in range(gap.size):
        pixel_key = _mix(key ^ np.uint64(first + column))
        # A pixel that leaks has come from its last event at a still image; another from a change either way.
        start = _draw(pixel_key, _START) - (0.0 if leaks[column] > _ZERO else 0.5)
        gap[column] = start * (ons[column] if start > 0.0 else offs[column])
        noise[column] = _exponential(pixel_key, _FIRST_NOISE)


@kernel
def _next_event(
    state: tuple[float, float], slopes: tuple[float, float], thresholds: tuple[float, float], left_us: float
) -> tuple[int, float]:
    """Return which event comes first in what is left of a step, and after how long: ON, OFF, noise, or none.

    Args:
        state: Change since the last event, and noise still to come.
        slopes: How the one grows and the other shrinks in a microsecond.
        thresholds: ON and OFF.
        left_us: What is left of the step, microseconds.
    """
    here, until_noise = state
    slope, rate = slopes
    on, off = thresholds
    there = here + slope * left_us
    kind, wait_us = _NOTHING, left_us
    if there >= on:
        kind, wait_us = _ON, (on - here) / slope if here < on else 0.0
    elif there <= -off:
        kind, wait_us = _OFF, (-off - here) / slope if here > -off else 0.0
    if rate > 0.0 and until_noise <= rate * wait_us:
        kind, wait_us = _OF_NOISE, until_noise / rate
    return kind, wait_us


@kernel
def _fire_pixel(
    pixel: tuple[int, int, np.uint64, int],
    thresholds: tuple[float, float],
    slopes: tuple[float, float],
    state: tuple[float, float, float],
    times: tuple[float, float, float, float, np.int64],
    count: int,
    out: EventColumns,
) -> tuple[float, float, float, int, int]:
    """Write the events of a pixel in one step.

    Args:
        pixel: Column, row, key, and number of its events so far.
        thresholds: As for `_next_event`.
        slopes: As for `_next_event`.
        state: Change since the last event, noise still to come, and when it wakes in the step, microseconds.
        times: Begin and length of the step, refractory time, jitter, and the last time of all; microseconds.
        count: Number of events so far.
        out: See `sense_light`.

    Returns:
        Change, noise, and how long it sleeps on after the step (below 0: it is awake), microseconds; its number of
        events, and that of all.
    """
    t, x, y, p = out
    column, row, pixel_key, num_events = pixel
    on, off = thresholds
    slope, rate = slopes
    here, until_noise, now_us = state
    begin_us, step_us, refractory_us, jitter_us, last_us = times
    while True:
        left_us = step_us - now_us
        kind, wait_us = _next_event((here, until_noise), slopes, thresholds, left_us)
        if kind == _NOTHING:
            gap = min(max(here + slope * left_us, -off), on)
            return gap, max(until_noise - rate * left_us, 0.0), -1.0, num_events, count
        first = _OF_EVENTS + 3 * num_events
        num_events += 1
        if count < t.size:
            shift_us = jitter_us * (2.0 * _draw(pixel_key, first) - 1.0)
            event_us = np.int64(math.floor(begin_us + now_us + wait_us + shift_us))
            t[count] = min(max(event_us, np.int64(0)), last_us)
            x[count] = column
            y[count] = row
            p[count] = kind == _ON or (kind == _OF_NOISE and _draw(pixel_key, first + 1) < 0.5)
        count += 1
        until_noise = _exponential(pixel_key, first + 2) if kind == _OF_NOISE else until_noise - rate * wait_us
        here = 0.0
        now_us += wait_us + refractory_us
        if now_us >= step_us:
            return 0.0, until_noise, now_us - step_us, num_events, count


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
    step_us, follow_dark, follow_light, noise_dark, noise_light, refractory_us, jitter_us = circuit
    threshold_on, threshold_off, leak, hot = mismatch
    height, width = threshold_on.shape
    num_steps = view[0].size - 1
    last_us = np.int64(num_steps * step_us) - 1
    dt, per_dt = np.float32(step_us), np.float32(1.0 / step_us)
    a0, a1 = np.float32(follow_dark), np.float32(follow_light)
    n0, n1 = np.float32(noise_dark * step_us), np.float32(noise_light * step_us)
    level, asleep, change, awake = scratch[0], scratch[1], scratch[2], scratch[3]
    seen, light = scratch[4], scratch[9]
    count = 0
    for row in range(height):
        ons, offs, leaks, hots = threshold_on[row], threshold_off[row], leak[row], hot[row]
        _start_row((ons, offs, leaks), (key, row * width), scratch[5], scratch[7])
        asleep[:] = _ZERO
        num_events[:] = 0
        _look(level_map, view, (row, 0), level)
        for step in range(1, num_steps + 1):
            _look(level_map, view, (row, step), seen)
            _look(light_map, view, (row, step), light)
            new = step % 2
            gap, gap_new = scratch[6 - new], scratch[5 + new]
            noise, noise_new = scratch[8 - new], scratch[7 + new]
            # Short loops over a few arrays each: LLVM makes vector instructions of these, not of one long loop.
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
                if gap_new[column] < ons[column] and gap_new[column] > -offs[column] and noise_new[column] > _ZERO:
                    continue
                burn = (n0 + n1 * light[column]) + hots[column] * dt
                gap_new[column], noise_new[column], asleep_us, num_events[column], count = _fire_pixel(
                    (column, row, _mix(key ^ np.uint64(row * width + column)), num_events[column]),
                    (float(ons[column]), float(offs[column])),
                    (float(change[column]) / step_us, float(burn) / step_us),
                    (float(gap[column]), float(noise[column]), step_us * (1.0 - float(awake[column]))),
                    ((step - 1) * step_us, step_us, refractory_us, jitter_us, last_us),
                    count,
                    out,
                )
                if asleep_us >= 0.0:
                    asleep[column] = asleep_us
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
