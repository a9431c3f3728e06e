import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from tmkt_train.report.figures.axes import Axis, drawable, set_axes, spread_apart, text_width

number = st.floats(-1e6, 1e6)


# The first example loads matplotlib and scipy.
@settings(deadline=None)
@given(st.lists(st.floats(0, 200), min_size=1, max_size=8))
def test_labels_are_moved_apart_and_stay_in_the_chart(places):
    moved = spread_apart(places, 14.0, 200.0)
    assert np.diff(sorted(moved)).min(initial=14.0) >= 14.0 - 1e-6
    assert min(moved) >= 0
    assert max(moved) <= 200 + 1e-6


def drawn(values, y_axis):
    axes = Figure().add_axes((0.1, 0.1, 0.8, 0.8))
    axes.plot(range(len(values)), values)
    set_axes(axes, Axis("x"), y_axis)
    return axes.get_ylim(), axes.get_yticks(), [text.get_text() for text in axes.get_yticklabels()]


@settings(deadline=None, max_examples=40)
@given(st.lists(number, min_size=1, max_size=20))
def test_axis_covers_its_values_with_a_few_ticks(values):
    (low, high), ticks, texts = drawn(values, Axis("y"))
    slack = 1e-6 * (high - low)
    assert low - slack <= min(values) <= max(values) <= high + slack
    assert 2 <= len(ticks) <= 12
    assert len(set(texts)) == len(texts)
    assert low == pytest.approx(ticks[0], abs=slack)
    assert high == pytest.approx(ticks[-1], abs=slack)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_log_axis_covers_its_values(values):
    low, high = 0.9 * min(values), 1.1 * max(values)
    limits, ticks, _ = drawn(values, Axis("y", low, high, is_log=True))
    assert limits == pytest.approx((low, high))
    assert all(low <= tick <= high for tick in ticks)


@pytest.mark.parametrize("value", [10.0, -3.2e4, 9.999e-5])
def test_a_flat_curve_has_short_tick_labels(value):
    (low, high), ticks, texts = drawn([value, value * (1 + 1e-13)], Axis("y"))
    assert low < value < high
    assert len(ticks) >= 2
    assert max(map(len, texts)) <= 8


def test_fixed_ends_stay_and_zero_has_no_decimals():
    limits, ticks, texts = drawn([0.1, 0.42], Axis("y", 0.0, 1.0))
    assert limits == (0.0, 1.0)
    assert ticks == pytest.approx(np.arange(6) / 5)
    assert texts == ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert drawn([np.nan], Axis("y"))[0] == (0.0, 1.0)


def test_names_are_made_fit_to_be_drawn():
    assert drawable("a\nb\x00\ud800") == "a\ufffdb\ufffd\ufffd"
    assert drawable("abcdef", 4) == "ab…f"
    # Letters that the font lacks have a width, and none is warned of.
    assert text_width(["漢字"]) > text_width(["ab"]) > 0
    assert text_width([]) == 0
