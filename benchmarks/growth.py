"""How time and memory grow with the number of recordings: prepare, open, first batch and epoch.

    python benchmarks/growth.py
    python benchmarks/growth.py --counts 1000 10000 --png growth.png --json growth.json

A tree of class folders with real ATIS files of 64 events is made for each count (a million takes 4 GB while it is
measured), prepared to T = 4, 16 x 16, and read once in random order, batches of 120, both sides. Each stage runs in a
process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timing import write_json

EVENTS, SIDE, CLASSES, IMAGES_PER_CLASS, BATCH = 64, 34, 100, 20, 120
STAGES = ("prepare", "open", "first batch", "epoch")


def make_tree(folder: Path, count: int) -> None:
    """Write recordings and images in class folders; each recording differs from the others."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    (folder / "tmkt.toml").write_text(f'sensor_size = [{SIDE}, {SIDE}]\ntwins = "none"\n')
    for label in range(CLASSES):
        events, images = folder / "events" / f"c{label:02d}", folder / "images" / f"c{label:02d}"
        events.mkdir(parents=True)
        images.mkdir(parents=True)
        for number in range(IMAGES_PER_CLASS):
            pixels = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"i{number:02d}.png")
        for number in range(label, count, CLASSES):
            t = np.sort(rng.integers(0, 100_000, EVENTS))
            x, y, p = rng.integers(0, [[SIDE], [SIDE], [2]], (3, EVENTS))
            data = np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8)
            (events / f"{number:07d}.bin").write_bytes(data.tobytes())


def prepare(folder: Path) -> None:
    """Prepare the tree."""
    from tmkt_data import PrepareSpec, open_catalogue, plan_prepare, prepare_cache

    spec = PrepareSpec(time_bins=4, size=16)
    for _ in prepare_cache(plan_prepare(open_catalogue("folder", folder), spec, folder / "cache.h5")):
        pass


def read(folder: Path, stage: str) -> float:
    """Open the cache; read a batch, or an epoch in random order. Return the seconds of the stage alone."""
    from tmkt_data import PairedFrames

    started = time.perf_counter()
    frames = PairedFrames(folder / "cache.h5", "train", pairing="same-class")
    opened = time.perf_counter()
    if stage == "open":
        return opened - started
    order = np.random.default_rng(0).permutation(len(frames))
    for at in range(0, BATCH if stage == "first batch" else len(order), BATCH):
        frames.read(order[at : at + BATCH])
    return time.perf_counter() - opened


def run_stage(folder: Path, stage: str) -> dict[str, float]:
    """Run one stage here; seconds and peak memory in MB."""
    started = time.perf_counter()
    taken = prepare(folder) if stage == "prepare" else read(folder, stage)
    seconds = time.perf_counter() - started if taken is None else taken
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}


def measure(count: int) -> dict[str, Any]:
    """Make a tree of a size and run every stage on it."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "tree"
        make_tree(folder, count)
        for stage in STAGES:
            command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[stage] = json.loads(done.stdout)
            print(
                f"{count:>9,}  {stage:<12} {found[stage]['seconds']:10.3f} s {found[stage]['mb']:8.0f} MB", flush=True
            )
        found["cache_mb"] = (folder / "cache.h5").stat().st_size / 1e6
    return found


def draw(rows: dict[int, dict[str, Any]], path: Path) -> None:
    """Draw time and memory against the count, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    counts = sorted(rows)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    panels = {"seconds": "time, s", "mb": "peak memory of the process, MB"}
    for axis, (key, label) in zip(axes, panels.items(), strict=True):
        for stage in STAGES:
            axis.loglog(counts, [rows[count][stage][key] for count in counts], marker="o", label=stage)
        axis.set_xlabel("recordings")
        axis.set_ylabel(label)
        axis.grid(which="major", alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, draw and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--png", type=Path, help="picture to draw")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage is not None:
        print(json.dumps(run_stage(given.folder, given.stage)))
        return
    rows = {count: measure(count) for count in given.counts}
    if given.png is not None:
        draw(rows, given.png)
    write_json(given.json, {str(count): row for count, row in rows.items()}, ("h5py",))


if __name__ == "__main__":
    main()
