"""A plugin of pytest that writes down each failure as it happens, so that a run that is stopped leaves something."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Append a line of JSON to the file named by TMKT_FAILURES: the test, its stage, and the end of its traceback."""
    path = os.environ.get("TMKT_FAILURES")
    # With several workers only the one that collects the reports writes.
    if path is None or not report.failed or "PYTEST_XDIST_WORKER" in os.environ:
        return
    lines = report.longreprtext.strip().splitlines()
    message = next((line[1:].strip() for line in reversed(lines) if line.startswith("E ")), lines[-1] if lines else "")
    row = {"test": report.nodeid, "when": report.when, "message": message[:300], "traceback": lines[-25:]}
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
