"""The pixels of a simulated camera against plain Python, bit for bit, and the sort of their events."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.kernels.event_columns import empty_columns, first_events
from tmkt_data.kernels.pixel_circuit import NUM_STATES, sense_light, sort_by_time

MARGIN = 4


def small_world(seed, height=4, width=5, num_steps=12, **changes):
    """Arguments of the kernel: a random scene, path and mismatch, and what is given of the circuit."""
    random = np.random.default_rng(seed)
    shape = height + 2 * MARGIN, width + 2 * MARGIN
    light = random.uniform(0.05, 1.0, shape).astype(np.float32)
    at = np.cumsum(random.normal(0.0, 0.3, (2, num_steps + 1)), axis=1).clip(-MARGIN + 2, MARGIN - 2) + MARGIN
    first = np.floor(at)
    shares = (at - first).astype(np.float32)
    view = first[0].astype(np.int64), first[1].astype(np.int64), shares[0].copy(), shares[1].copy()
    values = {
        "step_us": 1000.0,
        "follow_dark": 0.05,
        "follow_light": 0.4,
        "noise_dark": 2e-4,
        "noise_light": -1e-4,
        "refractory_us": 300.0,
        "jitter_us": 100.0,
    }
    threshold = random.uniform(0.05, 0.4, (2, height, width)).astype(np.float32)
    leak, hot = (random.uniform(-1e-5, 1e-5, (height, width)).clip(0.0).astype(np.float32) for _ in range(2))
    return (np.log(light), light), view, tuple((values | changes).values()), (threshold[0], threshold[1], leak, hot)


def run(world, key, room=20_000):
    scene, view, circuit, mismatch = world
    width = mismatch[0].shape[1]
    scratch, counts = np.full((NUM_STATES, width), np.nan, np.float32), np.full(width, -9, np.int64)
    out = empty_columns(room)
    count = sense_light(scene, view, circuit, mismatch, np.uint64(key), scratch, counts, out)
    return count, out


def rows_of(columns, count):
    return [(int(t), int(x), int(y), bool(p)) for t, x, y, p in zip(*first_events(columns, count), strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    key=st.integers(0, 2**64 - 1),
    step_us=st.sampled_from([100.0, 1000.0, 20_000.0]),
    refractory_us=st.sampled_from([0.0, 1.0, 900.0, 2_500.0, 1e6]),
    noise=st.sampled_from([0.0, 1e-5, 1e-3]),
    follow_dark=st.sampled_from([0.0, 0.5, 1e30]),
    jitter_us=st.sampled_from([0.0, 700.0]),
)
def test_equals_plain_python_bit_for_bit(seed, key, step_us, refractory_us, noise, follow_dark, jitter_us):
    world = small_world(
        seed,
        step_us=step_us,
        refractory_us=refractory_us,
        noise_dark=noise,
        noise_light=-noise / 2,
        follow_dark=follow_dark,
        jitter_us=jitter_us,
    )
    count, out = run(world, key)
    assert rows_of(out, count) == naive.sense_light(*world, key)


def test_the_cases_of_the_property_fire():
    # A property over silent pixels would hold for any kernel.
    for noise, least in ((0.0, 15), (1e-3, 60)):
        count, out = run(small_world(3, noise_dark=noise, noise_light=0.0), key=5)
        assert count > least
        assert len({(t, x, y) for t, x, y, _ in rows_of(out, count)}) >= least


def test_writes_no_more_than_there_is_room_for():
    world = small_world(1, noise_dark=1e-3)
    count, whole = run(world, key=9)
    assert count > 20
    for room in (0, 1, count // 2, count):
        needed, cut = run(world, key=9, room=room)
        assert needed == count
        assert rows_of(cut, room) == rows_of(whole, count)[:room]


@pytest.mark.parametrize("width", [1, 7, 8, 9, 33])
def test_any_width(width):
    world = small_world(2, height=2, width=width)
    count, out = run(world, key=4)
    assert rows_of(out, count) == naive.sense_light(*world, 4)


@settings(max_examples=50, deadline=None)
@given(times=st.lists(st.integers(0, 2**24 - 1) | st.integers(0, 5_000), max_size=60), spare=st.integers(0, 9))
def test_sorts_by_time_and_keeps_the_order_of_equal_times(times, spare):
    number = np.arange(len(times))
    events = np.array(times, np.int64), number.astype(np.uint16), (number // 3).astype(np.uint16), number % 2 == 0
    order = np.argsort(events[0], kind="stable")
    expected = [column[order].copy() for column in events]
    sort_by_time(events, np.empty(4096, np.int64), empty_columns(len(times) + spare))
    for column, right in zip(events, expected, strict=True):
        assert (column == right).all()
