"""Paths of a simulated camera."""

from __future__ import annotations

import numpy as np
import pytest

from tmkt_data.errors import SpecError
from tmkt_data.simulate.paths import Path
from tmkt_data.simulate.saccade import SaccadePath


def test_saccades_are_the_published_ones_about_their_mean():
    found = Path().positions(1000, key=0)
    dx, dy = SaccadePath().displacement(np.arange(301) * 1000)
    assert found.shape == (301, 2)
    assert np.allclose(found - found[0], np.stack([dx, dy], 1) - [dx[0], dy[0]], atol=1e-5)
    assert np.abs(found.mean(axis=0)).max() < 1e-5
    assert (Path().positions(1000, key=1) == found).all()


def test_scale_and_duration():
    found = Path(scale=0.5, saccade_us=200_000).positions(10_000, key=0)
    assert len(found) == 61
    assert np.ptp(found, axis=0) == pytest.approx([3.5, 3.5], abs=1e-4)


@pytest.mark.parametrize(("kind", "scale"), [("random-walk", 1.0), ("random-walk", 2.0), ("jitter", 1.0)])
def test_random_paths_have_the_stated_length(kind, scale):
    path = Path(kind=kind, scale=scale)
    ends = np.array([walk[-1] - walk[0] for walk in (path.positions(10_000, key) for key in range(400))])
    # The difference of two independent places of jitter has twice the variance of one.
    expected = 7.0 * scale if kind == "random-walk" else 7.0 * scale / 4 * 2**0.5
    assert np.sqrt((ends**2).sum(axis=1).mean()) == pytest.approx(expected, rel=0.08)
    assert np.abs(ends.mean(axis=0)).max() < 0.2 * expected


@pytest.mark.parametrize("kind", ["random-walk", "jitter"])
def test_random_paths_are_functions_of_the_key(kind):
    path = Path(kind=kind)
    assert (path.positions(1000, 7) == path.positions(1000, 7)).all()
    assert not np.allclose(path.positions(1000, 7), path.positions(1000, 8))
    assert np.abs(path.positions(1000, 7).mean(axis=0)).max() < 1e-5


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kind": "circle"}, "kind 'circle', expected one of saccades"),
        ({"scale": -1}, "scale -1"),
        ({"scale": float("inf")}, "scale inf"),
        ({"saccade_us": 1.5}, "saccade_us 1.5"),
        ({"duration_us": 9_000_000}, "duration_us 9000000"),
        ({"points": ((0, 0, 0), (1, 1, 1))}, "points for kind 'saccades'"),
        ({"kind": "points"}, "expected two or more rows"),
        ({"kind": "points", "points": ((0, 0), (1, 1))}, "rows of milliseconds, dx and dy"),
        ({"kind": "points", "points": ((0, 0, 0), (5, float("nan"), 0))}, "rows of milliseconds, dx and dy"),
        ({"kind": "points", "points": ((1, 0, 0), (5, 1, 0))}, "start at 0 and increase"),
        ({"kind": "points", "points": ((0, 0, 0), (5, 1, 0), (5, 2, 0))}, "start at 0 and increase"),
        ({"kind": "points", "points": ((0, 0, 0), (8400, 1, 0))}, "ends at 8400 ms"),
    ],
)
def test_refuses(wrong, named):
    with pytest.raises(SpecError, match=named):
        Path(**wrong)
