from __future__ import annotations

import naive
import numpy as np
import pytest
from event_strategies import recordings
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError, SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.frames import CanvasBox, FrameSpec, canvas_box, event_frames
from tmkt_data.events.read import load_events
from tmkt_data.spec import BIN_RULES

CANVASES = ("fixed", "tight", "max")
RESIZES = ("sum", "bilinear", "area")
CELLS = st.integers(1, 50)
BINS = st.sampled_from([1, 2, 3, 6, 10, 13, 40])


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("rule", ["exact", "spikingjelly"])
@settings(deadline=None, max_examples=50)
@given(events=recordings(), num_bins=BINS, height=CELLS, width=CELLS)
def test_sum_keeps_every_event(rule, canvas, events, num_bins, height, width):
    result = event_frames(
        events, FrameSpec(num_bins=num_bins, height=height, width=width, bin_rule=rule, resize="sum"), canvas=canvas
    )
    assert result.frames.shape == (num_bins, 2, height, width)
    assert result.frames.sum() == len(events)
    assert result.frames[:, 1].sum() == events.p.sum()
    assert result.num_outside_bins == 0


@pytest.mark.parametrize("canvas", CANVASES)
@settings(deadline=None, max_examples=80)
@given(events=recordings(min_events=1), num_bins=BINS)
def test_tonic_drops_exactly_the_tail(canvas, events, num_bins):
    result = event_frames(events, FrameSpec(num_bins=num_bins, height=9, width=7, bin_rule="tonic"), canvas=canvas)
    width_us = int(events.t[-1] - events.t[0]) // num_bins
    tail = events.t >= events.t[0] + num_bins * width_us
    assert result.num_outside_bins == tail.sum() >= 1
    assert result.frames.sum() == len(events) - tail.sum()
    assert result.frames[:, 1].sum() == events.p[~tail].sum()


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("rule", BIN_RULES)
@settings(deadline=None, max_examples=20)
@given(events=recordings(), num_bins=st.integers(1, 7), height=st.integers(1, 12), width=st.integers(1, 12))
def test_count_frames_equal_naive(rule, resize, canvas, events, num_bins, height, width):
    before = events.to_array()
    result = event_frames(
        events, FrameSpec(num_bins=num_bins, height=height, width=width, bin_rule=rule, resize=resize), canvas=canvas
    )
    expected, dropped = naive.event_frames(
        events, num_bins, height, width, rule, canvas, resize, "counts", events.sensor_size
    )
    assert result.frames.dtype == (np.uint32 if resize == "sum" else np.float32)
    np.testing.assert_allclose(result.frames, expected, rtol=1e-5, atol=1e-6)
    assert result.num_outside_bins == dropped
    assert events.to_array().tolist() == before.tolist()


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("resize", RESIZES)
@settings(deadline=None, max_examples=20)
@given(events=recordings(), num_bins=st.integers(1, 7), height=st.integers(1, 12), width=st.integers(1, 12))
def test_voxel_grids_equal_naive(resize, canvas, events, num_bins, height, width):
    result = event_frames(
        events,
        FrameSpec(num_bins=num_bins, height=height, width=width, resize=resize, representation="voxel"),
        canvas=canvas,
    )
    expected, _ = naive.event_frames(
        events, num_bins, height, width, "exact", canvas, resize, "voxel", events.sensor_size
    )
    assert result.frames.dtype == np.float32
    np.testing.assert_allclose(result.frames, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("canvas", CANVASES)
@settings(deadline=None, max_examples=60)
@given(events=recordings(), num_bins=BINS, height=CELLS, width=CELLS)
def test_a_voxel_grid_sums_to_the_polarities(canvas, events, num_bins, height, width):
    frames = event_frames(
        events, FrameSpec(num_bins=num_bins, height=height, width=width, representation="voxel"), canvas=canvas
    ).frames
    assert frames.shape == (num_bins, 1, height, width)
    balance = int(events.p.sum()) - int((~events.p).sum())
    assert frames.sum(dtype=np.float64) == pytest.approx(balance, abs=1e-4)


@pytest.mark.parametrize("representation", ["counts", "voxel"])
@pytest.mark.parametrize("rule", BIN_RULES)
@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("size", [None, SensorSize(34, 34)])
def test_an_empty_recording_gives_zeros(size, canvas, rule, representation):
    result = event_frames(
        naive.make_events([], size),
        FrameSpec(num_bins=3, height=4, width=5, bin_rule=rule, representation=representation),
        canvas=canvas,
    )
    assert result.frames.shape == (3, 2 if representation == "counts" else 1, 4, 5)
    assert not result.frames.any()
    assert result.num_outside_bins == 0


@pytest.mark.parametrize(("rule", "at"), [("exact", 0), ("spikingjelly", 3), ("tonic", None)])
def test_one_event(rule, at):
    events = naive.make_events([(17, 3, 1, True)], SensorSize(4, 2))
    result = event_frames(events, FrameSpec(num_bins=4, height=2, width=4, bin_rule=rule))
    expected = np.zeros((4, 2, 2, 4))
    if at is not None:
        expected[at, 1, 1, 3] = 1
    np.testing.assert_array_equal(result.frames, expected)
    assert result.num_outside_bins == (at is None)


@pytest.mark.parametrize(("rule", "dropped"), [("exact", 0), ("spikingjelly", 0), ("tonic", 5)])
def test_equal_times(rule, dropped):
    events = naive.make_events([(-3, i, 0, False) for i in range(5)], SensorSize(5, 1))
    result = event_frames(events, FrameSpec(num_bins=3, height=1, width=5, bin_rule=rule))
    assert result.num_outside_bins == dropped
    assert result.frames.sum() == 5 - dropped


def test_all_counts_of_one_cell_above_65535():
    n = 70_001
    events = naive.make_events([(0, 2, 1, True)] * n, SensorSize(3, 2))
    frames = event_frames(events, FrameSpec(num_bins=2, height=2, width=3)).frames
    assert frames[0, 1, 1, 2] == n
    assert frames.sum() == n


@pytest.mark.parametrize("representation", ["counts", "voxel"])
@pytest.mark.parametrize("origin", [-(2**61), -1, 1_589_163_147_368_868, 2**61])
def test_frames_do_not_depend_on_where_time_starts(origin, representation):
    rows = [(t, t % 6, t % 4, t % 3 == 0) for t in (0, 3, 4, 9, 9, 20, 21)]
    size = SensorSize(6, 4)
    spec = FrameSpec(num_bins=5, height=4, width=6, representation=representation)
    here = event_frames(naive.make_events(rows, size), spec).frames
    there = event_frames(naive.make_events([(t + origin, *row) for t, *row in rows], size), spec).frames
    np.testing.assert_array_equal(here, there)


def test_a_span_of_centuries_stays_inside_the_voxel_grid():
    events = naive.make_events([(0, 0, 0, True), (2**60, 0, 0, True), (2**61, 0, 0, True)], SensorSize(1, 1))
    frames = event_frames(events, FrameSpec(num_bins=101, height=1, width=1, representation="voxel")).frames
    assert np.flatnonzero(frames).tolist() == [0, 50, 100]
    assert frames.sum() == 3


def test_axes_are_not_swapped():
    events = naive.make_events([(0, 9, 2, True)], SensorSize(10, 3))
    frames = event_frames(events, FrameSpec(num_bins=1, height=3, width=10)).frames
    assert np.argwhere(frames).tolist() == [[0, 1, 2, 9]]


def test_tight_moves_the_smallest_coordinates_to_the_corner():
    events = naive.make_events([(0, 5, 7, False), (9, 8, 8, True)], SensorSize(34, 34))
    frames = event_frames(events, FrameSpec(num_bins=1, height=2, width=4), canvas="tight").frames
    assert np.argwhere(frames).tolist() == [[0, 0, 0, 0], [0, 1, 1, 3]]


def test_boxes_of_the_canvases():
    events = naive.make_events([(0, 5, 7, False), (9, 8, 20, True)], SensorSize(34, 30))
    assert canvas_box(events.extent, "fixed", events.sensor_size) == CanvasBox(0, 0, 34, 30)
    assert canvas_box(events.extent, "tight", None) == CanvasBox(5, 7, 4, 14)
    assert canvas_box(events.extent, "max", None) == CanvasBox(0, 0, 9, 21)


def test_max_keeps_the_corner_of_the_sensor():
    events = naive.make_events([(0, 5, 7, False), (9, 8, 8, True)], SensorSize(34, 34))
    frames = event_frames(events, FrameSpec(num_bins=1, height=9, width=9), canvas="max").frames
    assert np.argwhere(frames).tolist() == [[0, 0, 7, 5], [0, 1, 8, 8]]


def test_a_given_sensor_size_goes_before_the_declared_one():
    events = naive.make_events([(0, 9, 9, True)], SensorSize(10, 10))
    frames = event_frames(events, FrameSpec(num_bins=1, height=4, width=4), sensor_size=SensorSize(40, 20)).frames
    assert np.argwhere(frames).tolist() == [[0, 1, 1, 0]]


def test_a_fixed_canvas_needs_a_size():
    events = naive.make_events([(0, 1, 1, True)])
    with pytest.raises(EventError, match="canvas 'fixed': no sensor size; give one, or use canvas 'tight'"):
        event_frames(events)


@pytest.mark.parametrize(("x", "y"), [(4, 0), (0, 3), (65535, 65535)])
def test_events_outside_the_canvas_are_an_error(x, y):
    events = naive.make_events([(0, x, y, True)])
    with pytest.raises(EventError, match=rf"events reach \({x}, {y}\), the sensor is 4 x 3; give the right size"):
        event_frames(events, sensor_size=SensorSize(4, 3))


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"num_bins": 0}, "time bins: found 0, expected 1 or more"),
        ({"num_bins": -2}, "time bins: found -2, expected 1 or more"),
        ({"height": 0}, "height: found 0, expected a whole number of 1 or more"),
        ({"width": -1}, "width: found -1, expected a whole number of 1 or more"),
        ({"canvas": "min"}, "canvas: found 'min', expected one of fixed, tight, max"),
        ({"resize": "nearest"}, "resize: found 'nearest', expected one of sum, bilinear, area"),
        ({"representation": "surface"}, "representation: found 'surface', expected one of counts, voxel"),
        ({"bin_rule": "even"}, "bin rule: found 'even', expected one of exact, tonic, spikingjelly"),
    ],
)
@pytest.mark.parametrize("rows", [[], [(0, 1, 1, True)]])
def test_wrong_choices_are_named(rows, choice, text):
    choice = dict(choice)
    canvas = choice.pop("canvas", "fixed")
    with pytest.raises(SpecError, match=text):
        event_frames(naive.make_events(rows, SensorSize(4, 4)), FrameSpec(**choice), canvas=canvas)


