"""Scales of event frames."""

import numpy as np
import pytest

from tmkt_data.errors import SpecError
from tmkt_data.pairs.event_scale import scale_events


@pytest.mark.parametrize("scale", ["max", "step-max"])
def test_the_largest_of_a_sample_needs_the_samples_apart(scale):
    with pytest.raises(
        SpecError, match=r"^event scale: found frames of shape \(2, 2, 3, 3\), expected \(B, T, C, H, W\)$"
    ):
        scale_events(np.ones((2, 2, 3, 3), np.float32), scale)
