"""Train encoder x method x share of the recordings x seed for docs/results.md, and collect the accuracies.

    python docs/encoder_grid.py train nmnist --cache nmnist.h5 --out runs/grid
    python docs/encoder_grid.py collect runs/grid docs/measurements/encoders-nmnist.csv
    python docs/draw_results.py

`train` starts one `tmkt-train compare` for each encoder and share, all at once (`--at-once` fewer). Each of them goes
seed by seed, so that one stopped by `--seconds` leaves complete rounds; the same command again trains what is missing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_KEPT = (
    "test_accuracy",
    "last_epoch_test_accuracy",
    "val_accuracy",
    "last_epoch_val_accuracy",
    "best_epoch",
    "num_train",
)
_FEW = (0.03, 0.1)
_ENCODERS = ("repeat", "gradient", "saccade")
_METHODS = {
    "event-only": {"method.name": "event-only"},
    "images-only": {"method.name": "images-only"},
    "fine-tune": {"method.name": "fine-tune"},
    "kt": {"method.name": "kt"},
    "kt+tsm": {"method.name": "kt+tsm"},
    "tmkt": {},
    "tmkt by count": {"mix.ratio": "by-count"},
}
_SLOW_SECOND = {
    "fine-tune, second stage at a quarter of the rate": {
        "method.name": "fine-tune",
        "optim.second_stage_learning_rate": 1e-3,
    }
}
_WARM = {
    "kt after images": {"method.name": "kt", "train.image_epochs": 10},
    "tmkt by count after images": {"mix.ratio": "by-count", "train.image_epochs": 10},
}
_DISTILLED = {
    "kt after images, distilled": {"method.name": "kt", "train.image_epochs": 10, "loss.distillation": 1.0},
}
_ABLATIONS = {
    "tmkt": {},
    "without modality guidance": {"loss.modality": 0.0},
    "without ratio perception": {"loss.ratio": 0.0},
    "without learned coefficients": {"loss.coefficients": "off"},
    "without alignment and coefficients": {"loss.alignment": 0.0, "loss.coefficients": "off"},
    "without time-step mixup": {"mix.time_step": False},
    "ratio 0.1": {"mix.ratio": 0.1},
    "ratio 0.3": {"mix.ratio": 0.3},
    "ratio 0.9": {"mix.ratio": 0.9},
}


class Cell(NamedTuple):
    """One comparison: contenders by name with what they change, at one encoder and share."""

    encoder: str
    share: float
    contenders: dict[str, dict[str, Any]]


class Grid(NamedTuple):
    """What is trained on one dataset; `settings` are those of all runs."""

    recipe: str
    settings: tuple[str, ...]
    num_seeds: int
    cells: tuple[Cell, ...]


def _methods(encoder: str, *more: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the methods; the one without images needs only one encoder."""
    chosen = {name: change for part in (_METHODS, *more) for name, change in part.items()}
    return {name: change for name, change in chosen.items() if name != "event-only" or encoder == _ENCODERS[0]}


def _of_recipe(recipe: str, share: float, moved: str = "saccade", *settings: str) -> Grid:
    """Return what decides how a recipe shows images: the encoders at a share of the recordings."""
    by_count = {"tmkt by count": _METHODS["tmkt by count"]}
    cells = tuple(Cell(encoder, share, by_count) for encoder in ("repeat", "gradient", moved))
    length = "train.epochs=10", "train.steps_per_epoch=20", "train.batch_size=16"
    return Grid(recipe, (*length, *settings), 3, cells)


_DIGITS = _of_recipe("scnn_digits", 0.02)

GRIDS = {
    "nmnist": Grid(
        "scnn_nmnist",
        ("data.prepare.test_share=0.3", "train.epochs=10", "train.steps_per_epoch=20", "train.batch_size=16"),
        5,
        tuple(Cell(encoder, share, _methods(encoder, _SLOW_SECOND, _WARM)) for share in _FEW for encoder in _ENCODERS)
        + tuple(Cell("saccade", share, _ABLATIONS) for share in _FEW)
        + tuple(Cell(encoder, share, _methods(encoder)) for share in (0.3, 1.0) for encoder in _ENCODERS)
        + tuple(Cell("saccade", share, _DISTILLED) for share in _FEW)
        + (Cell("saccade", 0.3, _WARM),),
    ),
    "caltech": Grid(
        "scnn_folder",
        (
            "data.prepare.test_share=0.25",
            "model.backbone=vgg-snn",
            "train.precision=bfloat16",
            "optim.learning_rate=1e-3",
            "train.epochs=8",
            "train.steps_per_epoch=50",
            "train.batch_size=32",
        ),
        3,
        tuple(
            Cell(encoder, 0.1, {name: one for name, one in _methods(encoder).items() if name in kept})
            for kept in (("event-only", "fine-tune", "kt", "tmkt"),)
            for encoder in _ENCODERS
        ),
    ),
    "caltech-scnn": Grid(
        "scnn_folder",
        (
            "data.prepare.test_share=0.25",
            "data.prepare.size=32",
            "train.epochs=10",
            "train.steps_per_epoch=20",
            "train.batch_size=32",
        ),
        3,
        (
            Cell("saccade", 0.1, _methods("saccade", _WARM)),
            Cell("repeat", 0.1, {name: _METHODS[name] for name in ("event-only", "kt", "tmkt by count")}),
        ),
    ),
    "digits": _DIGITS._replace(
        cells=tuple(cell._replace(contenders={"tmkt": {}} | cell.contenders) for cell in _DIGITS.cells)
        + tuple(Cell(encoder, 1.0, {"tmkt": {}}) for encoder in ("repeat", "saccade"))
    ),
    "fashion": _of_recipe("scnn_fashion", 0.02),
    "twins": _of_recipe("scnn_caltech_twins", 0.1, "saccade", "data.prepare.test_share=0.25"),
    "folder": _of_recipe("scnn_folder", 0.1, "microsaccade", "data.prepare.test_share=0.25", "data.prepare.size=32"),
}


