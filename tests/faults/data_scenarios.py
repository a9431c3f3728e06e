"""Scenarios of `tmkt-data`: prepare in several ways, compress, unpack, simulate, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.data import trees
from tests.faults.scenarios import Scenario

_BUILDING = ("cache.h5.building",)
_CLASSES = ("clap", "jump", "wave")


def _small_blocks() -> None:
    from tmkt_data.prepare import plan

    plan.BLOCK_BYTES = 1 << 10


def _folder(inputs: Path) -> None:
    """Write a dataset of 60 recordings and 60 images, in three classes and two formats."""
    from tmkt_data.events.events import validate_events
    from tmkt_data.events.write import write_events

    rng = np.random.default_rng(14)
    (inputs / "tmkt.toml").write_text("sensor_size = [34, 34]\n")
    for name in _CLASSES:
        for number in range(20):
            t = np.sort(rng.integers(0, 300_000, 200))
            x, y = rng.integers(0, 34, 200), rng.integers(0, 34, 200)
            path = inputs / "events" / name / f"{number:02d}{('.bin', '.npz')[number % 2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_events(path, validate_events(t, x, y, rng.random(200) < 0.5))
            trees.random_picture(inputs / "images" / name / f"{number:02d}.png", rng, 34, 34, "L")


def _prepare(name: str, *options: str, **more: Any) -> Scenario:
    def command(inputs: Path, out: Path) -> list[str]:
        words = ["tmkt-data", "prepare", "folder", "--root", str(inputs), "--out", str(out / "cache.h5")]
        return [*words, "--size", "16", *options]

    return Scenario(name, command, inputs=_folder, unfinished=_BUILDING, set_up=_small_blocks, **more)


SCENARIOS = [
    _prepare("prepare", "--workers", "1"),
    _prepare("prepare-threads", "--workers", "4"),
    _prepare("prepare-voxel", "--workers", "1", "--representation", "voxel"),
]
