"""Hypothesis strategies for recordings and for what frames are asked of them."""

from __future__ import annotations

import naive
from hypothesis import strategies as st

from tmkt_data.events.events import SensorSize

SIZES = st.builds(SensorSize, st.integers(1, 40), st.integers(1, 30))
SPANS = st.sampled_from([0, 1, 3, 9, 10, 11, 50, 997, 300_000, 8_388_607])
ORIGINS = st.sampled_from([0, 6, -5_000, 1_589_163_147_368_868])


@st.composite
def recordings(draw, min_events=0, max_events=50):
    """Events inside a random sensor; spans from none at all to the 23 bits of an ATIS file."""
    size = draw(SIZES)
    origin, span = draw(ORIGINS), draw(SPANS)
    row = st.tuples(
        st.integers(origin, origin + span),
        st.integers(0, size.width - 1),
        st.integers(0, size.height - 1),
        st.booleans(),
    )
    return naive.make_events(draw(st.lists(row, min_size=min_events, max_size=max_events)), size)
