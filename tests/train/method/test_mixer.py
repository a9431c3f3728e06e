import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import SpecError
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.mixer import Mixer, mix_ratio_at, slide_probability_at
from tmkt_train.recipe.schema import MixTable

T = 10
KEYS = DrawKeys(1, 0, np.arange(20_000, dtype=np.uint64), np.zeros(20_000, np.int64))
SOME = DrawKeys(7, 0, np.arange(50, dtype=np.uint64), np.zeros(50, np.int64))
MIX = MixTable()


def realised(points):
    return (T + 1 - points) / T


def test_kt_replaces_whole_samples_or_none():
    mixer = Mixer(T, MIX, None, "cubic")
    points = mixer.points(KEYS, 0.8)
    assert set(points.tolist()) == {1, T + 1}
    assert (points == 1).mean() == pytest.approx(0.8**3, abs=4 * np.sqrt(0.25 / len(points)))
    assert mixer.ratio(0.8) == pytest.approx(0.512)


def test_sliding_composes_with_time_step_mixup():
    keys, mixer = KEYS._replace(epoch=3), Mixer(T, MIX, 0.4, "cubic")
    alone = Mixer(T, MIX, 0.4).points(keys, 0.7)
    slid = Mixer(T, MIX, None, "cubic").points(keys, 0.7) == 1
    both = mixer.points(keys, 0.7)
    np.testing.assert_array_equal(both, np.where(slid, 1, alone))
    expected = 0.343 + (1 - 0.343) * 0.4
    assert mixer.ratio(0.7) == pytest.approx(expected)
    assert realised(both).mean() == pytest.approx(expected, abs=4 * realised(both).std() / np.sqrt(len(both)))


def test_sliding_does_not_change_the_draws_of_time_step_mixup():
    slid, plain = Mixer(T, MIX, 0.4, "cubic"), Mixer(T, MIX, 0.4)
    np.testing.assert_array_equal(slid.points(KEYS, 0.0), plain.points(KEYS, 0.0))


def test_step_sliding_jumps_half_way():
    mixer = Mixer(T, MIX, None, "step")
    assert set(mixer.points(SOME, 0.499).tolist()) == {T + 1}
    assert set(mixer.points(SOME, 0.5).tolist()) == {1}


def test_without_either_the_image_stays():
    mixer = Mixer(T, MIX, None)
    assert set(mixer.points(SOME, 0.9).tolist()) == {T + 1}
    assert mixer.ratio(0.9) == 0.0


def test_ratio_follows_its_schedule():
    mixer = Mixer(T, MixTable(end_ratio=1.0, schedule="linear"), 0.0)
    assert [mixer.ratio(progress) for progress in (0.0, 0.25, 1.0)] == [0.0, 0.25, 1.0]
    assert set(mixer.points(SOME, 0.0).tolist()) == {T + 1}
    assert set(mixer.points(SOME, 1.0).tolist()) == {1}


def test_distribution_is_that_of_the_recipe():
    mixer = Mixer(T, MixTable(law="renormalised"), 0.7)
    points = mixer.points(KEYS, 0.0)
    assert points.max() == T
    assert realised(points).mean() == pytest.approx(0.7, abs=4 * realised(points).std() / np.sqrt(len(points)))
    with pytest.raises(SpecError, match=r"expected at least 0\.55"):
        dataclasses.replace(mixer, start=0.5).points(SOME, 0.0)


def test_draws_are_those_of_seed_epoch_and_sample_alone():
    mixer = Mixer(T, MIX)
    uids, zeros = np.arange(8, dtype=np.uint64), np.zeros(8, np.int64)
    keys = DrawKeys(42, 0, uids, zeros)
    # As in docs/method.md, "Time-step mixup".
    assert mixer.points(keys, 0.0).tolist() == [3, 3, 7, 5, 2, 1, 8, 7]
    assert mixer.points(DrawKeys(42, 0, uids[3:5], zeros[3:5]), 0.9).tolist() == [5, 2]
    assert mixer.points(keys._replace(occurrences=zeros + 1), 0.0).tolist() != mixer.points(keys, 0.0).tolist()


@given(progress=st.floats(0, 1), start=st.floats(0, 1), end=st.floats(0, 1))
@settings(deadline=None)
def test_mix_ratio_stays_between_its_ends(progress, start, end):
    assert mix_ratio_at(progress, "constant", start, end) == start
    for schedule in ("linear", "cubic"):
        value = mix_ratio_at(progress, schedule, start, end)
        assert min(start, end) - 1e-12 <= value <= max(start, end) + 1e-12


@pytest.mark.parametrize("schedule", ["linear", "cubic"])
def test_mix_ratio_ends(schedule):
    assert mix_ratio_at(0.0, schedule, 0.2, 0.8) == pytest.approx(0.2)
    assert mix_ratio_at(1.0, schedule, 0.2, 0.8) == pytest.approx(0.8)


def test_mix_ratio_on_the_way():
    assert mix_ratio_at(0.25, "linear", 0.2, 0.6) == pytest.approx(0.3)
    assert mix_ratio_at(0.25, "cubic", 0.0, 1.0) == 1 / 64
    assert mix_ratio_at(0.5, "cubic", 0.2, 1.0) == pytest.approx(0.3)


@pytest.mark.parametrize("progress", [-0.01, 1.01, float("nan")])
def test_mix_ratio_refuses_other_progress(progress):
    with pytest.raises(SpecError, match=r"^schedule: progress .*, expected 0 to 1; "):
        mix_ratio_at(progress, "constant", 0.5, 0.5)


def test_slide_probability():
    progress = (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [slide_probability_at(p, "cubic") for p in progress] == [0, 1 / 64, 1 / 8, 27 / 64, 1]
    assert [slide_probability_at(p, "step") for p in progress] == [0, 0, 1, 1, 1]
    assert [slide_probability_at(p, "late-step", 0.75) for p in progress] == [0, 0, 0, 1, 1]
    assert [slide_probability_at(p, "off") for p in progress] == [0] * 5
