"""Scenarios of `tmkt-train`: a comparison of one short run, which the same command resumes; a run that is resumed."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.scenarios import Scenario, State

_TIMES = {"wall_s", "epoch_s", "samples_per_s", "peak_bytes", "peak_memory_bytes", "peak_memory_mb", "metrics"}
"""What no two runs have in common; the metrics in a checkpoint hold times, and are compared as lines of their file."""
_RECIPE = {
    "name": "tiny",
    "title": "A tiny one",
    "seed": 3,
    "data": {"dataset": "digits", "recordings_per_class": 2, "prepare": {"time_bins": 4, "size": 16}},
    "model": {"backbone": "scnn", "batch_norm": "fused"},
    "method": {"name": "tmkt"},
    "optim": {"learning_rate": 2e-3, "warmup_epochs": 1},
    "train": {
        "epochs": 3, "batch_size": 16, "steps_per_epoch": 2, "drop_last": False, "crop_padding": 1, "device": "cpu",
        "num_threads": 1,
    },
}  # fmt: skip


def _inputs(inputs: Path) -> None:
    from tmkt_data.datasets.digits import open_digits
    from tmkt_data.datasets.digits_source import write_digits
    from tmkt_data.prepare.build import prepare_cache
    from tmkt_data.prepare.plan import plan_prepare
    from tmkt_data.spec import PrepareSpec
    from tmkt_train.recipe.recipe import Recipe, recipe_text

    for _ in write_digits(inputs / "digits", per_class=4):
        pass
    plan = plan_prepare(open_digits(inputs / "digits"), PrepareSpec(time_bins=4, size=16), inputs / "cache.h5")
    for _ in prepare_cache(plan):
        pass
    (inputs / "tiny.toml").write_text(recipe_text(Recipe.model_validate(_RECIPE)), encoding="utf-8")


def _interrupted(inputs: Path, start: Path) -> None:
    """Write a run that was stopped in its second epoch."""
    from itertools import count

    from tmkt_train.errors import RunInterruptedError
    from tmkt_train.recipe.load import load_recipe
    from tmkt_train.training.run import start_run

    steps = count()
    run = start_run(load_recipe(inputs / "tiny.toml"), cache=inputs / "cache.h5", out=start / "run")
    with suppress(RunInterruptedError):
        list(run.train(lambda: next(steps) > 3))


def _draw_once() -> None:
    """Draw each figure and compile each template in this process; the commands, which are forks of it, are given those.

    They take most of the time of a try, and change no file. What a chart shows is no matter here, only that pages are
    whole.
    """
    from jinja2 import Environment

    from tmkt_train.report.figures.drawing import Drawing

    made: dict[tuple[str, ...], Any] = {}

    def once(work: Callable[..., Any], name: Callable[..., tuple[str, ...]]) -> Callable[..., Any]:
        def given(*words: Any) -> Any:
            key = name(*words)
            if key not in made:
                made[key] = work(*words)
            return made[key]

        return given

    owners: list[tuple[Any, str, Callable[..., tuple[str, ...]]]] = [
        (Drawing, "saved", lambda drawing, *formats: (drawing.about.name, *formats)),
        (Environment, "compile", lambda _, text, name, file: (text, name, file)),
    ]
    for owner, attribute, name in owners:
        if not hasattr(getattr(owner, attribute), "is_once"):
            kept = once(getattr(owner, attribute), name)
            kept.is_once = True  # type: ignore[attr-defined]
            setattr(owner, attribute, kept)


def _measure_again() -> None:
    """Forget in each child process what this one has measured of the cache: reading it is to be hit by faults, too."""
    from tmkt_data.pairs import report

    os.register_at_fork(after_in_child=report._MEASURED.clear)


def _set_up() -> None:
    _draw_once()
    _measure_again()


def _compare(inputs: Path, out: Path) -> list[str]:
    words = ["tmkt-train", "compare", str(inputs / "tiny.toml"), "--seeds", "1", "--cache", str(inputs / "cache.h5")]
    return [*words, "--out", str(out / "compared")]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in _TIMES}
    if isinstance(value, (list, tuple)):
        return [_without_times(item) for item in value]
    if hasattr(value, "numpy"):
        return [str(value.dtype), list(value.shape), value.numpy().tobytes().hex()]
    return value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_without_times(value), sort_keys=True).encode()).hexdigest()


def _meaning(path: Path) -> str:
    """Return a digest of what a file of a run says, apart from times."""
    from tmkt_train.training.checkpoint import load_checkpoint

    if path.suffix == ".pt":
        return _digest(load_checkpoint(path))
    if path.suffix == ".json":
        return _digest(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return _digest([json.loads(line) for line in path.read_text().splitlines()])
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return _digest({name: [str(arrays[name].dtype), arrays[name].tolist()] for name in arrays.files})
    # Pages hold times, too.
    return "whole" if path.read_text(encoding="utf-8").rstrip().endswith("</html>") else "cut"


def _finished(out: Path) -> State:
    """Return what a finished run and a table of finished runs say; all else is a matter of the next start."""
    state = {}
    for result in out.rglob("result.json"):
        names = ("result.json", "best.pt", "last.pt", "metrics.jsonl", "diagnostics.npz", "report.html")
        for path in (result.with_name(name) for name in names):
            if path.is_file():
                state[str(path.relative_to(out))] = _meaning(path)
    table = out / "compared" / "table.csv"
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if all(row["status"] == "finished" for row in rows):
            state["compared/table.csv"] = _digest(rows)
    return state


SCENARIOS = [
    Scenario("train", _compare, inputs=_inputs, finished=_finished, set_up=_set_up),
    Scenario(
        "train-resume",
        lambda _, out: ["tmkt-train", "resume", str(out / "run")],
        inputs=_inputs,
        before=_interrupted,
        finished=_finished,
        set_up=_set_up,
    ),
]
