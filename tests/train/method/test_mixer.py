import numpy as np
import pytest

from tmkt_train.method.mixer import Mixer

T = 10
UIDS, ZEROS = np.arange(20_000, dtype=np.uint64), np.zeros(20_000, np.int64)


def realised(points):
    return (T + 1 - points) / T


def test_kt_replaces_whole_samples_or_none():
    mixer = Mixer(1, T, time_step=False, slide="cubic")
    points = mixer.points(UIDS, ZEROS, 0, 0.8)
    assert set(points.tolist()) == {1, T + 1}
    assert (points == 1).mean() == pytest.approx(0.8**3, abs=4 * np.sqrt(0.25 / len(UIDS)))
    assert mixer.ratio(0.8) == pytest.approx(0.512)


def test_sliding_composes_with_time_step_mixup():
    mixer = Mixer(1, T, 0.4, slide="cubic")
    alone = Mixer(1, T, 0.4).points(UIDS, ZEROS, 3, 0.7)
    slid = Mixer(1, T, time_step=False, slide="cubic").points(UIDS, ZEROS, 3, 0.7) == 1
    both = mixer.points(UIDS, ZEROS, 3, 0.7)
    np.testing.assert_array_equal(both, np.where(slid, 1, alone))
    expected = 0.343 + (1 - 0.343) * 0.4
    assert mixer.ratio(0.7) == pytest.approx(expected)
    assert realised(both).mean() == pytest.approx(expected, abs=4 * realised(both).std() / np.sqrt(len(UIDS)))


def test_sliding_does_not_change_the_draws_of_time_step_mixup():
    slid, plain = Mixer(1, T, 0.4, slide="cubic"), Mixer(1, T, 0.4)
    np.testing.assert_array_equal(slid.points(UIDS, ZEROS, 0, 0.0), plain.points(UIDS, ZEROS, 0, 0.0))


def test_step_sliding_jumps_half_way():
    mixer = Mixer(1, T, time_step=False, slide="step")
    assert set(mixer.points(UIDS[:50], ZEROS[:50], 0, 0.499).tolist()) == {T + 1}
    assert set(mixer.points(UIDS[:50], ZEROS[:50], 0, 0.5).tolist()) == {1}


def test_without_either_the_image_stays():
    assert set(Mixer(1, T, time_step=False).points(UIDS[:50], ZEROS[:50], 0, 0.9).tolist()) == {T + 1}
    assert Mixer(1, T, time_step=False).ratio(0.9) == 0.0
