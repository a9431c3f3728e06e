"""Small runs of the benchmarks beside peers: they may be slow, they may not break."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("source", ["real", "made"])
def test_the_image_side_runs_and_writes_every_figure(tmp_path, source):
    out = tmp_path / "image_side.json"
    command = [sys.executable, "benchmarks/image_side.py", "--photographs", "12", "--repeats", "1", "--json", str(out)]
    if source == "made":
        command += ["--source", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(out.read_text())["figures"]
    assert set(figures) == {"prepare", "parts"}
    for name, row in figures["prepare"].items():
        assert row["ms"] >= row["least_ms"] > 0
        assert set(row["ratio"]) == {"Pillow: V, then resize", "Pillow: resize, then V"}
        assert name.startswith(("tmkt, ", "Pillow: "))
    assert len(figures["prepare"]) == 6


def test_the_training_step_runs_and_its_losses_agree(tmp_path):
    out = tmp_path / "step.json"
    command = [sys.executable, "benchmarks/training_step.py", "--batch", "2", "--size", "16", "--repeats", "1"]
    command += ["--steps", "1", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())
    assert set(found["figures"]) == {"reference", "spikingjelly", "tmkt", "idle"}
    assert len({round(loss, 4) for loss in found["losses_float64"].values()}) == 1
    for name in ("reference", "spikingjelly", "tmkt"):
        row = found["figures"][name]
        assert row["s"] > 0
        assert row["peak_bytes"] > found["figures"]["idle"]["peak_bytes"]
