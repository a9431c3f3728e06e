"""Short trainings in each precision over seeds: do the fast ones learn as well as TF32?"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from gpu_contenders import SCNN, VGG_SNN
from gpu_kernels import compile_network, compile_stage
from gpu_training import prepare_digits
from gpu_work import Work, line_of
from precision_verdict import beside_tf32, verdict

from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.training.progress import Finished
from tmkt_train.training.run import start_run

_SEEDS = (0, 1, 2)
_PRECISIONS = ("tf32", "float16", "bfloat16")
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
            put_accuracies(work, backbone, rows)


def put_accuracies(work: Work, backbone: str, rows: Rows) -> None:
    """Note the last epoch's test accuracy of each precision beside tf32, and the verdict."""
    good = (run for runs in rows.values() for run in runs if "error" not in run)
    found = beside_tf32(good, "test_accuracy")
    for precision, one in found.items():
        work.put(f"{backbone}, {precision}", f"test accuracy {one.text}")
    work.put(f"{backbone}, verdict", verdict(found))


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
        settings += ["train.epochs=1", "train.steps_per_epoch=2", "train.batch_size=4"]
        settings += ["optim.warmup_epochs=0", "train.device=cpu"]
    else:
        settings += ["train.epochs=8", f"train.precision={precision}"]
    if backbone == "vgg-snn":
        settings.append("optim.learning_rate=1e-3")
    out = cache.parent / "-".join(map(str, which))
    started = time.perf_counter()
    known = {"seed": seed, "precision": precision}
    try:
        run = start_run(load_recipe(find_recipe("scnn_digits"), settings), cache=cache, out=out)
        result = [one for one in run.train() if isinstance(one, Finished)][-1].result
    except Exception as error:  # noqa: BLE001
        return {**known, "error": line_of(error), "seconds": time.perf_counter() - started}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        **known,
        "computed_in": result["environment"]["precision"],
        "losses": [row["train_loss"] for row in rows],
        "val_accuracies": [row["val_accuracy"] for row in rows],
        "test_accuracy": result["last_epoch_test_accuracy"],
        "seconds": time.perf_counter() - started,
    }
