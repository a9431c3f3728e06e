"""Narrow types against NumPy's conversions."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.kernels.pack import pack_counts, pack_halves


class TestPack:
    @settings(deadline=None)
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
