from __future__ import annotations

import naive
import numpy as np
import pytest
from event_strategies import recordings
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.events.frames import CanvasBox, SampledGrid
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.kernels.count import count_frames, count_frames_weighted
from tmkt_data.kernels.decode import decode_atis
from tmkt_data.kernels.pack import pack_counts, pack_halves
from tmkt_data.kernels.poisson import poisson_spikes, random_words
from tmkt_data.kernels.resize import axis_table
from tmkt_data.kernels.spread import spread
from tmkt_data.kernels.voxel import voxel_grid

KEY = st.integers(0, 2**64 - 1)
IMAGE_KEY = np.uint64(0x0123456789ABCDEF)


def span_of(events):
    return (int(events.t[0]), int(events.t[-1] - events.t[0])) if len(events) else (0, 0)


def event_columns(events):
    return events.t, events.x, events.y, events.p


def decode(data, width=256, height=240):
    n = len(data) // 5
    t, x, y, p = np.zeros(n, np.int64), np.zeros(n, np.uint16), np.zeros(n, np.uint16), np.zeros(n, np.bool_)
    kept, outside, inversions = decode_atis(np.frombuffer(data, np.uint8), width, height, t, x, y, p)
    rows = list(zip(t[:kept].tolist(), x[:kept].tolist(), y[:kept].tolist(), p[:kept].tolist(), strict=True))
    return rows, outside, inversions


