from __future__ import annotations

import itertools

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import SpecError
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.spec import BIN_RULES

TIMES = st.one_of(st.integers(-50, 50), st.integers(-(10**16), 10**16))
SPANS = st.one_of(st.integers(0, 60), st.integers(0, 10**13))
BINS = st.one_of(st.integers(1, 12), st.integers(1, 1000))


def bin_by_edges(t, edges):
    found = [k for k in range(len(edges) - 1) if edges[k] <= t < edges[k + 1]]
    return found[0] if found else None


@pytest.mark.parametrize("rule", BIN_RULES)
@settings(deadline=None, max_examples=60)
@given(t_first=TIMES, span=SPANS, num_bins=BINS)
def test_edges_never_step_back_and_are_one_more_than_the_bins(rule, t_first, span, num_bins):
    edges = bin_edges(t_first, t_first + span, num_bins, rule)
    assert edges.shape == (num_bins + 1,)
    assert edges.dtype == np.int64
    assert edges[0] == t_first
    assert (np.diff(edges) >= 0).all()


@pytest.mark.parametrize("rule", BIN_RULES)
@settings(deadline=None, max_examples=120)
@given(t_first=TIMES, span=SPANS, num_bins=st.integers(1, 40), share=st.floats(0, 1))
def test_bin_by_edges_is_the_bin_of_the_formula(rule, t_first, span, num_bins, share):
    t_last = t_first + span
    edges = [int(edge) for edge in bin_edges(t_first, t_last, num_bins, rule)]
    near_edges = {edge + d for edge, d in itertools.product(edges, (-1, 0, 1)) if t_first <= edge + d <= t_last}
    for t in {t_first, t_last, t_first + int(share * span), *near_edges}:
        if t_first <= t <= t_last:
            assert bin_by_edges(t, edges) == naive.bin_of(t, t_first, t_last, num_bins, rule)


@settings(deadline=None, max_examples=60)
@given(t_first=TIMES, span=SPANS, num_bins=BINS)
def test_exact_bins_differ_by_at_most_one_microsecond(t_first, span, num_bins):
    widths = np.diff(bin_edges(t_first, t_first + span, num_bins, "exact"))
    assert widths.sum() == span + 1
    assert widths.max() - widths.min() <= 1


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("exact", [100, 103, 105, 108, 110]),
        ("tonic", [100, 102, 104, 106, 108]),
        ("spikingjelly", [100, 102, 104, 106, 110]),
    ],
)
def test_edges_of_a_small_recording(rule, expected):
    assert bin_edges(100, 109, 4, rule).tolist() == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("exact", [7, 8, 9, 9, 10, 10]),
        ("tonic", [7, 7, 7, 7, 7, 7]),
        ("spikingjelly", [7, 7, 7, 7, 7, 10]),
    ],
)
def test_more_bins_than_microseconds(rule, expected):
    assert bin_edges(7, 9, 5, rule).tolist() == expected


def test_one_event_lies_in_the_first_exact_bin_and_the_last_of_spikingjelly():
    assert naive.bin_of(5, 5, 5, 4, "exact") == bin_by_edges(5, bin_edges(5, 5, 4, "exact").tolist()) == 0
    assert bin_by_edges(5, bin_edges(5, 5, 4, "spikingjelly").tolist()) == 3
    assert bin_by_edges(5, bin_edges(5, 5, 4, "tonic").tolist()) is None


@pytest.mark.parametrize("num_bins", [0, -1])
def test_no_bins_is_an_error(num_bins):
    with pytest.raises(SpecError, match=f"time bins: found {num_bins}, expected 1 or more"):
        bin_edges(0, 10, num_bins, "exact")


def test_time_running_backwards_is_an_error():
    with pytest.raises(SpecError, match="time bins: the last event at 9 us lies before the first at 10 us"):
        bin_edges(10, 9, 3, "tonic")


def test_an_unknown_rule_is_an_error():
    with pytest.raises(SpecError, match="bin rule: found 'even', expected one of exact, tonic, spikingjelly"):
        bin_edges(0, 9, 3, "even")


@pytest.mark.parametrize("kind", [np.int32, np.uint64, np.int64])
def test_times_of_numpy_give_the_edges_of_whole_numbers(kind):
    last = 2**31 - 1
    assert bin_edges(kind(5), kind(last), np.uint8(200), "exact").tolist() == bin_edges(5, last, 200, "exact").tolist()


@pytest.mark.parametrize(("times", "num_bins"), [((0.0, 0.3), 10), ((0, 10), 2.5)])
def test_times_in_seconds_are_refused_not_rounded(times, num_bins):
    with pytest.raises(
        SpecError, match=rf"^time bins: found {num_bins} from .*, expected whole numbers, times in micros"
    ):
        bin_edges(*times, num_bins, "exact")
