"""Short trainings in each precision over seeds: do the fast ones learn as well as TF32?"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from gpu_contenders import SCNN, VGG_SNN
from gpu_kernels import compile_network, compile_stage
from gpu_training import prepare_digits
from gpu_work import Work, line_of

from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.training.progress import Finished
from tmkt_train.training.run import start_run

_SEEDS = (0, 1, 2)
_PRECISIONS = ("tf32", "float16", "bfloat16")
"""The first one is what the others are compared with."""
_SYSTEMS = {"vgg-snn": VGG_SNN._replace(shape=SCNN.shape, batch_size=SCNN.batch_size), "scnn": SCNN}
_NUM_STAGES = 9
_MARGIN = 1.3
"""How many times as long as the longest one so far a training may take."""

Rows = dict[str, list[dict[str, Any]]]


def run_curves(work: Work) -> None:
    """Train digits for some epochs in each precision over seeds; the rounds give every precision its seeds in turn."""
    if not work.is_tiny:
        work.attempt("kernels compiled in", lambda: _compile(work))
    with tempfile.TemporaryDirectory() as name:
        cache = prepare_digits(work, Path(name))
        for backbone in ("scnn",) if work.is_tiny else _SYSTEMS:
            rows: Rows = {precision: [] for precision in _PRECISIONS}
            for seed in _SEEDS:
                for precision in _PRECISIONS:
                    longest = max((run["seconds"] for runs in rows.values() for run in runs), default=5.0)
                    if work.left_s() < _MARGIN * longest:
                        break
                    rows[precision].append(_curve(work, cache, (backbone, precision, seed)))
                    work.put(f"{backbone}, runs", rows)
            for precision, line in verdicts(rows).items():
                work.put(f"{backbone}, {precision}", line)


def _compile(work: Work) -> float:
    """Compile in many processes what the trainings launch; return the seconds."""
    started = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count() or 1, multiprocessing.get_context("spawn")) as pool:
        device, system = str(work.device), _SYSTEMS["vgg-snn"]
        waiting = [pool.submit(compile_network, device, precision, "scnn") for precision in _PRECISIONS]
        for number in range(_NUM_STAGES):
            waiting += [pool.submit(compile_stage, device, precision, number, system) for precision in _PRECISIONS]
        for future in waiting:
            future.result()
    return time.perf_counter() - started


def _curve(work: Work, cache: Path, which: tuple[str, str, int]) -> dict[str, Any]:
    """Train once; return the losses and validation accuracies of the epochs, and the test accuracy."""
    backbone, precision, seed = which
    settings = [f"model.backbone={backbone}", f"seed={seed}"]
    if work.is_tiny:
        settings += ["train.epochs=1", "train.steps_per_epoch=2", "optim.warmup_epochs=0", "train.device=cpu"]
    else:
        settings += ["train.epochs=8", f"train.precision={precision}"]
    if backbone == "vgg-snn":
        settings.append("optim.learning_rate=1e-3")
    out = cache.parent / "-".join(map(str, which))
    started = time.perf_counter()
    try:
        run = start_run(load_recipe(find_recipe("scnn_digits"), settings), cache=cache, out=out)
        result = [one for one in run.train() if isinstance(one, Finished)][-1].result
    except Exception as error:  # noqa: BLE001
        return {"seed": seed, "error": line_of(error), "seconds": time.perf_counter() - started}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "seed": seed,
        "precision": result["environment"]["precision"],
        "losses": [row["train_loss"] for row in rows],
        "val_accuracies": [row["val_accuracy"] for row in rows],
        "test_accuracy": result["last_epoch_test_accuracy"],
        "seconds": time.perf_counter() - started,
    }


def verdicts(rows: Rows) -> dict[str, str]:
    """Say for each precision how its last loss and its test accuracy lie beside those of the first, in one line.

    The spread of the seeds is what lies between the lowest and the highest seed of the first precision. A precision is
    within it if its mean differs by no more from that of the first.
    """
    first, *others = rows
    known = {precision: _finals(runs) for precision, runs in rows.items()}
    found = {first: ", ".join(_mean(name, values) for name, values in known[first].items()) or "no run"}
    for precision in others:
        num = min(len(known[name].get("test accuracy", [])) for name in (first, precision))
        if num < len(_SEEDS):
            found[precision] = f"open: {num} of {len(_SEEDS)} seeds beside {first}"
            continue
        parts, is_within = [], True
        for name, values in known[precision].items():
            reference = known[first][name]
            difference = statistics.fmean(values) - statistics.fmean(reference)
            spread = max(reference) - min(reference)
            parts.append(f"{_mean(name, values)}, {difference:+.4f} beside {first}, whose seeds span {spread:.4f}")
            # Lower losses and higher accuracies are no reason to refuse a precision.
            is_within &= (difference if name == "loss" else -difference) <= spread
        found[precision] = f"{'within' if is_within else 'OUTSIDE'} the seeds of {first}: {'; '.join(parts)}"
    return found


def _finals(runs: list[dict[str, Any]]) -> dict[str, list[float]]:
    good = [run for run in runs if "error" not in run]
    if not good:
        return {}
    return {"test accuracy": [run["test_accuracy"] for run in good], "loss": [run["losses"][-1] for run in good]}


def _mean(name: str, values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{name} {statistics.fmean(values):.4f} ± {deviation:.4f} ({len(values)} seeds)"
