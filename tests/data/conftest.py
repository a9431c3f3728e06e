from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trees

from tmkt_data.cache.verify import verify_cache
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare


def build(name: str, root: Path, out: Path, workers: int = 1, **choices: object) -> Path:
    plan = plan_prepare(open_catalogue(name, root), dataclasses.replace(default_spec(name), **choices), out)
    for _ in prepare_cache(plan, workers=workers):
        pass
    # Whatever is prepared here is also an example of a cache that means something.
    for _ in verify_cache(plan.path):
        pass
    return plan.path


@pytest.fixture(scope="session")
def nmnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.write_nmnist(tmp_path_factory.mktemp("nmnist"), per_digit=12, test_per_digit=3, digits=4)


@pytest.fixture(scope="session")
def nmnist_cache(nmnist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("nmnist", nmnist_root, tmp_path_factory.mktemp("caches") / "nmnist.h5")
