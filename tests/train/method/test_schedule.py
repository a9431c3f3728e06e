from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import SpecError
from tmkt_train.method.schedule import learning_rate_at, mix_ratio_at, slide_probability_at


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


# The recipe of N-Caltech101: 300 epochs, 5e-3 scaled by 120 / 1024, 5 epochs of warm-up from 1e-6, to 1e-5.
CALTECH = (300, 5e-3 * 120 / 1024, 1e-5, 5, 1e-6)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 1e-6),
        (1, 1e-6 + (5.859375e-4 - 1e-6) / 5),
        (4, 1e-6 + 4 * (5.859375e-4 - 1e-6) / 5),
        (5, 1e-5 + 0.5 * 5.759375e-4 * (1 + math.cos(math.pi * 5 / 300))),
        (150, 1e-5 + 0.5 * 5.759375e-4),
        (300, 1e-5),
    ],
)
def test_cosine_with_warm_up(epoch, expected):
    assert learning_rate_at(epoch, *CALTECH) == pytest.approx(expected, rel=1e-12)


def test_cosine_falls_after_warm_up():
    rates = [learning_rate_at(epoch, *CALTECH) for epoch in range(300)]
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    # The curve is not shifted by the warm-up: its first value after it is already below the base rate.
    assert rates[5] < CALTECH[1]


def test_no_warm_up_starts_at_base_rate():
    assert learning_rate_at(0, 10, 0.1, 1e-5, 0, 1e-6) == pytest.approx(0.1)


def test_step_falls_by_its_factor():
    rates = [learning_rate_at(e, 50, 1.875e-2, 0.0, 5, 1e-6, "step", [40]) for e in (5, 39, 40, 49)]
    assert rates == pytest.approx([1.875e-2, 1.875e-2, 1.875e-3, 1.875e-3])
    assert learning_rate_at(30, 50, 1.0, 0.0, 0, 0.0, "step", [10, 30], 0.5) == 0.25


def test_constant_stays_after_warm_up():
    rates = [learning_rate_at(e, 10, 0.1, 0.0, 2, 0.0, "constant") for e in (0, 1, 2, 9)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.1])


@pytest.mark.parametrize(("epoch", "epochs"), [(-1, 10), (11, 10), (0, 0)])
def test_epoch_out_of_range(epoch, epochs):
    with pytest.raises(SpecError, match=rf"^schedule: epoch {epoch} of {epochs}, expected "):
        learning_rate_at(epoch, epochs, 0.1, 0.0, 0, 0.0)


def test_slide_probability():
    progress = (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [slide_probability_at(p, "cubic") for p in progress] == [0, 1 / 64, 1 / 8, 27 / 64, 1]
    assert [slide_probability_at(p, "step") for p in progress] == [0, 0, 1, 1, 1]
    assert [slide_probability_at(p, "off") for p in progress] == [0] * 5


def test_step_schedule_of_n_omniglot():
    rates = [learning_rate_at(e, 50, 1.875e-2, 0.0, 5, 1e-6, "step", (40,)) for e in (4, 5, 39, 40, 49)]
    assert rates[0] == pytest.approx(1e-6 + 4 * (1.875e-2 - 1e-6) / 5)
    assert rates[1:] == pytest.approx([1.875e-2, 1.875e-2, 1.875e-3, 1.875e-3])


def test_every_step_multiplies():
    rates = [learning_rate_at(e, 9, 1.0, 0.0, 0, 1e-6, "step", (3, 6), 0.5) for e in (2, 3, 6)]
    assert rates == [1.0, 0.5, 0.25]
