"""Small runs of the benchmarks: they may be slow, they may not break."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "all.json"
    command = [sys.executable, "benchmarks/run.py", "--quick", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "=== theirs over ours" in done.stdout
    found = json.loads(out.read_text())
    expected = {"peers", "image_side", "encoders", "loaders"}
    expected |= {"start_and_memory", "training_step", "scnn_step", "growth"}
    assert set(found) == expected
    assert all(report["machine"] and report["tmkt"] for report in found.values())
    return {name: report["figures"] for name, report in found.items()}


@pytest.mark.timeout(900)
def test_peers_have_a_figure_each(reports):
    figures = reports["peers"]
    assert set(figures) == {"decode and count", "prepare", "read", "poisson"}
    for rows in figures.values():
        assert all(row["ms"] >= row["least_ms"] > 0 and row["ratio"] > 0 for row in rows.values())
    assert "tmkt" in figures["decode and count"]
    assert {"tmkt, sum, 1 worker", "tmkt, bilinear, 2 workers"} <= set(figures["prepare"])
    assert {"torch.rand", "spikingjelly's encoder"} <= set(figures["poisson"])


def test_images_stand_beside_two_loops(reports):
    figures = reports["image_side"]
    assert set(figures) == {"prepare", "parts"}
    for name, row in figures["prepare"].items():
        assert row["ms"] >= row["least_ms"] > 0
        assert set(row["ratio"]) == {"Pillow: V, then resize", "Pillow: resize, then V"}
        assert name.startswith(("tmkt, ", "Pillow: "))
    assert len(figures["prepare"]) == 6


def test_encoders_stand_beside_poisson_spikes(reports):
    figures = reports["encoders"]["encoders"]
    assert set(figures) == {"poisson", "saccade", "microsaccade", "gradient", "torch.rand"}
    assert figures["poisson"]["ratio"] == 1
    assert all(row["most_ms"] >= row["ms"] >= row["least_ms"] > 0 for row in figures.values())


def test_loaders_stand_beside_a_plain_one(reports):
    figures = reports["loaders"]["loaders"]
    assert list(figures) == ["pair_loader", "DataLoader, items read together", "DataLoader, item by item"]
    assert all(row["ms"] >= row["least_ms"] > 0 and row["ratio"] > 0 for row in figures.values())


def test_images_are_made_where_there_are_none(tmp_path):
    out = tmp_path / "image_side.json"
    command = [sys.executable, "benchmarks/image_side.py", "--photographs", "8", "--repeats", "1", "--json", str(out)]
    done = subprocess.run([*command, "--source", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(out.read_text())["photographs"] == "made"


def test_the_step_of_scnn_has_the_loss_of_the_plain_layers(reports):
    figures = reports["scnn_step"]
    assert set(figures) == {"plain", "tmkt"}
    assert figures["tmkt"]["loss"] == pytest.approx(figures["plain"]["loss"], rel=1e-3)
    assert all(row["cpu_s"] > 0 and row["s_ratio"] > 0 for row in figures.values())


def test_losses_of_the_training_step_agree(reports):
    figures = reports["training_step"]
    assert set(figures) == {"reference", "spikingjelly", "tmkt", "idle"}
    for name in ("reference", "spikingjelly", "tmkt"):
        assert figures[name]["s"] > 0
        assert figures[name]["peak_bytes"] > figures["idle"]["peak_bytes"]


def test_growth_has_time_and_memory_of_every_stage(reports):
    assert set(reports["growth"]) == {"200", "400"}
    for stages in reports["growth"].values():
        for stage in ("prepare", "open", "first batch", "epoch"):
            assert stages[stage]["seconds"] > 0
            assert stages[stage]["mb"] > 10


def test_starts_and_memory_are_measured(reports):
    figures = reports["start_and_memory"]
    assert set(figures["prepare, peak MB"]) == {"20", "40"}
    assert 0 < figures["kernels"]["all kernels, called once"] < figures["kernels"]["all kernels, compiled"]
    assert figures["first batch"]["open"] > 0
