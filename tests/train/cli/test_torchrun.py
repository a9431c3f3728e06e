from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner

from tmkt_train.cli.main import main
from tmkt_train.cli.torchrun import Launch, launched
from tmkt_train.errors import RunError
from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training import ranks
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder

from ..conftest import make_recipe

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def environment(monkeypatch):
    """Set the variables of torchrun that are given, and no others."""

    def set_variables(**given):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"MASTER_ADDR": "here", "MASTER_PORT": "1"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        (dict(zip(NAMES, ("3", "4", "1", "here", "1"), strict=True)), Launch(3, 4, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}, Launch(1, 2, 1)),
    ],
)
def test_what_torchrun_sets(environment, given, expected):
    environment(**given)
    assert launched() == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"},
            (
                "environment: found RANK and WORLD_SIZE without MASTER_ADDR, expected all of RANK, WORLD_SIZE, "
                "MASTER_ADDR, MASTER_PORT; start with torchrun, or unset RANK and WORLD_SIZE"
            ),
        ),
        (
            {"RANK": "0"},
            (
                "environment: found RANK without WORLD_SIZE and MASTER_ADDR and MASTER_PORT, expected all of RANK, "
                "WORLD_SIZE, MASTER_ADDR, MASTER_PORT; start with torchrun, or unset RANK"
            ),
        ),
        (
            dict(zip(NAMES, ("2", "2", "0", "here", "1"), strict=True)),
            (
                "environment: found RANK=2, WORLD_SIZE=2, LOCAL_RANK=0, expected a rank from 0 below the number of "
                "ranks; use torchrun"
            ),
        ),
        (
            dict(zip(NAMES, ("one", "2", "0", "here", "1"), strict=True)),
            (
                "environment: found RANK=one, WORLD_SIZE=2, LOCAL_RANK=0, expected a rank from 0 below the number of "
                "ranks; use torchrun"
            ),
        ),
        (
            dict(zip(NAMES, ("0", "2", "0", "here", "1"), strict=True)),
            "recipes: started as one of 2 ranks, expected one process; start it without torchrun",
        ),
    ],
)
def test_half_an_environment_is_refused_in_one_line(environment, given, text):
    environment(**given)
    result = CliRunner().invoke(main, ["recipes"])
    assert (result.exit_code, result.stderr) == (1, f"error: {text}\n")


def test_each_rank_sees_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    assert ranks._take_gpu(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    with pytest.raises(RunError, match="rank 2 of this machine: found 2 GPUs, expected one for each rank; lower"):
        ranks._take_gpu(2)


@pytest.mark.slow
def test_torchrun_trains_stops_and_tells_once(environment, tiny_cache, tmp_path):
    environment(OMP_NUM_THREADS="1")
    recipe, out = tmp_path / "tiny.toml", tmp_path / "run"
    metrics = RunFolder(out).metrics.path
    recipe.write_text(recipe_text(make_recipe(train__epochs=200)))
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tmkt_train", "recipe", str(recipe)]
    with subprocess.Popen(
        [sys.executable, *words, "--cache", str(tiny_cache), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while process.poll() is None and not (metrics.is_file() and metrics.stat().st_size):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        shown, errors = process.communicate(timeout=120)
    assert shown.count("cpu, 1 thread, 2 ranks\n") == 1
    assert shown.count("epoch   1/200") == 1
    assert errors.count(f"stopped; resume with:\n  tmkt-train resume {out}\n") == 1
    assert "error:" not in errors
    assert load_checkpoint(RunFolder(out).last)["position"]["epoch"] >= 1
