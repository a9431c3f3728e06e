"""The one-shot script for a GPU: its steps run on a CPU, and no failure of one stops the others."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = [sys.executable, "benchmarks/gpu.py", "--cpu"]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def run(tmp_path, *words):
    out = tmp_path / "gpu.json"
    done = subprocess.run([*SCRIPT, "--json", str(out), *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done, json.loads(out.read_text()) if out.is_file() else {}


def test_a_step_has_its_figures_and_its_lines_in_the_table(tmp_path):
    done, found = run(tmp_path, "--only", "versions,ceilings")
    assert done.returncode == 0, done.stderr[-2000:]
    assert found["versions"]["a kernel of numba"].startswith("compiled in")
    assert found["ceilings"]["copy"]["tb_per_s"] > 0
    assert found["ceilings"]["matmul bfloat16"]["tflop_per_s"] > 0
    assert "error" not in found["versions"]
    assert "matmul tf32" in done.stdout


def test_without_time_nothing_starts_and_it_says_so(tmp_path):
    done, found = run(tmp_path, "--only", "step,profile", "--minutes", "0.01")
    assert done.returncode == 0
    assert found == {"step": {"error": "no time left"}, "profile": {"error": "no time left"}}


def test_an_unknown_step_is_refused(tmp_path):
    done, _ = run(tmp_path, "--only", "steps")
    assert done.returncode == 2
    assert "found 'steps', expected some of: versions, " in done.stderr


def test_a_step_that_takes_too_long_keeps_what_it_found(tmp_path, bench, monkeypatch):
    gpu = bench("gpu")
    monkeypatch.setattr(gpu, "_GRACE_S", 0.0)
    part = tmp_path / "part.json"
    part.write_text('{"copy": 1}')
    found = gpu.run_step("versions", 0.2, True, part)
    assert found["error"] == "stopped after 0 s"
    assert found["copy"] == 1


def test_a_step_that_fails_says_its_last_line(tmp_path, bench):
    found = bench("gpu").run_step("ceilings", 60, True, tmp_path / "no" / "folder.json")
    assert found["error"].startswith("exit code 1: FileNotFoundError")
    assert found["error"].endswith(found["stderr"][-1])


def test_figures_of_a_failed_part_do_not_stop_a_step(tmp_path, bench):
    work = bench("gpu_work").Work(tmp_path / "part.json", 10, True)
    assert work.attempt("bad", lambda: 1 / 0) is None
    assert work.attempt("good", lambda: 2) == 2
    assert json.loads((tmp_path / "part.json").read_text()) == {
        "bad": {"error": "ZeroDivisionError: division by zero"},
        "good": 2,
    }


def test_time_that_overlaps_counts_once(bench):
    assert bench("gpu_profile").covered([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0), (5.2, 5.4)]) == 4.0


def test_kernels_are_classified_by_name(bench):
    class_of = bench("gpu_profile").class_of
    assert class_of("input_gradient") == "stages, ours"
    assert class_of("sm90_xmma_wgrad_implicit_gemm_indexed_bf16bf16_bf16f32") == "convolution, grad weight"
    assert class_of("sm80_xmma_dgrad_implicit_gemm_tf32f32") == "convolution, grad input"
    assert class_of("sm90_xmma_fprop_implicit_gemm_f16f16") == "convolution, forward"
    assert class_of("void cudnn::ops::nchwToNhwcKernel<float>") == "change of memory order"
    assert class_of("nvjet_tst_128x256_64x4_h_bz_NTT") == "matrix product"
    assert class_of("void at::native::vectorized_elementwise_kernel<4>") == "element-wise"
    assert class_of("void at::native::batch_norm_backward_cuda_template") == "batch norm"
    assert class_of("Memcpy DtoD (Device -> Device)") == "copies"


def test_the_summary_of_a_profile_is_per_step(bench):
    found = bench("gpu_profile").summarize([("fire", 0.0, 2.0), ("fire", 3.0, 5.0)], 8.0, 2)
    assert found["ms"] == 4.0
    assert found["busy_share"] == 0.5
    assert found["gaps_ms"] == 2.0
    assert found["launches"] == 1
    assert found["classes_ms"] == {"stages, ours": 2.0}


def test_every_step_has_a_function(bench):
    for name, step in bench("gpu").STEPS.items():
        assert callable(getattr(bench(step.module), f"run_{name}"))


def test_failures_of_tests_are_written_down_as_they_happen(tmp_path, bench):
    failing = tmp_path / "test_failing.py"
    failing.write_text("def test_one():\n    raise ValueError('found 1')\n\ndef test_two(missing): ...\n")
    environment = {"TMKT_FAILURES": str(tmp_path / "failures"), "PYTHONPATH": str(ROOT / "benchmarks")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gpu_report", "-c", "/dev/null", str(failing)]
    done = subprocess.run(command, env=environment, capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    found = bench("gpu_checks")._failures(tmp_path / "failures")
    assert found["count"] == 2
    first = found["by_message"]["call: ValueError: found 1"]
    assert first["tests"] == ["test_failing.py::test_one"]
    assert "fixture 'missing' not found" in " ".join(found["by_message"])


def test_epochs_are_summed_up_without_the_first_and_the_profiled(bench):
    rows = [{"epoch": n, "wall_s": wall, "samples_per_s": 100.0} for n, wall in enumerate((9.0, 4.0, 8.0, 6.0, 4.0))]
    found = bench("gpu_training")._summarize(rows, 300, 2)
    assert found["epoch_s"] == 4.0
    assert found["train_s"] == 3.0
    assert found["share_outside_training"] == 0.25
    assert found["minutes_for_300_epochs"] == 20.0
    assert found["steady_epochs"] == 2


@pytest.mark.slow
def test_curves_run_every_precision_with_three_seeds(tmp_path):
    done, found = run(tmp_path, "--only", "curves", "--minutes", "4")
    assert done.returncode == 0, done.stderr[-2000:]
    curves = found["curves"]
    seeds = {name: [one["seed"] for one in runs] for name, runs in curves["scnn, runs"].items()}
    assert seeds == {name: [0, 1, 2] for name in ("tf32", "float16", "bfloat16")}
    # On a CPU all of them compute in float32.
    assert curves["scnn, bfloat16"].endswith("3 seeds   +0.0 [+0.0, +0.0]")
    assert curves["scnn, verdict"].startswith("float16 and bfloat16 within the spread of tf32 over seeds, ")
    assert "scnn, verdict" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("training,curves,tests", ["kernels", "training", "curves", "tests"]),
        ("versions,kernels,step", ["versions", "kernels", "step"]),
        ("curves,tests", ["curves", "tests"]),
    ],
)
def test_kernels_are_compiled_before_a_step_that_is_timed(bench, words, expected):
    assert bench("gpu").parse(["--only", words]).only == expected
    assert bench("gpu").parse(["--only", words, "--cpu"]).only == words.split(",")
