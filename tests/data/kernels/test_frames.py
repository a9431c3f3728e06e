"""Count frames and voxel grids against loops over single events."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from event_strategies import recordings
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.events.frames import CanvasBox, SampledGrid
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.kernels.frames import count_frames, count_frames_weighted, resample, voxel_grid
from tmkt_data.kernels.resize import axis_table


def span_of(events):
    return (int(events.t[0]), int(events.t[-1] - events.t[0])) if len(events) else (0, 0)


class TestCountFrames:
    @settings(deadline=None, max_examples=60)
    @given(events=recordings(min_events=1), height=st.integers(1, 20), width=st.integers(1, 20))
    def test_equals_a_loop_over_events(self, events, height, width):
        edges = bin_edges(int(events.t[0]), int(events.t[-1]), 4, "exact")
        sensor = events.sensor_size
        column, row = axis_table(sensor.width, width, "sum").target, axis_table(sensor.height, height, "sum").target
        out = np.zeros((4, 2, height, width), np.uint32)
        expected = np.zeros_like(out)
        for t, x, y, p in naive.rows_of(events):
            k = naive.bin_of(t, int(events.t[0]), int(events.t[-1]), 4, "exact")
            expected[k, int(p), y * height // sensor.height, x * width // sensor.width] += 1
        assert count_frames(events.columns, edges, (column, row), (0, 0), out) == len(events)
        np.testing.assert_array_equal(out, expected)

    def test_bins_are_half_open_and_what_lies_outside_is_left_out(self):
        events = naive.make_events([(t, 0, 0, True) for t in (9, 10, 14, 15, 19, 20, 21)])
        out = np.zeros((2, 2, 1, 1), np.uint32)
        cell = np.zeros(1, np.int32)
        edges = np.array([10, 15, 20])
        assert count_frames(events.columns, edges, (cell, cell), (0, 0), out) == 4
        assert out[:, 1, 0, 0].tolist() == [2, 2]

    def test_empty_bins_stay_empty(self):
        events = naive.make_events([(0, 0, 0, False), (30, 0, 0, False)])
        out = np.zeros((4, 2, 1, 1), np.uint32)
        cell = np.zeros(1, np.int32)
        count_frames(events.columns, np.array([0, 10, 10, 30, 31]), (cell, cell), (0, 0), out)
        assert out[:, 0, 0, 0].tolist() == [1, 0, 0, 1]

    def test_off_is_channel_0_and_on_is_channel_1(self):
        events = naive.make_events([(0, 1, 0, False), (0, 0, 1, True), (0, 0, 1, True)])
        out = np.zeros((1, 2, 2, 2), np.uint32)
        index = np.arange(2, dtype=np.int32)
        count_frames(events.columns, np.array([0, 1]), (index, index), (0, 0), out)
        assert out[0].tolist() == [[[0, 1], [0, 0]], [[0, 0], [2, 0]]]

    def test_adds_to_what_is_there(self):
        events = naive.make_events([(0, 0, 0, True)])
        out = np.full((1, 2, 1, 1), 5, np.uint32)
        cell = np.zeros(1, np.int32)
        count_frames(events.columns, np.array([0, 1]), (cell, cell), (0, 0), out)
        assert out.ravel().tolist() == [5, 6]

    def test_more_than_65535_events_in_one_cell(self):
        n = 70_000
        events = naive.make_events([(0, 3, 2, True)])
        t, x, y, p = (np.repeat(column, n) for column in events.columns)
        cells = np.arange(4, dtype=np.int32), np.arange(3, dtype=np.int32)
        out = np.zeros((1, 2, 3, 4), np.uint32)
        count_frames((t, x, y, p), np.array([0, 1]), cells, (0, 0), out)
        assert out[0, 1, 2, 3] == n
        assert out.sum() == n

    def test_the_origin_of_the_canvas_is_subtracted(self):
        events = naive.make_events([(0, 60_000, 50_001, True)])
        out = np.zeros((1, 2, 2, 2), np.uint32)
        index = np.arange(2, dtype=np.int32)
        count_frames(events.columns, np.array([0, 1]), (index, index), (59_999, 50_000), out)
        assert out[0, 1].tolist() == [[0, 0], [0, 1]]

    def test_no_events(self):
        out = np.zeros((3, 2, 2, 2), np.uint32)
        index = np.arange(2, dtype=np.int32)
        events = naive.make_events([])
        assert count_frames(events.columns, np.array([0, 0, 0, 1]), (index, index), (0, 0), out) == 0
        assert not out.any()


def weigh(events, edges, grid, out):
    cells = grid.columns.place, grid.rows.place
    counted, k = count_frames_weighted(events.columns, edges, cells, (0, 0), grid.taps, 0, grid.room, out)
    if k < len(out):
        resample(grid.room, grid.taps, out[k])
    return counted


class TestCountFramesWeighted:
    @pytest.mark.parametrize("rule", ["area", "bilinear"])
    @settings(deadline=None, max_examples=40)
    @given(events=recordings(min_events=1), height=st.integers(1, 12), width=st.integers(1, 12))
    def test_equals_counts_at_native_size_resized_later(self, rule, events, height, width):
        sensor = events.sensor_size
        edges = bin_edges(int(events.t[0]), int(events.t[-1]), 3, "tonic")
        out = np.zeros((3, 2, height, width), np.float32)
        counted = weigh(events, edges, SampledGrid.of(CanvasBox(0, 0, *sensor), height, width, rule), out)
        expected, dropped = naive.event_frames(events, 3, height, width, "tonic", "fixed", rule, "counts", sensor)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
        assert counted == len(events) - dropped

    def test_events_that_no_cell_samples_still_count_as_binned(self):
        events = naive.make_events([(0, 2, 2, True)])
        out = np.zeros((1, 2, 2, 2), np.float32)
        grid = SampledGrid.of(CanvasBox(0, 0, 5, 5), 2, 2, "bilinear")
        assert weigh(events, np.array([0, 1]), grid, out) == 1
        assert not out.any()


class TestVoxelGrid:
    def grid(self, rows, num_bins):
        events = naive.make_events(rows)
        table = axis_table(1, 1, "sum")[:]
        out = np.zeros((num_bins, 1, 1, 1), np.float32)
        voxel_grid(events.columns, (table, table), (0, 0), span_of(events), out)
        return out.ravel().tolist()

    def test_an_event_between_two_bins_is_shared_by_distance(self):
        assert self.grid([(0, 0, 0, True), (10, 0, 0, False), (80, 0, 0, True)], 3) == [0.25, -0.25, 1.0]
        assert self.grid([(0, 0, 0, True), (70, 0, 0, True), (80, 0, 0, False)], 3) == [1.0, 0.25, -0.25]

    def test_first_and_last_event_lie_whole_in_the_outer_bins(self):
        assert self.grid([(5, 0, 0, True), (905, 0, 0, False)], 10) == [1.0, *[0.0] * 8, -1.0]

    def test_equal_times_lie_in_the_first_bin(self):
        assert self.grid([(5, 0, 0, True), (5, 0, 0, True)], 4) == [2.0, 0.0, 0.0, 0.0]

    def test_one_bin_holds_everything(self):
        assert self.grid([(0, 0, 0, True), (3, 0, 0, True), (9, 0, 0, False)], 1) == [1.0]

    def test_writes_nothing_behind_the_last_bin(self):
        events = naive.make_events([(0, 0, 0, True), (7, 0, 0, True), (9, 0, 0, True)])
        table = axis_table(1, 1, "sum")[:]
        guarded = np.full((4, 1, 1, 1), -0.0, np.float32)  # Adding even 0.0 would turn the sign.
        guarded[:3] = 0.0
        voxel_grid(events.columns, (table, table), (0, 0), span_of(events), guarded[:3])
        assert np.signbit(guarded[3]).all()
        assert guarded.sum() == 3

    def test_no_events(self):
        assert self.grid([], 3) == [0.0, 0.0, 0.0]

    @settings(deadline=None, max_examples=60)
    @given(events=recordings(min_events=1), num_bins=st.integers(1, 12))
    def test_equals_the_triangle_kernel(self, events, num_bins):
        sensor = events.sensor_size
        tables = axis_table(sensor.width, 7, "sum")[:], axis_table(sensor.height, 5, "sum")[:]
        out = np.zeros((num_bins, 1, 5, 7), np.float32)
        voxel_grid(events.columns, tables, (0, 0), span_of(events), out)
        expected, _ = naive.event_frames(events, num_bins, 5, 7, "exact", "fixed", "sum", "voxel", sensor)
        np.testing.assert_allclose(out, expected, atol=2e-5)


def test_kernels_leave_their_inputs_alone():
    events = naive.make_events([(0, 1, 2, True), (7, 3, 0, False)])
    edges = bin_edges(0, 7, 3, "exact")
    table = axis_table(4, 3, "bilinear")
    cells = table.target[:4], table.target[:4]
    inputs = [*events.columns, edges, *table]
    before = [array.copy() for array in inputs]
    count_frames(events.columns, edges, cells, (0, 0), np.zeros((3, 2, 3, 3), np.uint32))
    weigh(events, edges, SampledGrid.of(CanvasBox(0, 0, 4, 4), 3, 3, "bilinear"), np.zeros((3, 2, 3, 3), np.float32))
    voxel_grid(events.columns, (table[:], table[:]), (0, 0), (0, 9), np.zeros((3, 1, 3, 3), np.float32))
    for now, then in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(now, then)
