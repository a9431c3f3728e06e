import dataclasses

import event_strategies
import naive
import numpy as np
import pytest
from conftest import build
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.errors import EventError
from tmkt_data.events.events import OUTSIDE, SensorSize
from tmkt_data.events.filters import (
    REASONS,
    canvas_size,
    filter_events,
    hot_pixel_limit,
    orient_events,
    place_events,
    swaps_axes,
    turn,
)
from tmkt_data.spec import ORIENTATIONS, PrepareSpec

SIZE = SensorSize(7, 5)
ROWS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, SIZE.width - 1), st.integers(0, SIZE.height - 1), st.booleans()),
    max_size=60,
)


def picture(events, size):
    out = np.zeros((size.height, size.width), int)
    np.add.at(out, (events.y, events.x), 1)
    return out


TURNED = {
    "as-is": lambda a: a,
    "flip-x": lambda a: a[:, ::-1],
    "flip-y": lambda a: a[::-1],
    "rotate-180": lambda a: np.rot90(a, 2),
    "rotate-90": lambda a: np.rot90(a, -1),
    "rotate-270": lambda a: np.rot90(a, 1),
    "transpose": lambda a: a.T,
    "anti-transpose": lambda a: a[::-1, ::-1].T,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@given(rows=ROWS)
def test_turned_events_are_the_turned_picture(orientation, rows):
    events = naive.make_events(rows, SIZE)
    turned = orient_events(events, orientation)
    assert turned.sensor_size == canvas_size(SIZE, orientation)
    np.testing.assert_array_equal(picture(turned, turned.sensor_size), TURNED[orientation](picture(events, SIZE)))
    np.testing.assert_array_equal(turned.t, events.t)
    np.testing.assert_array_equal(turned.p, events.p)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_turn_and_its_opposite_give_the_sensor_back(orientation):
    opposite = {"rotate-90": "rotate-270", "rotate-270": "rotate-90"}.get(orientation, orientation)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(7, dtype=np.uint16), np.arange(5, dtype=np.uint16)))
    there = turn(x, y, 7, 5, orientation)
    back = turn(*there, *((5, 7) if swaps_axes(orientation) else (7, 5)), opposite)
    np.testing.assert_array_equal(back, (x, y))
    assert there[0].dtype == there[1].dtype == np.uint16


def test_polarity_and_time_are_moved_on_demand_alone():
    events = naive.make_events([(5, 1, 2, True), (9, 0, 0, False)], SIZE)
    moved = orient_events(events, inverted=True, time_offset_us=-7)
    assert naive.rows_of(moved) == [(-2, 1, 2, False), (2, 0, 0, True)]
    with pytest.raises(EventError, match="moves times beyond 2\\*\\*61"):
        orient_events(naive.make_events([(2**61, 0, 0, True)], SIZE), time_offset_us=1)
    with pytest.raises(EventError, match="no sensor size"):
        orient_events(dataclasses.replace(events, sensor_size=None), "flip-x")