# DATASETS 1.3: events per bin of the real N-Caltech101 recording, and how many each rule drops.
BIN_TABLE = [
    (10, "tonic", [3321, 12401, 6994, 2009, 9831, 12250, 3277, 2296, 9175, 5889], 2),
    (10, "spikingjelly", [3321, 12401, 6994, 2009, 9831, 12250, 3277, 2296, 9175, 5891], 0),
    (6, "tonic", [11067, 12035, 11457, 14877, 5417, 12591], 1),
    (6, "spikingjelly", [11067, 12035, 11457, 14877, 5417, 12592], 0),
]


@pytest.mark.real_data
@pytest.mark.parametrize(("num_bins", "rule", "expected", "dropped"), BIN_TABLE)
@pytest.mark.parametrize("canvas", CANVASES)
def test_bins_of_the_real_recording(real_data, canvas, num_bins, rule, expected, dropped):
    events = load_events(
        real_data / "ncaltech101/Caltech101/Faces_easy/image_0001.bin", sensor_size=SensorSize(256, 240)
    )
    result = event_frames(events, FrameSpec(num_bins=num_bins, bin_rule=rule), canvas=canvas)
    assert result.frames.sum(axis=(1, 2, 3)).tolist() == expected
    assert result.num_outside_bins == dropped


