import pytest

from tmkt_train.errors import RunError
from tmkt_train.experiments.decision import Stage, Tried, decide, is_beyond_noise
from tmkt_train.experiments.table import Difference

STAGE = Stage("image encoder", "data.image_encoding", "repeat", ("gradient", "saccade"))


def tried(value, *accuracies, problem=None):
    by_seed = dict(enumerate(accuracies, start=1))
    return Tried(value, by_seed, by_seed, problem)


def test_better_value_beyond_noise_is_chosen():
    runs = [tried("repeat", 0.5, 0.52, 0.48), tried("gradient", 0.6, 0.62, 0.58), tried("saccade", 0.8, 0.83, 0.77)]
    found = decide(STAGE, runs, num_val=100)
    assert (found.chosen.value, found.is_own, found.reason) == ("saccade", False, "better than the recipe's own value")
    assert [one.difference and round(one.difference.mean, 3) for one in found.tried] == [None, 0.1, 0.3]


@pytest.mark.parametrize(
    ("accuracies", "num_val", "why"),
    [
        ((0.8, 0.5, 0.6), 1000, "an interval over seeds that has 0"),
        ((0.6, 0.62, 0.58), 59, "5.9 of 59 recordings"),
    ],
)
def test_within_noise_the_recipe_stays(accuracies, num_val, why):
    found = decide(STAGE, [tried("repeat", 0.5, 0.52, 0.48), tried("saccade", *accuracies)], num_val)
    assert (found.chosen.value, found.is_own) == ("repeat", True), why
    assert found.reason == "saccade is ahead only within noise; the recipe's own value stays"


def test_six_recordings_are_enough_and_rounding_does_not_matter():
    own, other = [7 / 60] * 3, [13 / 60] * 3
    found = decide(STAGE, [tried("repeat", *own), tried("saccade", *other)], 60)
    assert found.chosen.value == "saccade"
    found = decide(STAGE, [tried("repeat", *own), tried("saccade", *[12 / 60] * 3)], 60)
    assert found.chosen.value == "repeat"


def test_equal_and_worse_values():
    equal = decide(STAGE, [tried("repeat", 0.5, 0.5), tried("saccade", 0.5, 0.5)], 60)
    assert equal.reason == "no other value is better than the recipe's own"
    worse = decide(STAGE, [tried("repeat", 0.9, 0.9), tried("saccade", 0.1, 0.1)], 60)
    assert (worse.chosen.value, worse.reason) == ("repeat", "no other value is better than the recipe's own")


def test_failed_values():
    failed = tried("repeat", problem="epoch 1: NaN")
    found = decide(STAGE, [failed, tried("gradient", 0.3, 0.3), tried("saccade", 0.4, 0.4)], 60)
    assert (found.chosen.value, found.is_own) == ("saccade", False)
    assert found.reason == "the best, as the recipe's own value failed"
    found = decide(STAGE, [tried("repeat", 0.1, 0.1), tried("saccade", 0.9, problem="epoch 2: NaN")], 60)
    assert found.chosen.value == "repeat"
    with pytest.raises(RunError, match=r"data\.image_encoding: no value could be trained: epoch 1: NaN"):
        decide(STAGE, [failed, tried("saccade", problem="epoch 2: NaN")], 60)


def test_one_seed_shows_nothing():
    assert not is_beyond_noise(Difference({1: 0.9}, 0.9, None), 1000)
    assert not is_beyond_noise(None, 1000)


@pytest.mark.parametrize(("low", "expected"), [(0.0, False), (1e-9, True)])
def test_an_interval_that_begins_at_no_difference_shows_nothing(low, expected):
    assert is_beyond_noise(Difference({}, 0.1, (low, 0.2)), 1000) is expected
