import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.mixing import expected_ratio, replacement_points, replacement_probability
from tmkt_train.report.axis import linear_axis, log_axis, spread_apart
from tmkt_train.report.html import element
from tmkt_train.report.pictures import strip_png, switch_step
from tmkt_train.report.statistics import point_law, ratio_spread, wilson_interval, worst_confusions

NUM_STEPS = 4


@given(st.floats(0.0, 1.0), st.integers(1, 16))
def test_the_law_sums_to_one_and_has_the_expected_ratio(probability, num_steps):
    law = point_law(probability, num_steps)
    ratios = np.arange(num_steps, -1, -1) / num_steps
    assert law.sum() == pytest.approx(1)
    assert law @ ratios == pytest.approx(expected_ratio(probability, num_steps), abs=1e-9)
    assert 0 <= ratio_spread(law) <= 0.5


def test_the_law_is_that_of_the_draws():
    probability, n = replacement_probability(0.5, 10), 20000
    uids = np.arange(n, dtype=np.uint64)
    points = replacement_points(DrawKeys(7, 0, uids, np.zeros(n, np.int64)), probability, 10)
    shares = np.bincount(points - 1, minlength=11) / n
    law = point_law(probability, 10)
    assert np.abs(shares - law).max() < 5 * np.sqrt(0.25 / n)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share(hits):
    low, high = wilson_interval(*hits)
    assert 0 <= low <= hits[0] / hits[1] + 1e-12
    assert hits[0] / hits[1] - 1e-12 <= high <= 1
    assert low < high


@given(st.lists(st.floats(0, 200), min_size=1, max_size=8))
def test_labels_are_moved_apart_and_stay_in_the_chart(places):
    moved = spread_apart(places, 14.0, 0.0, 200.0)
    assert np.diff(sorted(moved)).min(initial=14.0) >= 14.0 - 1e-6
    assert min(moved) >= 0
    assert max(moved) <= 200 + 1e-6


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_an_axis_covers_its_values_with_a_few_ticks(values):
    axis = linear_axis(values, (10.0, 110.0))
    assert 2 <= len(axis.ticks) <= 12
    assert all(10 - 1e-6 <= axis(v) <= 110 + 1e-6 for v in values)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_a_log_axis_covers_its_values(values):
    axis = log_axis(values, (10.0, 110.0))
    assert all(10 <= axis(v) <= 110 for v in values)


def test_switch_step_reads_the_mixed_row():
    rng = np.random.default_rng(1)
    image, events = rng.random((2, NUM_STEPS, 3, 3, 3), np.float32)
    for t in range(1, NUM_STEPS + 2):
        mixed = np.concatenate([image[: t - 1], events[t - 1 :]])
        assert switch_step(np.stack([image, image, events, mixed])) == t
    back = np.concatenate([events[:1], image[1:]])
    assert switch_step(np.stack([image, image, events, back])) is None
    assert switch_step(np.stack([image, image, image, image])) is None


def test_strip_png_holds_the_frames_enlarged(tmp_path):
    frames = np.zeros((1, 2, 36, 36, 3), np.float32)
    frames[0, 1, :, :, 0] = [[2.0] * 36] * 36
    frames[0, 1, 0, 0] = np.nan
    path = tmp_path / "strip.png"
    path.write_bytes(strip_png(frames))
    with Image.open(path) as image:
        assert image.size == (2 * 72 + 2, 72)
        assert image.getpixel((0, 0)) == (0, 0, 0, 255)
        assert image.getpixel((145, 71)) == (255, 0, 0, 255)
        assert image.getpixel((74, 0)) == (0, 0, 0, 255)


def test_worst_confusions_are_sorted_and_leave_out_hits():
    counts = np.array([[5, 1, 0], [3, 5, 1], [0, 0, 5]])
    assert worst_confusions(counts, 5) == [(1, 0, 3), (0, 1, 1), (1, 2, 1)]


def test_elements_escape_text_and_attributes():
    assert element("a", "<", title='"&') == '<a title="&quot;&amp;">&lt;</a>'
