"""Scenarios of `tmkt-data`: prepare in several ways, compress, unpack, simulate, convert."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.data import trees
from tests.faults.scenarios import Scenario, digest_of_bytes

_BUILDING = ("cache.h5.building",)
_CLASSES = ("clap", "jump", "wave")


def _small_blocks() -> None:
    from tmkt_data.pairs import class_fit
    from tmkt_data.prepare import plan

    plan.BLOCK_BYTES = 1 << 9
    # Nothing is written any more when the pairing is looked at, which takes longer than all before.
    class_fit.LEAST_PER_CLASS = 1000


def _folder(inputs: Path) -> None:
    """Write a dataset of 24 recordings and 24 images, in three classes and two formats."""
    from tmkt_data.events.events import validate_events
    from tmkt_data.events.write import write_events

    inputs.mkdir(exist_ok=True)
    rng = np.random.default_rng(14)
    (inputs / "tmkt.toml").write_text("sensor_size = [34, 34]\n")
    for name in _CLASSES:
        for number in range(8):
            t = np.sort(rng.integers(0, 300_000, 200))
            x, y = rng.integers(0, 34, 200), rng.integers(0, 34, 200)
            path = inputs / "events" / name / f"{number:02d}{('.bin', '.npz')[number % 2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_events(path, validate_events(t, x, y, rng.random(200) < 0.5))
            trees.random_picture(inputs / "images" / name / f"{number:02d}.png", rng, 34, 34, "L")


def _bad_folder(inputs: Path) -> None:
    """Write the dataset with one recording and one image that no machine can read."""
    _folder(inputs)
    for path in (inputs / "events" / "jump" / "04.bin", inputs / "images" / "wave" / "05.png"):
        path.write_bytes(path.read_bytes()[:37])


def _archive(inputs: Path) -> None:
    """Write the dataset as an archive."""
    _folder(inputs / "tree")
    shutil.make_archive(str(inputs / "own"), "zip", inputs / "tree")
    shutil.rmtree(inputs / "tree")


def _cache(inputs: Path, *, is_compressed: bool = False) -> None:
    from tmkt_data.cache.compress import compress_cache
    from tmkt_data.datasets.folder import open_folder
    from tmkt_data.prepare.build import prepare_cache
    from tmkt_data.prepare.plan import plan_prepare
    from tmkt_data.spec import PrepareSpec

    _folder(inputs / "tree")
    whole = inputs / "whole.h5"
    for _ in prepare_cache(plan_prepare(open_folder(inputs / "tree"), PrepareSpec(size=16), whole)):
        pass
    if is_compressed:
        for _ in compress_cache(whole, inputs / "small.h5"):
            pass


def _prepare(name: str, *options: str, **more: Any) -> Scenario:
    def command(inputs: Path, out: Path) -> list[str]:
        words = ["tmkt-data", "prepare", "folder", "--root", str(inputs), "--out", str(out / "cache.h5")]
        return [*words, "--size", "16", *options]

    return Scenario(name, command, **{"inputs": _folder, "unfinished": _BUILDING, "set_up": _small_blocks} | more)


def _other_cache(_: Path, start: Path) -> None:
    """Write what `--force` replaces."""
    (start / "cache.h5").write_bytes(b"an older cache")


def _recording(inputs: Path) -> None:
    trees.random_recording(inputs / "a.bin", np.random.default_rng(3), 34, 34, 3000)


SCENARIOS = [
    _prepare("prepare", "--workers", "1"),
    _prepare("prepare-threads", "--workers", "4"),
    _prepare("prepare-voxel", "--workers", "1", "--representation", "voxel"),
    _prepare("prepare-bake", "--workers", "1", "--bake", "poisson"),
    _prepare("prepare-skip-bad", "--workers", "1", "--skip-bad", inputs=_bad_folder),
    _prepare("prepare-force", "--workers", "1", "--force", before=_other_cache),
    Scenario(
        "prepare-archive",
        lambda inputs, out: [
            *("tmkt-data", "prepare", "folder", "--root", str(inputs / "own.zip"), "--size", "16"),
            *("--workers", "1", "--out", str(out / "cache.h5")),
        ],
        inputs=_archive,
        finished=lambda out: {name: digest for name, digest in digest_of_bytes(out).items() if name == "cache.h5"},
        set_up=_small_blocks,
    ),
    Scenario(
        "compress",
        lambda inputs, out: ["tmkt-data", "compress", str(inputs / "whole.h5"), "--out", str(out / "small.h5")],
        inputs=_cache,
    ),
    Scenario(
        "decompress",
        lambda inputs, out: [
            *("tmkt-data", "compress", "--undo", str(inputs / "small.h5"), "--out", str(out / "whole.h5")),
        ],
        inputs=partial(_cache, is_compressed=True),
    ),
    Scenario(
        "convert",
        lambda inputs, out: ["tmkt-data", "convert", str(inputs / "a.bin"), str(out / "a.npz")],
        inputs=_recording,
    ),
    Scenario(
        "preview",
        lambda inputs, out: ["tmkt-data", "preview", str(inputs / "whole.h5"), "--out", str(out / "sheet.png")],
        inputs=_cache,
    ),
]
