"""A small run of the benchmark beside the peers: it may be slow, it may not break."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_benchmark_runs_and_writes_every_figure(tmp_path):
    out = tmp_path / "peers.json"
    command = [sys.executable, "benchmarks/peers.py", "--recordings", "20", "--repeats", "1", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(out.read_text())["figures"]
    assert set(figures) == {"decode and count", "prepare", "read", "poisson", "start"}
    for rows in figures.values():
        assert all(row["ms"] > 0 and row["ratio"] > 0 for row in rows.values())
    assert "tmkt" in figures["decode and count"]
