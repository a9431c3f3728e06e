"""The path of the image in front of the sensor."""

from __future__ import annotations

import numpy as np
import pytest

from tmkt_data.errors import SpecError
from tmkt_data.simulate.saccade import SaccadePath


class TestPath:
    def test_corners_and_middles(self):
        path = SaccadePath()
        dx, dy = path.displacement(np.array([0, 50_000, 100_000, 150_000, 200_000, 250_000, 300_000]))
        assert dx.tolist() == [0.0, 1.75, 3.5, 5.25, 7.0, 3.5, 0.0]
        assert dy.tolist() == [0.0, 3.5, 7.0, 3.5, 0.0, 0.0, 0.0]

    def test_is_still_at_the_corners_and_fastest_in_the_middle(self):
        dx, dy = SaccadePath().displacement(np.arange(0, 300_001, 1_000))
        speed = np.hypot(np.diff(dx), np.diff(dy)).reshape(3, 100)
        assert (speed[:, :7] == 0.0).all()
        assert (speed[:, -7:] == 0.0).all()
        assert ((speed.argmax(axis=1) >= 49) & (speed.argmax(axis=1) <= 50)).all()

    def test_rests_before_and_after(self):
        dx, dy = SaccadePath(corners=((0.0, 0.0), (6.0, 0.0))).displacement([-5, 100_000, 10**9])
        assert dx.tolist() == [0.0, 6.0, 6.0]
        assert dy.tolist() == [0.0, 0.0, 0.0]

    @pytest.mark.parametrize(
        ("wrong", "named"),
        [
            ({"corners": ((0.0, 0.0),)}, "two or more"),
            ({"corners": ((0.0, 0.0), (np.nan, 1.0))}, "finite"),
            ({"rest_us": 100_000}, "rest_us 100000"),
            ({"rest_us": -1}, "rest_us -1"),
        ],
    )
    def test_refuses(self, wrong, named):
        with pytest.raises(SpecError, match=named):
            SaccadePath(**wrong)
