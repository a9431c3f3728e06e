"""Recordings read by a process and by its fork."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import os, sys
from tmkt_data import read_events
read_events(sys.argv[1])
pid = os.fork()
print(len(read_events(sys.argv[1])), flush=True)
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def assert_both_read(path, num_events):
    """Both processes read all events, and end in time."""
    command = [sys.executable, "-c", _SCRIPT, path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout) == (0, f"{num_events}\n{num_events}\n"), done.stderr