@given(rows=ROWS, shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_shifted_events_that_leave_the_sensor_are_counted(rows, shift):
    events = naive.make_events(rows)
    moved = place_events(events, SIZE, shift)
    expected = [(t, x + shift[0], y + shift[1], p) for t, x, y, p in naive.rows_of(events)]
    inside = [row for row in expected if 0 <= row[1] < SIZE.width and 0 <= row[2] < SIZE.height]
    assert naive.rows_of(moved) == inside
    assert moved.num_dropped.get(OUTSIDE, 0) == len(expected) - len(inside)
    assert moved.sensor_size == SIZE


@settings(deadline=None)  # The first call compiles the kernel.
@given(rows=ROWS, period=st.integers(1, 30))
def test_refractory_period_against_naive(rows, period):
    events = naive.make_events(rows, SIZE)
    found = filter_events(events, PrepareSpec(refractory_us=period))
    assert naive.rows_of(found) == naive.refractory(naive.rows_of(events), period)
    assert found.num_dropped.get(REASONS["refractory_us"], 0) == len(events) - len(found)


@settings(deadline=None)  # The first call compiles the kernel.
@given(rows=ROWS, window=st.integers(1, 30))
def test_background_activity_against_naive(rows, window):
    events = naive.make_events(rows, SIZE)
    found = filter_events(events, PrepareSpec(background_us=window))
    assert naive.rows_of(found) == naive.supported(naive.rows_of(events), window)
    assert found.num_dropped.get(REASONS["background_us"], 0) == len(events) - len(found)


@given(rows=ROWS, factor=st.floats(1, 4))
def test_hot_pixels_go_with_all_their_events(rows, factor):
    events = naive.make_events(rows, SIZE)
    found = filter_events(events, PrepareSpec(hot_pixels=factor))
    counts = {}
    for _, x, y, _ in rows:
        counts[x, y] = counts.get((x, y), 0) + 1
    limit = hot_pixel_limit(np.array(list(counts.values()), int), factor)
    assert naive.rows_of(found) == [row for row in naive.rows_of(events) if counts[row[1], row[2]] <= limit]


def test_a_stuck_pixel_is_hot_and_the_others_are_not():
    rng = np.random.default_rng(0)
    cells = rng.integers(0, [7, 5], (2000, 2)).tolist()
    rows = [(at, x, y, True) for at, (x, y) in enumerate(cells)]
    rows += [(at, 3, 3, True) for at in range(2000)]
    found = filter_events(naive.make_events(rows, SensorSize(200, 200)), PrepareSpec(hot_pixels=1.0))
    assert not ((found.x == 3) & (found.y == 3)).any()
    assert len(found) == sum(row[1:3] != (3, 3) for row in rows)


def test_filters_apply_one_after_the_other():
    rows = [(0, 1, 1, True), (1, 2, 1, True), (2, 2, 1, False), (50, 5, 4, True)]
    found = filter_events(naive.make_events(rows, SIZE), PrepareSpec(refractory_us=5, background_us=5))
    assert naive.rows_of(found) == [(1, 2, 1, True)]
    assert found.num_dropped == {"in the refractory period": 1, "background": 2}


@given(event_strategies.recordings())
def test_no_filter_changes_nothing(events):
    assert filter_events(events, PrepareSpec()) is events


def test_filters_and_geometry_reach_the_cache_and_the_screen(nmnist_root, tmp_path):
    from click.testing import CliRunner

    out = tmp_path / "a.h5"
    options = [
        "--refractory-us",
        "5000",
        "--orientation",
        "rotate-90",
        "--polarity",
        "inverted",
        "--time-offset-us",
        "7",
    ]
    command = ["prepare", "nmnist", "--root", str(nmnist_root), "--out", str(out), *options]
    made = CliRunner().invoke(main, command)
    assert made.exit_code == 0, made.output
    assert "--set data.prepare.orientation=rotate-90" in made.output
    cache, plain = Cache(out), Cache(build("nmnist", nmnist_root, tmp_path / "b.h5"))
    dropped = int(cache.tables["events/num_refractory_us"].sum())
    assert dropped > 0
    assert f"filtered: {dropped:,} refractory\n" in made.output
    assert (cache.tables["events/num_kept"] + cache.tables["events/num_refractory_us"]).tolist() == plain.tables[
        "events/num_kept"
    ].tolist()
    assert (cache.tables["events/t_first_us"] - plain.tables["events/t_first_us"]).tolist() == [7] * len(
        cache.event_ids
    )
    shown = CliRunner().invoke(main, ["inspect", str(out)]).output
    for line in ("orientation       rotate-90", "polarity          inverted", "time_offset_us    7"):
        assert line in shown
    turned = Cache(build("nmnist", nmnist_root, tmp_path / "c.h5", orientation="rotate-90", polarity="inverted"))
    expected = np.rot90(plain.event_frames([3]), -1, axes=(3, 4))[:, :, ::-1]
    np.testing.assert_array_equal(turned.event_frames([3]), expected)
    assert "events/num_refractory_us" not in turned.tables
