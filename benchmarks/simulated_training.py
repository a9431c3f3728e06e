"""Train on simulated and real recordings of N-MNIST, test on real ones, and print a table.

    python benchmarks/simulated_training.py --real ../shared/data/nmnist --work simulated

The camera is fitted to the real training recordings by `tmkt-data simulate --like`, which then records their images.
Real recordings 1 to 400 of Train are for training, 401 to 600 and those of Test for the test. Events alone, the
settings of recipe `scnn_folder_event_only` at 34 x 34, equally many steps for every set, the last epoch. Of each set, a
tenth (at least one of a class) is for validation and another one for its own test. Runs that are there are kept.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image

from tmkt_data.cli.main import main as tmkt_data
from tmkt_train.cli.main import main as tmkt_train
from tmkt_train.training.trained import load_run

NUM_TRAINING = 400
FEW_PER_CLASS = 4
BATCH_SIZE = 32
SETTINGS = {
    "data.prepare.size": "34",
    "data.prepare.canvas": "fixed",
    "data.event_scale": "log1p",
    "data.prepare.test_share": "0.1",
    "train.batch_size": str(BATCH_SIZE),
    "train.select": "last",
    "train.num_threads": "1",
}


def main() -> int:
    """Run the experiment; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder with N-MNIST and MNIST_png")
    parser.add_argument("--work", type=Path, required=True, help="folder for recordings, caches and runs")
    parser.add_argument("--steps", type=int, default=32, help="steps of a training, rounded up to whole epochs")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    real, work = given.real.resolve(), given.work
    train = sorted((real / "N-MNIST" / "Train").glob("[0-9]/*.bin"), key=lambda file: file.stem)
    test = train[NUM_TRAINING:] + sorted((real / "N-MNIST" / "Test").glob("[0-9]/*.bin"))
    train = train[:NUM_TRAINING]
    simulated = simulate(real, train, work)
    few = [file for digit in "0123456789" for file in [f for f in train if f.parent.name == digit][:FEW_PER_CLASS]]
    rows = (
        (f"simulated, {len(simulated)}", simulated),
        (f"real, {len(few)}", few),
        (f"real, {len(few)}, and simulated", few + simulated),
        (f"real, {len(train)}", train),
    )
    for number, (name, files) in enumerate(rows):
        cache = prepare(work / f"set{number}", files)
        epochs = math.ceil(given.steps / math.ceil(0.8 * len(files) / BATCH_SIZE))
        found = [accuracy(run, test) for run in trained(cache, work, epochs, given.seeds)]
        values = " ".join(f"{value:.1%}" for value in found)
        print(f"{name:28} {np.mean(found):.1%} ± {np.std(found, ddof=1):.1%}   ({values})", flush=True)
    print(f"tested with {len(test)} real recordings")
    return 0


def simulate(real: Path, train: list[Path], work: Path) -> list[Path]:
    """Record the images of the training recordings with a camera that is fitted to these alone."""
    known, images, out = work / "known", work / "images", work / "simulated"
    for file in train:
        digit, stem = file.parent.name, file.stem
        picture = Path("MNIST_png", "Train", digit, f"{stem}.png")
        link(file, known / "N-MNIST" / "Train" / digit / file.name)
        link(real / picture, known / picture)
        # The 28 x 28 image at the center of the sensor, as the catalogue places it.
        padded = images / digit / f"{stem}.png"
        if not padded.exists():
            padded.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.pad(np.asarray(Image.open(real / picture)), 3)).save(padded)
    if not (out / "tmkt.toml").exists():
        run(tmkt_data, "simulate", images, out, "--like", known)
    return sorted((out / "events").glob("*/*.bin"))


def prepare(folder: Path, files: list[Path]) -> Path:
    """Prepare recordings as a dataset without images."""
    cache = folder.with_suffix(".h5")
    for file in files:
        kind = "simulated" if "simulated" in file.parts else "real"
        link(file, folder / "events" / file.parent.name / f"{kind}-{file.name}")
    (folder / "tmkt.toml").write_text('sensor_size = [34, 34]\nimages = ""\n')
    if not cache.exists():
        run(tmkt_data, "prepare", "folder", "--root", folder, "--size", 34, "--test-share", 0.1,
            "--allow-unpaired", "--out", cache)  # fmt: skip
    return cache


def trained(cache: Path, work: Path, epochs: int, seeds: int) -> Iterator[Path]:
    """Train, and yield the run folder of each seed."""
    changed = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    for seed in range(seeds):
        out = work / f"{cache.stem}-epochs{epochs}-seed{seed}"
        if not (out / "result.json").exists():
            run(tmkt_train, "train", "scnn_folder_event_only", "--seed", seed, *changed,
                "--set", f"train.epochs={epochs}", "--cache", cache, "--out", out)  # fmt: skip
        yield out


def accuracy(run: Path, test: list[Path]) -> float:
    """Return the share of real test recordings that a run classifies right."""
    network = load_run(run)
    return float(np.mean([network.predict(file).class_name == file.parent.name for file in test]))


def run(command: object, *words: object) -> None:
    """Run a command of tmkt in this process."""
    command(args=[str(word) for word in words], standalone_mode=False)  # type: ignore[operator]


def link(file: Path, at: Path) -> None:
    """Make a link to a file."""
    at.parent.mkdir(parents=True, exist_ok=True)
    if not at.exists():
        at.symlink_to(file.resolve())


if __name__ == "__main__":
    sys.exit(main())
