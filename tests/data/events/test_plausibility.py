"""Recordings that decode well and look wrong: what `events` says of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from tmkt_data.cli.main import main
from tmkt_data.events.events import validate_events
from tmkt_data.events.plausibility import summary_warnings
from tmkt_data.events.summary import summarize_events


def recording(t, p=None):
    t = np.array(t, np.int64)
    at = np.arange(len(t), dtype=np.uint16)
    return validate_events(t, at % 7, at % 5, at % 2 == 0 if p is None else np.full(len(t), p))


EVEN = np.arange(0, 305_000, 500)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (recording(EVEN), []),
        (recording([0, *range(3_200_000_000, 3_200_300_000, 1000)]),
         [("99.7% of the events lie in one tenth of the time; a few stray times, such as those of an earlier clock, "
          "probably stretch the time: prepare leaves them out with --time-range robust")]),
        (recording([7] * 20), ["all 20 events have one time, expected a span of time; check the column of the times"]),
        (recording(EVEN, True), ["all events are ON; check the column of the polarity"]),
        (recording(EVEN, False), ["all events are OFF; check the column of the polarity"]),
        (recording(EVEN * 1000), ["it lasts 304.5 s as microseconds; if its times are ns, give --time-unit ns"]),
        (recording(EVEN // 1000), ["it lasts 0.000304 s as microseconds; if its times are ms, give --time-unit ms"]),
        (recording([0, 1, 2_000_000_000], True), []),
    ],
)  # fmt: skip
def test_what_looks_wrong_is_said_in_a_line(events, expected):
    assert summary_warnings(summarize_events(events), is_unit_open=True) == expected
    assert len(summary_warnings(summarize_events(events))) == len(
        [line for line in expected if "--time-unit" not in line]
    )


def test_the_command_says_so(tmp_path):
    events = recording(EVEN * 1000)
    np.savez(tmp_path / "a.npz", t=events.t, x=events.x, y=events.y, p=events.p)
    run = CliRunner().invoke(main, ["events", str(tmp_path / "a.npz")])
    line = "it lasts 304.5 s as microseconds; if its times are ns, give --time-unit ns"
    assert run.output.endswith(f"warning: {line}\n")
    as_json = CliRunner().invoke(main, ["events", str(tmp_path / "a.npz"), "--json"])
    assert json.loads(as_json.output)["warnings"] == [line]
    given = CliRunner().invoke(main, ["events", str(tmp_path / "a.npz"), "--unit", "ns"])
    assert "warning" not in given.output
    assert "time              0.304500 s" in given.output
