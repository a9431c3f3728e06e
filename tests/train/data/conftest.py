from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import trees

from tmkt_data import Cache, default_spec
from tmkt_data.datasets.registry import open_catalogue
from tmkt_data.events.events import validate_events
from tmkt_data.events.formats.atis import write_atis
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare

SPECS = {
    "bytes": {"time_bins": 3, "size": 13, "bake": "poisson"},
    "overflow": {"time_bins": 2, "size": 4, "bake": "repeat"},
    "halves": {"time_bins": 3, "size": 12, "resize": "bilinear", "bake": "saccade"},
    "voxels": {"time_bins": 3, "size": 12, "representation": "voxel"},
    "fine": {"time_bins": 40, "size": 9, "canvas": "fixed", "image_scale": 2, "polarity": "inverted"},
    "fine-voxels": {"time_bins": 4, "size": 7, "image_scale": 3, "polarity": "inverted", "representation": "voxel"},
}


@pytest.fixture(scope="session")
def stored_caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cache]:
    """Caches of each type that event frames are stored as, with counts above 255, and with finer images."""
    root = trees.write_nmnist(tmp_path_factory.mktemp("stored"), per_digit=18, test_per_digit=6, digits=4)
    for number, path in enumerate(sorted(root.glob("N-MNIST/*/*/*.bin"))[::3]):
        _add_dense_corner(path, number)
    return {name: _prepare(root, name, choices) for name, choices in SPECS.items()}


def _add_dense_corner(path: Path, number: int) -> None:
    """Replace a recording by one with 3000 events, most of them in one corner."""
    draw = np.random.default_rng(number)
    t = np.sort(draw.integers(0, 300_000, 3000))
    x, y = draw.integers(0, 34, (2, 3000)) // np.where(draw.random(3000) < 0.8, 5, 1)
    write_atis(path, validate_events(t, x, y, draw.random(3000) < 0.7))


def _prepare(root: Path, name: str, choices: dict[str, object]) -> Cache:
    path = root / f"{name}.h5"
    spec = dataclasses.replace(default_spec("nmnist"), **choices)
    for _ in prepare_cache(plan_prepare(open_catalogue("nmnist", root), spec, path)):
        pass
    return Cache(path)
