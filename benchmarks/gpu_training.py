"""Whole trainings on a GPU: epochs as a user has them, stopping and resuming."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import torch
from gpu_profile import covered, kernels_of
from gpu_work import Work, release, synchronize
from made_digits import made_digits
from torch.profiler import ProfilerActivity, profile

from tmkt_data import open_catalogue, plan_prepare, prepare_cache
from tmkt_train import choices
from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.training.progress import EpochDone, Finished, StepDone
from tmkt_train.training.run import start_run

ROOT = Path(__file__).resolve().parents[1]
_EPOCHS, _ITERATIONS = 5, 65
_PAPER_EPOCHS = 300
_PROFILED = 2
"""The epoch that is profiled, from 0."""


def run_training(work: Work) -> None:
    """Train VGG-SNN on a tree in the layout of N-Caltech101; further runs are stopped or killed, and resumed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = prepare_digits(work, folder) if work.is_tiny else _prepare_tree(work, folder)
        precisions = ("tf32",) if work.is_tiny else tuple(p for p in ("bfloat16", "tf32") if _has(p))
        for precision in precisions:
            work.attempt(f"epochs {precision}", lambda p=precision: _epochs(work, cache, folder / f"whole-{p}", p))
            if precision == precisions[0]:
                for name, number in (("stopped", signal.SIGTERM), ("killed", signal.SIGKILL)):
                    work.attempt(
                        f"{name} and resumed", lambda p=precision, n=number: _resumed(work, cache, folder, p, n)
                    )
            release(work.device)


def _has(precision: str) -> bool:
    return precision in get_args(choices.Precision)


def _prepare_tree(work: Work, folder: Path) -> Path:
    """Write a tree with drawn content and prepare it as the recipe wants it; return the cache."""
    words = ["--per-class", "40", "--events-per-recording", "30000"]
    started = time.perf_counter()
    script = ROOT / "tests" / "tools" / "make_ncaltech_tree.py"
    subprocess.run([sys.executable, script, folder / "tree", *words], check=True, stdout=subprocess.DEVNULL)
    work.put("tree_s", time.perf_counter() - started)
    started = time.perf_counter()
    spec = load_recipe(find_recipe("vggsnn_ncaltech")).data.prepare.to_spec()
    cache = folder / "tree.h5"
    for _ in prepare_cache(plan_prepare(open_catalogue("ncaltech101", folder / "tree"), spec, cache)):
        pass
    work.put("prepare_s", time.perf_counter() - started)
    return cache


def _recipe_name(work: Work) -> str:
    return "scnn_digits" if work.is_tiny else "vggsnn_ncaltech"


def _settings(work: Work, precision: str) -> list[str]:
    found = {"train.epochs": _EPOCHS, "train.steps_per_epoch": _ITERATIONS, "train.precision": precision}
    found["optim.warmup_epochs"] = 1
    if work.is_tiny:
        found |= {"train.epochs": 2, "train.steps_per_epoch": 2, "train.batch_size": 4, "train.device": "cpu"}
        found |= {"train.precision": "float32"}
    return [f"{key}={value}" for key, value in found.items()]


def _epochs(work: Work, cache: Path, out: Path, precision: str) -> dict[str, Any]:
    """Train without a stop; return seconds, shares and rates of the epochs, and minutes for the whole training."""
    recipe = load_recipe(find_recipe(_recipe_name(work)), _settings(work, precision))
    run = start_run(recipe, cache=cache, out=out)
    profiled = 0 if work.is_tiny else _PROFILED
    watch = _EpochWatch(work.device, profiled)
    started, first_step_s, result = time.perf_counter(), 0.0, {}
    for progress in run.train():
        if isinstance(progress, StepDone):
            first_step_s = first_step_s or time.perf_counter() - started
        watch.see(progress)
        if isinstance(progress, Finished):
            result = progress.result
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return _summarize(rows, run.setup.num_draws, profiled) | {
        "busy_share": watch.busy_share,
        "first_step_s": first_step_s,
        "num_train": len(run.setup.frames),
        "num_selection": len(run.setup.selection),
        "batches_per_epoch": run.setup.batches_per_epoch,
        "losses": [row["train_loss"] for row in rows],
        "test_accuracy": result["test_accuracy"],
        "result": {key: value for key, value in result.items() if isinstance(value, (int, float, str))},
    }


