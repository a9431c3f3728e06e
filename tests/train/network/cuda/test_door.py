"""Stages by the Triton kernels: equal to the oracle under the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stages_equal_the_oracle_under_the_interpreter():
    """Run `interpreted_stages.py` in a process of its own, where Triton is imported with its interpreter on."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", Path(__file__).with_name("interpreted_stages.py")],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
