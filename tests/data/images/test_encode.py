"""Spike frames of images: repeated and drawn."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import noise

from tmkt_data.errors import SpecError
from tmkt_data.images.encode import MAX_RATE, count_table, poisson_counts, poisson_frames, repeat_frames


class TestRepeat:
    def test_values_and_shape(self):
        values = np.array([[0, 51], [102, 255]], np.uint8)
        frames = repeat_frames(values, 3, 2)
        assert frames.shape == (3, 2, 2, 2)
        assert frames.dtype == np.float32
        assert (frames == np.float32([[0.0, 0.2], [0.4, 1.0]])).all()

    def test_leading_axes_come_first(self):
        values = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
        frames = repeat_frames(values, 5, 1)
        assert frames.shape == (4, 5, 1, 2, 3)
        for i in range(4):
            np.testing.assert_array_equal(frames[i], repeat_frames(values[i], 5, 1))

    def test_is_a_read_only_view_that_costs_one_frame(self):
        frames = repeat_frames(np.full((48, 48), 7, np.uint8), 1000, 2)
        assert not frames.flags.writeable
        assert frames.strides[:2] == (0, 0)
        with pytest.raises(ValueError, match="read-only"):
            frames[0, 0, 0, 0] = 1.0

    @pytest.mark.parametrize("num", [0, -1])
    def test_shares_are_not_taken_for_bytes_and_no_step_is_an_error(self, num):
        # An image of 0 to 1 would be divided by 255 once more.
        with pytest.raises(SpecError, match=r"^intensities: found float64 of shape \(2, 2\), expected uint8, 0 to 255"):
            repeat_frames(np.full((2, 2), 0.5), 3)
        with pytest.raises(SpecError, match=rf"^frames: found {num} steps of 2 channels"):
            repeat_frames(np.zeros((2, 2), np.uint8), num)


class TestPoisson:
    @settings(deadline=None, max_examples=25)
    @given(
        height=st.integers(1, 5), width=st.integers(1, 5), num_time_bins=st.integers(1, 4),
        num_channels=st.integers(1, 3), key=st.integers(0, 2**64 - 1), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_equals_naive(self, height, width, num_time_bins, num_channels, key, seed):
        values = noise(height, width, seed)[:, :, 0]
        frames = poisson_frames(values, num_time_bins, num_channels, key=key)
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames, naive.poisson_frames(values, num_time_bins, num_channels, key))

    def test_channels_and_steps_are_drawn_apart(self):
        frames = poisson_frames(np.full((16, 16), 128, np.uint8), 4, 2, key=5).reshape(8, -1)
        same = (frames[:, None] == frames[None]).mean(axis=2)
        assert np.allclose(np.diag(same), 1)
        assert same[~np.eye(8, dtype=bool)].max() < 0.65

    def test_writes_into_out_and_returns_it(self):
        values = noise(3, 5)[:, :, 0]
        out = np.full((4, 2, 3, 5), np.nan, np.float32)
        assert poisson_frames(values, 4, 2, key=9, out=out) is out
        np.testing.assert_array_equal(out, poisson_frames(values, 4, 2, key=9))

    def test_writes_into_a_slice_of_a_batch_and_nowhere_else(self):
        values = noise(3, 5)[:, :, 0]
        batch = np.full((3, 4, 2, 3, 5), -1, np.float32)
        poisson_frames(values, 4, 2, key=9, out=batch[1])
        np.testing.assert_array_equal(batch[1], poisson_frames(values, 4, 2, key=9))
        assert (batch[[0, 2]] == -1).all()

    @pytest.mark.parametrize(
        "out",
        [
            np.empty((4, 2, 5, 3), np.float32),
            np.empty((4, 2, 3, 5), np.float64),
            np.empty((4, 2, 3, 10), np.float32)[..., ::2],
        ],
        ids=["shape", "dtype", "strides"],
    )
    def test_an_out_that_does_not_fit_is_named(self, out):
        text = r"out: found float\d\d of shape \(4, 2, \d, \d\), expected contiguous float32 of shape \(4, 2, 3, 5\)"
        with pytest.raises(SpecError, match=text):
            poisson_frames(np.zeros((3, 5), np.uint8), 4, 2, key=0, out=out)

    def test_a_strided_image_gives_the_same_spikes(self):
        wide = noise(6, 8)[:, :, 0]
        np.testing.assert_array_equal(
            poisson_frames(wide[::2, ::2], 3, key=1), poisson_frames(wide[::2, ::2].copy(), 3, key=1)
        )

    def test_the_input_is_untouched(self):
        values = noise(6, 8)[:, :, 0]
        before = values.copy()
        poisson_frames(values, 3, key=1)
        np.testing.assert_array_equal(values, before)

    def test_numpy_and_plain_keys_are_the_same(self):
        values = np.full((4, 4), 99, np.uint8)
        key = 2**64 - 3
        np.testing.assert_array_equal(poisson_frames(values, 5, key=key), poisson_frames(values, 5, key=np.uint64(key)))


@pytest.mark.parametrize(
    ("intensities", "key", "message"),
    [
        (np.full((2, 2), 0.5), 1, "intensities: found float64 of shape .*, expected uint8"),
        (np.full((2, 2), 300), 1, "intensities: found int64 of shape .*, expected uint8"),
        (np.zeros((2, 2), np.uint8), -1, r"key: found -1, expected 0 to 2\*\*64 - 1"),
    ],
)
def test_poisson_frames_refuse_what_they_cannot_encode(intensities, key, message):
    with pytest.raises(SpecError, match=message):
        poisson_frames(intensities, 2, key=key)


class TestPoissonCounts:
    @settings(deadline=None, max_examples=40)
    @given(
        rates=st.lists(st.floats(0, 30), min_size=1, max_size=6),
        size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
        num_frames=st.integers(1, 4), key=st.integers(0, 2**64 - 1), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_equals_naive(self, rates, size, num_frames, key, seed):
        rows = np.random.default_rng(seed).integers(0, len(rates), (2, *size)).astype(np.int16)
        table = count_table(np.array(rates))
        keys = np.array([key, key ^ 5], np.uint64)
        values = np.arange(table.max_count + 1, dtype=np.int16)
        drawn = poisson_counts(rows, table, num_frames, keys, values)
        assert drawn.dtype == np.int16
        for sample, word in enumerate(keys.tolist()):
            expected = naive.poisson_counts([rates[row] for row in rows[sample].ravel()], num_frames, word)
            np.testing.assert_array_equal(drawn[sample].reshape(num_frames, -1), expected)

    @pytest.mark.parametrize("rate", [0.0, 0.01, 0.2, 1.0, 7.5, 300.0])
    def test_mean_and_variance_are_the_rate(self, rate):
        table = count_table(np.array([rate]))
        values = np.arange(table.max_count + 1, dtype=np.float32)
        drawn = poisson_counts(np.zeros((1, 64, 64), np.int16), table, 50, np.array([3], np.uint64), values)
        n = drawn.size
        assert drawn.mean(dtype=np.float64) == pytest.approx(rate, abs=4 * np.sqrt(rate / n))
        # The variance of a variance of Poisson counts: (rate + 2 rate^2) / n.
        assert drawn.var(dtype=np.float64) == pytest.approx(
            rate, abs=4 * np.sqrt((rate + 2 * rate**2) / n) + 1e-3 * rate
        )

    def test_frames_and_samples_are_drawn_apart(self):
        table = count_table(np.array([1.0]))
        values = np.arange(table.max_count + 1, dtype=np.float32)
        drawn = poisson_counts(np.zeros((3, 40, 40), np.int16), table, 4, np.arange(3, dtype=np.uint64), values)
        off_diagonal = np.corrcoef(drawn.reshape(12, -1))[~np.eye(12, dtype=bool)]
        assert np.abs(off_diagonal).max() < 4.5 / 40

    def test_values_stand_for_the_counts(self):
        table = count_table(np.array([0.0, 2.0]))
        rows = (np.arange(60).reshape(1, 6, 10) % 2).astype(np.int16)
        keys = np.array([11], np.uint64)
        counts = poisson_counts(rows, table, 5, keys, np.arange(table.max_count + 1, dtype=np.int16))
        scaled = poisson_counts(rows, table, 5, keys, np.log1p(np.arange(table.max_count + 1, dtype=np.float32)))
        np.testing.assert_array_equal(scaled, np.log1p(counts.astype(np.float32)))
        assert not counts[:, :, rows[0] == 0].any()
        assert counts.any()

    def test_a_rate_out_of_range_is_one_clear_line(self):
        assert count_table(np.array([MAX_RATE])).max_count > MAX_RATE
        with pytest.raises(
            SpecError, match="Poisson counts: found a mean of 1001 in a cell and time bin, expected 0 to"
        ):
            count_table(np.array([0.0, 1001.0]))
        with pytest.raises(SpecError, match="found a mean of -1 in a cell"):
            count_table(np.array([3.0, -1.0]))

    def test_what_does_not_fit_the_table_is_named(self):
        table, key = count_table(np.array([1.0])), np.array([0], np.uint64)
        with pytest.raises(SpecError, match="rates: found rows 0 to 1, expected 0 to 0"):
            poisson_counts(np.array([[[0, 1]]], np.int16), table, 1, key, np.zeros(99, np.float32))
        with pytest.raises(SpecError, match="values: found 2, expected"):
            poisson_counts(np.zeros((1, 1, 1), np.int16), table, 1, key, np.zeros(2, np.float32))
        with pytest.raises(SpecError, match="key: found uint64 of shape"):
            poisson_counts(np.zeros((2, 1, 1), np.int16), table, 1, key, np.zeros(99, np.float32))