class TestDecode:
    @settings(deadline=None, max_examples=100)
    @given(
        data=st.binary(max_size=200).map(lambda raw: raw[: len(raw) // 5 * 5]),
        width=st.integers(1, 256),
        height=st.integers(1, 240),
    )
    def test_equals_naive_for_any_bytes(self, data, width, height):
        rows, outside, inversions = decode(data, width, height)
        expected, expected_outside = naive.decode_atis(data, width, height)
        assert rows == expected
        assert outside == expected_outside
        assert inversions == naive.num_inversions(expected)

    def test_the_last_column_and_row_are_kept_and_the_next_dropped(self):
        rows = [(1, 33, 29, True), (2, 34, 29, True), (3, 33, 30, True), (4, 34, 30, True)]
        assert decode(naive.encode_atis(rows), 34, 30) == (rows[:1], 3, 0)

    def test_steps_back_are_counted_between_neighbors_that_are_kept(self):
        rows = [
            (50, 0, 0, True),
            (20, 0, 0, True),
            (30, 0, 0, True),
            (9, 99, 0, True),
            (60, 0, 0, True),
            (10, 0, 0, True),
        ]
        assert decode(naive.encode_atis(rows), 34, 34)[1:] == (1, 2)

    def test_all_bits_set_and_none(self):
        assert decode(bytes.fromhex("ffefffffff 0000000000"))[0] == [(8388607, 255, 239, True), (0, 0, 0, False)]

    def test_no_bytes(self):
        assert decode(b"") == ([], 0, 0)


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
        assert count_frames(*event_columns(events), edges, column, row, 0, 0, out) == len(events)
        np.testing.assert_array_equal(out, expected)

    def test_bins_are_half_open_and_what_lies_outside_is_left_out(self):
        events = naive.make_events([(t, 0, 0, True) for t in (9, 10, 14, 15, 19, 20, 21)])
        out = np.zeros((2, 2, 1, 1), np.uint32)
        cell = np.zeros(1, np.int32)
        edges = np.array([10, 15, 20])
        assert count_frames(*event_columns(events), edges, cell, cell, 0, 0, out) == 4
        assert out[:, 1, 0, 0].tolist() == [2, 2]

    def test_empty_bins_stay_empty(self):
        events = naive.make_events([(0, 0, 0, False), (30, 0, 0, False)])
        out = np.zeros((4, 2, 1, 1), np.uint32)
        cell = np.zeros(1, np.int32)
        count_frames(*event_columns(events), np.array([0, 10, 10, 30, 31]), cell, cell, 0, 0, out)
        assert out[:, 0, 0, 0].tolist() == [1, 0, 0, 1]

    def test_off_is_channel_0_and_on_is_channel_1(self):
        events = naive.make_events([(0, 1, 0, False), (0, 0, 1, True), (0, 0, 1, True)])
        out = np.zeros((1, 2, 2, 2), np.uint32)
        index = np.arange(2, dtype=np.int32)
        count_frames(*event_columns(events), np.array([0, 1]), index, index, 0, 0, out)
        assert out[0].tolist() == [[[0, 1], [0, 0]], [[0, 0], [2, 0]]]

    def test_adds_to_what_is_there(self):
        events = naive.make_events([(0, 0, 0, True)])
        out = np.full((1, 2, 1, 1), 5, np.uint32)
        cell = np.zeros(1, np.int32)
        count_frames(*event_columns(events), np.array([0, 1]), cell, cell, 0, 0, out)
        assert out.ravel().tolist() == [5, 6]

    def test_more_than_65535_events_in_one_cell(self):
        n = 70_000
        events = naive.make_events([(0, 3, 2, True)])
        columns = [np.repeat(column, n) for column in event_columns(events)]
        out = np.zeros((1, 2, 3, 4), np.uint32)
        count_frames(*columns, np.array([0, 1]), np.arange(4, dtype=np.int32), np.arange(3, dtype=np.int32), 0, 0, out)
        assert out[0, 1, 2, 3] == n
        assert out.sum() == n

    def test_the_origin_of_the_canvas_is_subtracted(self):
        events = naive.make_events([(0, 60_000, 50_001, True)])
        out = np.zeros((1, 2, 2, 2), np.uint32)
        index = np.arange(2, dtype=np.int32)
        count_frames(*event_columns(events), np.array([0, 1]), index, index, 59_999, 50_000, out)
        assert out[0, 1].tolist() == [[0, 0], [0, 1]]

    def test_no_events(self):
        out = np.zeros((3, 2, 2, 2), np.uint32)
        index = np.arange(2, dtype=np.int32)
        events = naive.make_events([])
        assert count_frames(*event_columns(events), np.array([0, 0, 0, 1]), index, index, 0, 0, out) == 0
        assert not out.any()


def weigh(events, edges, grid, out):
    columns = event_columns(events)
    places = grid.columns.place, grid.rows.place
    counted, k = count_frames_weighted(
        *columns, edges, *places, 0, 0, *grid.columns.taps, *grid.rows.taps, 0, grid.counts, grid.line, out
    )
    if k < len(out):
        spread(grid.counts, *grid.columns.taps, *grid.rows.taps, grid.line, out[k])
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


class TestPack:
    @given(st.lists(st.integers(0, 2**32 - 1), max_size=40))
    def test_counts_as_bytes(self, counts):
        counts = np.array(counts, np.uint32)
        out = np.zeros(len(counts), np.uint8)
        assert pack_counts(counts, out) == max(counts.tolist(), default=0)
        np.testing.assert_array_equal(out, np.minimum(counts, 255))

    def test_halves_are_those_of_numpy(self):
        bits = np.arange(0, np.float32(65504).view(np.uint32) + 1, 997, dtype=np.uint32)
        ties = (
            np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)[:, None] + np.float32([0, 0])
        ).copy()
        ties[:-1, 1] = (ties[:-1, 0] + ties[1:, 0]) / 2
        values = np.concatenate([bits.view(np.float32), ties.reshape(-1)])
        out = np.zeros(len(values), np.uint16)
        assert pack_halves(values, out) == 65504
        np.testing.assert_array_equal(out, values.astype(np.float16).view(np.uint16))


class TestVoxelGrid:
    def grid(self, rows, num_bins):
        events = naive.make_events(rows)
        table = axis_table(1, 1, "sum")
        out = np.zeros((num_bins, 1, 1, 1), np.float32)
        voxel_grid(*event_columns(events), *table, *table, 0, 0, *span_of(events), out)
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
        table = axis_table(1, 1, "sum")
        guarded = np.full((4, 1, 1, 1), -0.0, np.float32)  # Adding even 0.0 would turn the sign.
        guarded[:3] = 0.0
        voxel_grid(*event_columns(events), *table, *table, 0, 0, *span_of(events), guarded[:3])
        assert np.signbit(guarded[3]).all()
        assert guarded.sum() == 3

    def test_no_events(self):
        assert self.grid([], 3) == [0.0, 0.0, 0.0]

    @settings(deadline=None, max_examples=60)
    @given(events=recordings(min_events=1), num_bins=st.integers(1, 12))
    def test_equals_the_triangle_kernel(self, events, num_bins):
        sensor = events.sensor_size
        tables = axis_table(sensor.width, 7, "sum"), axis_table(sensor.height, 5, "sum")
        out = np.zeros((num_bins, 1, 5, 7), np.float32)
        voxel_grid(*event_columns(events), *tables[0], *tables[1], 0, 0, *span_of(events), out)
        expected, _ = naive.event_frames(events, num_bins, 5, 7, "exact", "fixed", "sum", "voxel", sensor)
        np.testing.assert_allclose(out, expected, atol=2e-5)


class TestRandomWords:
    @settings(deadline=None, max_examples=100)
    @given(words=st.tuples(*[st.integers(0, naive.MASK_32)] * 4))
    def test_kernel_equals_naive(self, words):
        found = random_words(*(np.uint32(word) for word in words))
        assert tuple(int(word) for word in found) == naive.random_words(*words)

    def test_neighbors_in_place_and_frame_share_half_of_their_bits_as_chance_has_it(self):
        rng = np.random.default_rng(0)
        for at in (0, 1):
            for bit in range(16):
                flips = 0
                for words in rng.integers(0, 2**32, (40, 4)).tolist():
                    other = [word ^ (1 << bit) if place == at else word for place, word in enumerate(words)]
                    pairs = zip(naive.random_words(*words), naive.random_words(*other), strict=True)
                    flips += sum((one ^ two).bit_count() for one, two in pairs)
                assert 0.45 < flips / (40 * 128) < 0.55, (at, bit)


def spikes(intensity, num_frames, key=IMAGE_KEY):
    out = np.full((1, num_frames, intensity.size), -1, np.float32)
    poisson_spikes(intensity[None], np.array([key], np.uint64), np.empty(intensity.size, np.uint32), out)
    return out[0]


class TestPoissonSpikes:
    @settings(deadline=None, max_examples=40)
    @given(
        intensity=st.lists(st.integers(0, 255), min_size=1, max_size=300),
        num_frames=st.integers(1, 7),
        key=KEY,
    )
    def test_equals_naive_at_any_size(self, intensity, num_frames, key):
        values = np.array(intensity, np.uint8)
        expected = naive.poisson_frames(values, num_frames, 1, key)[:, 0]
        np.testing.assert_array_equal(spikes(values, num_frames, np.uint64(key)), expected)

    @pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
    def test_rate_is_intensity_over_255(self, value):
        n = 200_000
        drawn = spikes(np.full(50, value, np.uint8), n // 50)
        share = value / 255
        deviation = np.sqrt(share * (1 - share) / n)
        assert set(np.unique(drawn)) <= {0.0, 1.0}
        assert abs(drawn.mean(dtype=np.float64) - share) <= 4 * deviation

    def test_ends_are_exact(self):
        drawn = spikes(np.array([0, 255, 0, 255, 255], np.uint8), 20_000)
        assert (drawn == [0, 1, 0, 1, 1]).all()

    def test_same_key_same_spikes_other_key_other_spikes(self):
        values = np.full(100, 128, np.uint8)
        one = spikes(values, 20)
        np.testing.assert_array_equal(one, spikes(values, 20))
        for bit in (0, 31, 32, 63):
            other = spikes(values, 20, np.uint64(int(IMAGE_KEY) ^ 1 << bit))
            assert 0.4 < (one == other).mean() < 0.6

    def test_frames_are_a_prefix_of_more_frames(self):
        values = np.arange(0, 250, 11, dtype=np.uint8)
        np.testing.assert_array_equal(spikes(values, 3), spikes(values, 9)[:3])

    @pytest.mark.parametrize("lag", [1, 2, 3, 5])
    def test_frames_are_independent(self, lag):
        drawn = spikes(np.full(97, 100, np.uint8), 2_000).astype(np.float64)
        drawn -= drawn.mean()
        correlation = (drawn[lag:] * drawn[:-lag]).mean() / drawn.var()
        assert abs(correlation) < 4 / np.sqrt(drawn[lag:].size)

    @pytest.mark.parametrize("lag", [1, 2, 3, 4])
    def test_pixels_are_independent(self, lag):
        drawn = spikes(np.full(101, 100, np.uint8), 2_000).astype(np.float64)
        drawn -= drawn.mean()
        correlation = (drawn[:, lag:] * drawn[:, :-lag]).mean() / drawn.var()
        assert abs(correlation) < 4 / np.sqrt(drawn[:, lag:].size)

    def test_times_between_spikes_are_geometric(self):
        drawn = spikes(np.array([64], np.uint8), 200_000)[:, 0]
        gaps = np.diff(np.flatnonzero(drawn))
        share = 64 / 255
        for gap in range(1, 6):
            expected = share * (1 - share) ** (gap - 1)
            assert abs((gaps == gap).mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(gaps))


def test_kernels_leave_their_inputs_alone():
    events = naive.make_events([(0, 1, 2, True), (7, 3, 0, False)])
    edges = bin_edges(0, 7, 3, "exact")
    tables = axis_table(4, 3, "bilinear")
    image = np.arange(12, dtype=np.uint8)
    data = np.frombuffer(naive.encode_atis(naive.rows_of(events)), np.uint8).copy()
    inputs = [*event_columns(events), edges, *tables, image, data]
    before = [array.copy() for array in inputs]
    columns = event_columns(events)
    count_frames(*columns, edges, tables.target[:4], tables.target[:4], 0, 0, np.zeros((3, 2, 3, 3), np.uint32))
    weigh(events, edges, SampledGrid.of(CanvasBox(0, 0, 4, 4), 3, 3, "bilinear"), np.zeros((3, 2, 3, 3), np.float32))
    voxel_grid(*columns, *tables, *tables, 0, 0, 0, 9, np.zeros((3, 1, 3, 3), np.float32))
    spikes(image, 3)
    decode(data.tobytes())
    for now, then in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(now, then)