class _EpochWatch:
    """Profiles one epoch of a run, with its evaluation and what it saves.

    Attributes:
        busy_share: Share of that epoch in which the device computed; None before.
    """

    def __init__(self, device: torch.device, epoch: int) -> None:
        self._device, self._epoch, self._started = device, epoch, 0.0
        self._profiler: profile | None = None
        self.busy_share: float | None = None

    def see(self, progress: Any) -> None:
        """Start after the epoch before, or after the first step of the first one; stop at its end."""
        starts = isinstance(progress, EpochDone) and progress.row["epoch"] == self._epoch - 1
        starts = starts or (self._epoch == 0 and isinstance(progress, StepDone) and progress.batch == 1)
        if starts and self._profiler is None:
            on_gpu = self._device.type == "cuda"
            self._profiler = profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU])
            self._profiler.start()
            self._started = time.perf_counter()
        elif isinstance(progress, EpochDone) and progress.row["epoch"] == self._epoch and self._profiler is not None:
            synchronize(self._device)
            wall_ms = (time.perf_counter() - self._started) * 1e3
            self._profiler.stop()
            kernels = kernels_of(self._profiler, self._device)
            self.busy_share = covered([(start, end) for _, start, end in kernels]) / wall_ms
            self._profiler = None


def _summarize(rows: list[dict[str, Any]], num_draws: int, profiled: int) -> dict[str, Any]:
    """Return medians over the epochs that are neither the first, which warms up, nor profiled.

    The epoch after the profiled one is left out, too: the profile is evaluated in it.
    """
    steady = [row for row in rows if row["epoch"] not in (0, profiled, profiled + 1)] or rows[-1:]
    epoch_s = statistics.median(row["wall_s"] for row in steady)
    train_s = statistics.median(num_draws / row["samples_per_s"] for row in steady)
    return {
        "epoch_s": epoch_s,
        "train_s": train_s,
        "share_outside_training": 1 - train_s / epoch_s,
        "samples_per_s": num_draws / train_s,
        "minutes_for_300_epochs": _PAPER_EPOCHS * epoch_s / 60,
        "steady_epochs": len(steady),
        "all_epoch_s": [row["wall_s"] for row in rows],
    }


def _resumed(work: Work, cache: Path, folder: Path, precision: str, number: signal.Signals) -> dict[str, Any]:
    """Stop a run by a signal in an epoch, resume it, and compare weights and metrics with those of the whole run."""
    out, whole = folder / f"resumed-{number.name}", folder / f"whole-{precision}"
    words = [word for setting in _settings(work, precision) for word in ("--set", setting)]
    train = [sys.executable, "-m", "tmkt_train"]
    recipe = [*train, "recipe", _recipe_name(work), "--cache", cache, "--out", out, *words]
    process = subprocess.Popen(recipe, stdout=subprocess.DEVNULL)
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and metrics.read_text().count("\n")):
        time.sleep(0.05)
    if not work.is_tiny:
        time.sleep(1.0)
    process.send_signal(number)
    code = process.wait()
    if not metrics.is_file():
        raise RuntimeError(f"{' '.join(map(str, recipe))}: exit code {code} before the end of an epoch")
    done = len(metrics.read_text().splitlines())
    subprocess.run([*train, "resume", out], check=True, stdout=subprocess.DEVNULL)
    weights = [_weights(run / "best.pt") for run in (out, whole)]
    rows = [[_without_times(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (out, whole)]
    return {
        "exit_code_of_the_stopped": code,
        "epochs_before_the_stop": done,
        "weights_equal": _are_equal(*weights),
        "metrics_equal": rows[0] == rows[1],
    }


def _without_times(line: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(line)
    return {key: value for key, value in row.items() if key not in ("wall_s", "samples_per_s")}


def _weights(path: Path) -> dict[str, torch.Tensor]:
    values: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)["model"]
    return values


def _are_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def prepare_digits(work: Work, folder: Path) -> Path:
    """Write digits and prepare them as the recipe wants them; return the cache."""
    spec = load_recipe(find_recipe("scnn_digits")).data.prepare.to_spec()
    return made_digits(folder, 12 if work.is_tiny else 80, spec)
