"""The counted runs of `tests/tools/fuzz_campaign.py`: what they count, and that a fault is one."""

from __future__ import annotations

import fuzz_campaign
import pytest

pytestmark = pytest.mark.slow


def test_every_input_is_counted_once():
    row = fuzz_campaign.in_own_process("plain", 320, 3)
    assert row["faults"] == []
    assert row["inputs"] == row["decoded"] + row["refused"] == 320


def test_a_run_that_ends_in_an_error_is_a_fault(monkeypatch, tmp_path):
    monkeypatch.setenv("TMKT_REAL_DATA", str(tmp_path))
    row = fuzz_campaign.in_own_process("real", 10, 3)
    assert row["inputs"] == 0
    assert "exit 1" in row["faults"][0]