def main() -> int:
    """Train or collect; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("grid", choices=GRIDS)
    training.add_argument("--cache", type=Path, required=True)
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--camera", type=Path, help="TOML file that `tmkt-data pairs --fit-motion` printed")
    training.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE of all runs")
    training.add_argument("--cell", type=int, action="append", help="number of a comparison; can be repeated")
    training.add_argument("--seeds", type=int, help="number of seeds")
    training.add_argument("--seconds", type=float, help="stop after this time")
    training.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="comparisons at a time")
    collecting = commands.add_parser("collect")
    collecting.add_argument("out", type=Path)
    collecting.add_argument("csv", type=Path)
    choosing = commands.add_parser("photos", help="copy up to 40 photographs of each class but the background")
    choosing.add_argument("classes", type=Path)
    choosing.add_argument("out", type=Path)
    given = parser.parse_args()
    if given.command == "photos":
        copy_photos(given.classes, given.out)
        return 0
    if given.command == "collect":
        write(collect(given.out), given.csv)
        return 0
    return train(GRIDS[given.grid], given)


def copy_photos(classes: Path, out: Path) -> None:
    """Copy the first 40 photographs of each class folder but `BACKGROUND_Google`, in the order of their names."""
    for path in sorted(classes.glob("*/*.jpg")):
        folder = out / path.parent.name
        if path.parent.name != "BACKGROUND_Google" and len(list(folder.glob("*"))) < 40:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)


def train(grid: Grid, given: argparse.Namespace) -> int:
    """Run the comparisons, `at_once` at a time; returns 1 if one did not end well."""
    until = time.monotonic() + (given.seconds or float("inf"))
    chosen = range(len(grid.cells)) if given.cell is None else given.cell
    waiting = [_command(grid, number, given) for number in chosen][::-1]
    running: list[subprocess.Popen[bytes]] = []
    codes: list[int] = []
    while waiting or running:
        while waiting and len(running) < given.at_once and time.monotonic() < until:
            words, log = waiting.pop()
            running.append(subprocess.Popen(words, stdout=log.open("wb"), stderr=subprocess.STDOUT))
        if time.monotonic() > until:
            waiting.clear()
            for one in running:
                one.send_signal(signal.SIGTERM)
            codes += [one.wait() for one in running]
            break
        codes += [one.returncode for one in running if one.poll() is not None]
        running = [one for one in running if one.returncode is None]
        time.sleep(0.2)
    return int(any(codes))


def _command(grid: Grid, number: int, given: argparse.Namespace) -> tuple[list[str], Path]:
    """Write the recipes of a cell; return its command, and the file for its output."""
    cell = grid.cells[number]
    folder = given.out / f"{number:02}-{cell.encoder}-{cell.share}"
    folder.mkdir(parents=True, exist_ok=True)
    camera = given.camera.read_text() if given.camera and cell.encoder == "saccade" else ""
    recipes = []
    for rank, (name, changes) in enumerate(cell.contenders.items()):
        recipes.append(folder / f"r{rank}.toml")
        recipes[-1].write_text(
            _recipe(
                grid.recipe, rank, name, {"mix.ratio": 0.5} | changes | {"data.image_encoding": cell.encoder}, camera
            )
        )
    settings = [word for one in (*grid.settings, *given.settings) for word in ("--set", one)]
    seeds = str(given.seeds or grid.num_seeds)
    words = [sys.executable, "-m", "tmkt_train", "compare", *map(str, recipes), "--seeds", seeds]
    words += ["--event-share", str(cell.share), "--cache", str(given.cache), "--out", str(folder / "runs"), *settings]
    return words, folder / "log"


def _recipe(base: str, rank: int, title: str, changes: dict[str, Any], camera: str) -> str:
    lines = [f"extends = {base!r}", f"name = 'r{rank}'", f"title = {title!r}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in changes.items()]
    return "\n".join([*lines, *(["[data.camera]", camera] if camera else [])]) + "\n"


def collect(out: Path) -> list[dict[str, Any]]:
    """Return one row for each finished run: encoder, share, contender, seed and accuracies."""
    return sorted(_rows(out), key=lambda row: (row["cell"], row["contender"], row["seed"]))


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows as CSV, accuracies to five digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["cell", "encoder", "share", "contender", "seed", *_KEPT], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{one:.5f}" if "accuracy" in key else one for key, one in row.items()})


def _rows(out: Path) -> Iterator[dict[str, Any]]:
    for path in out.glob("*/runs/**/result.json"):
        cell = path.relative_to(out).parts[0]
        number, encoder, share = cell.split("-", 2)
        result = json.loads(path.read_text())
        row = {"cell": int(number), "encoder": encoder, "share": float(share), "contender": result["title"]}
        yield row | {"seed": result["seed"]} | {key: result[key] for key in _KEPT if key in result}


if __name__ == "__main__":
    sys.exit(main())
