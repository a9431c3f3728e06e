"""A short campaign: a quarter of the faults in each scenario, in turn; `make faults` runs the long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import shim
from tests.faults.faults import FAULTS
from tests.faults.table import scenarios

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(bool(shim.missing()), reason=shim.missing() or "it can run")


@pytest.mark.slow
@pytest.mark.parametrize("tries", [1])
def test_no_fault_leaves_anything_wrong(tries, tmp_path):
    summary = tmp_path / "summary.json"
    command = [sys.executable, "-m", "tests.faults", "--tries", str(tries), "--every", "4", "--json", str(summary)]
    variables = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert summary.exists(), done.stdout + done.stderr
    rows = json.loads(summary.read_text())["rows"]
    assert [failure for row in rows for failure in row["failures"]] == []
    assert done.returncode == 0
    assert {row["scenario"] for row in rows} == {scenario.name for scenario in scenarios()}
    assert {row["fault"] for row in rows} == set(FAULTS)
