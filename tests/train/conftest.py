from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tmkt_data.datasets.digits import open_digits
from tmkt_data.datasets.digits_source import write_digits
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.spec import PrepareSpec
from tmkt_train.recipe.recipe import Recipe

TINY_SPEC = PrepareSpec(time_bins=4, size=16)
TINY_TABLES = {
    "name": "tiny",
    "title": "A tiny one",
    "seed": 3,
    "data": {"dataset": "digits", "event_scale": "log1p", "prepare": {"time_bins": 4, "size": 16}},
    "model": {"backbone": "scnn", "batch_norm": "fused"},
    "method": {"name": "tmkt"},
    "optim": {"learning_rate": 2e-3, "warmup_epochs": 1},
    "train": {
        "epochs": 3,
        "batch_size": 24,
        "drop_last": False,
        "crop_padding": 1,
        "device": "cpu",
        "num_threads": 1,
    },
}


def make_recipe(**changes: object) -> Recipe:
    tables = {name: dict(value) if isinstance(value, dict) else value for name, value in TINY_TABLES.items()}
    for key, value in changes.items():
        table, _, name = key.partition("__")
        if name:
            tables.setdefault(table, {})[name] = value
        else:
            tables[key] = value
    return Recipe.model_validate(tables)


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    for _ in write_digits(root, per_class=12):
        pass
    return root


@pytest.fixture(scope="session")
def tiny_cache(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("caches") / "digits-tiny.h5"
    for _ in prepare_cache(plan_prepare(open_digits(digits_root), TINY_SPEC, out)):
        pass
    return out


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
