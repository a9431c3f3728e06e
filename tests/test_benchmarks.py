"""Small runs of the benchmarks: they may be slow, they may not break.

They run in this process. What a benchmark measures in processes of its own is called here as those call it: a start
of Python and torch takes most of the time of a small run.
"""

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
QUICK = runpy.run_path(str(BENCHMARKS / "run.py"), run_name="run")["QUICK"]
OF_PROCESSES = {"start_and_memory", "training_step", "growth"}
"""Benchmarks whose figures are those of processes of their own."""


@pytest.fixture(scope="module")
def load():
    """A function that returns the names of a benchmark, for a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield lambda name: runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name=name)


def run(script, *words):
    """Run a benchmark as its command does, and return what it prints."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", ["benchmark", *map(str, words)])
        script["main"]()
    return printed.getvalue()


@pytest.fixture(scope="module")
def reports(load, tmp_path_factory):
    """The JSON of every benchmark that needs no process of its own."""
    folder, found = tmp_path_factory.mktemp("bench"), {}
    for name in set(QUICK) - OF_PROCESSES:
        run(load(name), *QUICK[name], "--json", folder / f"{name}.json")
        found[name] = json.loads((folder / f"{name}.json").read_text())
    assert set(found) == {"peers", "image_side", "encoders", "loaders", "scnn_step"}
    assert all(report["machine"] and report["tmkt"] for report in found.values())
    return {name: report["figures"] for name, report in found.items()}


@pytest.fixture(scope="module")
def training_step(load):
    """Figures of a training step of each contender, and its loss in float64."""
    script, words = load("training_step"), ("--batch", 2, "--size", 16, "--steps", 1)
    # Of the time steps, which only take time here.
    script["main"].__globals__["STEPS"] = 3
    losses = json.loads(run(script, *words, "--contender", "losses", "--kind", "float64"))
    runs = {name: [json.loads(run(script, *words, "--contender", name))] for name in script["CONTENDERS"]}
    return script, script["summarize"](runs), losses


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


def test_images_are_made_where_there_are_none(load, tmp_path):
    out = tmp_path / "image_side.json"
    run(load("image_side"), "--photographs", 8, "--repeats", 1, "--json", out, "--source", tmp_path)
    assert json.loads(out.read_text())["photographs"] == "made"


def test_the_step_of_scnn_has_the_loss_of_the_plain_layers(reports):
    figures = reports["scnn_step"]
    assert set(figures) == {"plain", "tmkt"}
    assert figures["tmkt"]["loss"] == pytest.approx(figures["plain"]["loss"], rel=1e-3)
    assert all(row["cpu_s"] > 0 and row["s_ratio"] > 0 for row in figures.values())


def test_losses_of_the_training_step_agree(training_step, capsys):
    script, figures, losses = training_step
    assert set(losses) == {"reference", "spikingjelly", "tmkt"}
    assert all(loss == pytest.approx(losses["reference"], abs=script["TOLERANCE"]) for loss in losses.values())
    for name, row in figures.items():
        assert row["s"] > 0
        assert row["peak_bytes"] > 1e8
        assert row["loss"] == pytest.approx(losses[name], rel=0.2)
    script["print_table"](figures, losses)
    assert capsys.readouterr().out.count("\n") == 4
    assert script["run_contender"]("idle", 2, 16, torch.float32, 1)["losses"] == []


def test_growth_has_time_and_memory_of_every_stage(load, tmp_path):
    script = load("growth")
    script["make_tree"](tmp_path / "tree", 200)
    for stage in script["STAGES"]:
        found = json.loads(run(script, "--stage", stage, "--folder", tmp_path / "tree"))
        assert found["seconds"] > 0
        assert found["mb"] > 10


def test_starts_and_memory_are_measured(load, tmp_path, monkeypatch):
    script, events = load("start_and_memory"), tmp_path / "Caltech101" / "airplanes"

    def printed(code, *words):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            monkeypatch.setattr(sys, "argv", ["-c", *map(str, words)])
            exec(code, {"__name__": "__main__"})
        return [float(word) for word in out.getvalue().split()]

    script["write_image"](tmp_path)
    for number in range(20):
        script["write_recording"](events / f"image_{number + 1:04d}.bin", number)
    numba, kernels = printed(script["KERNELS"], events / "image_0001.bin")
    assert numba >= 0
    assert kernels > 0
    (peak,) = printed(script["PREPARE"], tmp_path, tmp_path / "cache.h5")
    opened, batch = printed(script["FIRST_BATCH"], tmp_path / "cache.h5")
    assert min(opened, batch) > 0
    (whole,) = printed(script["WORKERS"], tmp_path / "cache.h5", 1)
    assert min(peak, whole) > 10


def test_the_table_has_a_line_for_each_rival(reports, training_step):
    lines = runpy.run_path(str(BENCHMARKS / "run.py"), run_name="run")["table"](
        {**reports, "training_step": training_step[1]}
    )
    assert len({(line.what, line.beside) for line in lines}) == len(lines) > 20
    assert all(float(line.ratio) > 0 for line in lines)
