"""A short run of `python -m tests.faults.small_disk`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import small_disk

ROOT = Path(__file__).parents[2]
WHY = small_disk.missing()


@pytest.mark.slow
@pytest.mark.skipif(bool(WHY), reason=WHY or "one can be mounted")
def test_a_full_file_system_leaves_nothing_wrong(tmp_path):
    summary = tmp_path / "summary.json"
    command = [sys.executable, "-m", "tests.faults.small_disk", "--tries", "8", "--json", str(summary)]
    command += ["--scenario", "prepare"]
    variables = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(summary.read_text())["rows"]
    assert row["failures"] == []
    assert row["verdicts"]["refused"] > 2
