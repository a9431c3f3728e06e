"""A tree of several blocks, the cache of an undisturbed build, and small blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
import trees
from conftest import build

from tmkt_data.prepare import plan as prepare_plan


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_plan, "BLOCK_BYTES", 1 << 21)


@pytest.fixture(scope="session")
def large_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.write_nmnist(tmp_path_factory.mktemp("large"), per_digit=60, test_per_digit=4, digits=10, seed=1)


@pytest.fixture(scope="session")
def uninterrupted(large_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("nmnist", large_root, tmp_path_factory.mktemp("whole") / "large.h5", size=48)