@pytest.mark.real_data
@pytest.mark.parametrize("canvas", CANVASES)
def test_exact_keeps_every_event_of_the_real_recording(real_data, canvas):
    events = load_events(
        real_data / "ncaltech101/Caltech101/Faces_easy/image_0001.bin", sensor_size=SensorSize(256, 240)
    )
    result = event_frames(events, FrameSpec(num_bins=10), canvas=canvas)
    assert result.frames.sum() == 67_445
    assert result.frames.sum(axis=(0, 2, 3)).tolist() == [33_675, 33_770]
    assert result.num_outside_bins == 0


@pytest.mark.real_data
def test_bilinear_loses_most_events_of_the_real_recording_and_sum_none(real_data):
    events = load_events(
        real_data / "ncaltech101/Caltech101/Faces_easy/image_0001.bin", sensor_size=SensorSize(240, 180)
    )
    kept = event_frames(events, FrameSpec(resize="bilinear")).frames.sum(dtype=np.float64)
    assert kept / len(events) == pytest.approx(48 * 48 / (240 * 180), rel=0.1)


@pytest.mark.real_data
@pytest.mark.parametrize("resize", RESIZES)
def test_frames_of_a_real_recording_equal_naive(real_data, resize):
    events = load_events(real_data / "nmnist/N-MNIST/Train/5/00001.bin", sensor_size=SensorSize(34, 34))
    frames = event_frames(events, FrameSpec(num_bins=10, height=28, width=28, resize=resize)).frames
    expected, _ = naive.event_frames(events, 10, 28, 28, "exact", "fixed", resize, "counts", events.sensor_size)
    np.testing.assert_allclose(frames, expected, rtol=1e-5, atol=1e-5)


def test_what_is_no_record_of_events_says_what_reads_one():
    with pytest.raises(SpecError, match=r"^events: found ndarray, expected Events; tmkt_data\.load_events reads them$"):
        event_frames(np.zeros((4, 4)))


@pytest.mark.parametrize("sides", [(3.5, 4), (4, 0), ("4", 4)])
def test_the_sides_of_frames_are_whole_numbers(sides):
    with pytest.raises(SpecError, match=r"^(height|width): found .*, expected a whole number of 1 or more$"):
        FrameSpec(2, *sides)
