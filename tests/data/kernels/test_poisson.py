"""Spike frames against plain integers, and what chance has to be like."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.kernels.poisson import poisson_spikes, random_words

KEY = st.integers(0, 2**64 - 1)
IMAGE_KEY = np.uint64(0x0123456789ABCDEF)


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

    def test_leaves_its_intensities_alone(self):
        values = np.arange(12, dtype=np.uint8)
        spikes(values, 3)
        assert values.tolist() == list(range(12))
