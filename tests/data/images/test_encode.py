"""Spike frames of images: repeated and drawn."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import noise

from tmkt_data.errors import SpecError
from tmkt_data.images.encode import poisson_frames, repeat_frames


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
        (np.full((2, 2), 0.5), 1, "intensities: found float64, expected uint8"),
        (np.full((2, 2), 300), 1, "intensities: found int64, expected uint8"),
        (np.zeros((2, 2), np.uint8), -1, r"key: found -1, expected 0 to 2\*\*64 - 1"),
    ],
)
def test_poisson_frames_refuse_what_they_cannot_encode(intensities, key, message):
    with pytest.raises(SpecError, match=message):
        poisson_frames(intensities, 2, key=key)
