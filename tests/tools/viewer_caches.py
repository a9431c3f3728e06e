"""Small caches that tests of the viewer look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trees
from PIL import Image

from tmkt_data import PrepareSpec, default_spec, open_catalogue, plan_prepare, prepare_cache
from tmkt_data.datasets.folder import open_folder
from tmkt_data.events.events import SensorSize, validate_events
from tmkt_data.events.write import write_events

STEPS = 5
KINDS: dict[str, dict[str, Any]] = {"counts": {}, "voxels": {"representation": "voxel"}, "baked": {"bake": "poisson"}}
HOSTILE = "x<!--<script>", "<"
"""Class names that a page must not read as markup; a file `script>` in the second makes the id `</script>`."""


def write_nmnist_caches(folder: Path, names: Sequence[str] = tuple(KINDS)) -> dict[str, Path]:
    """Prepare one small tree as counts, as voxel grids, and with baked spikes, or as some of these."""
    root = trees.write_nmnist(folder, per_digit=6, test_per_digit=1, digits=2)
    found = {name: root / f"{name}.h5" for name in names}
    for name, path in found.items():
        spec = dataclasses.replace(default_spec("nmnist"), time_bins=STEPS, **KINDS[name])
        for _ in prepare_cache(plan_prepare(open_catalogue("nmnist", root), spec, path)):
            pass
    return found


def write_folder_cache(folder: Path) -> tuple[Path, str]:
    """Prepare a folder with names of markup; return the cache and a part of a sample id."""
    random = np.random.default_rng(0)
    (folder / "tmkt.toml").write_text("sensor_size = [40, 30]\n")
    for label, name in enumerate(HOSTILE):
        for side in ("events", "images"):
            (folder / side / name).mkdir(parents=True)
        for number in range(8):
            stem = f"script>{number}"
            t = np.sort(random.integers(0, 100_000, 300))
            x, y = (random.integers(0, side, 300).astype(np.uint16) for side in (40, 30))
            events = validate_events(t, x, y, random.random(300) < 0.5, sensor_size=SensorSize(40, 30))
            write_events(folder / "events" / name / f"{stem}.npz", events)
            Image.new("RGB", (40, 30), (20 * number, 90 * label, 60)).save(folder / "images" / name / f"{stem}.png")
    path = folder / "own.h5"
    for _ in prepare_cache(plan_prepare(open_folder(folder), PrepareSpec(size=16, time_bins=STEPS), path)):
        pass
    return path, "</script>"
