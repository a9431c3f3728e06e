"""Tries are counted by verdict, and what is not good is kept with its place."""

from __future__ import annotations

from tests.faults.tally import Tally


def test_tries_are_counted_and_failures_kept():
    tally = Tally(("refused", "killed"))
    assert tally.summary() == {"tries": 0, "verdicts": {}, "failures": []}
    found = [tally.add(verdict, "text", byte=7) for verdict in ("refused", "wrong", "refused", "killed")]
    assert found == [False, True, False, False]
    assert tally.summary() == {
        "tries": 4,
        "verdicts": {"refused": 2, "wrong": 1, "killed": 1},
        "failures": [{"byte": 7, "verdict": "wrong", "said": "text"}],
    }
