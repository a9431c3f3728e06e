"""The command `tmkt-train predict`."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tmkt_data.cli.console import fail, system_problem
from tmkt_data.cli.reader_options import own_words
from tmkt_data.errors import EventError, printable
from tmkt_train.cli.display import RUN
from tmkt_train.cli.early import require_run
from tmkt_train.cli.text import percent

if TYPE_CHECKING:
    from tmkt_train.training.trained import Prediction, TrainedRun

_SLICED = ("dvsgesture", "nomniglot")
"""Datasets whose files hold many samples."""
_SENSOR_ADVICE = re.compile(r"; where all do, give --sensor-size .*$")
_OPTION = re.compile(r"(\(|check )--(?=\w)")


@click.command()
@RUN
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per recording.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table with the probability of every class.")
def predict(run: Path, files: tuple[Path, ...], as_json: bool, as_csv: bool) -> None:
    """Classify recordings with a finished run.

    FILE is a recording in any format that tmkt reads, or a folder of them. Each is prepared as the recordings that the
    run was trained on. Printed are the class and its probability after all time steps, and after each of them.

    A file that cannot be read is named; the others are classified, and the exit code is 1.
    """
    if as_json and as_csv:
        raise click.UsageError("found --json together with --csv, expected one of them")
    from tmkt_train.training.export_folder import is_exported

    if not is_exported(run):
        require_run(run)
    from tmkt_train.training.trained import load_run

    trained, problems = load_run(run), list[str]()
    for note in trained.notes:
        click.echo(f"note: {note}", err=True)
    found = _classify(trained, [path for file in files for path in _recordings(file)], problems)
    if as_json:
        _show_json(found)
    elif as_csv:
        _show_csv(found, trained.class_names)
    else:
        _show(found)
    if problems:
        fail("\nerror: ".join(problems))


def _recordings(path: Path) -> list[Path]:
    try:
        is_folder = path.is_dir()
    except OSError:
        # Told when it is read, so that the others are classified.
        is_folder = False
    if not is_folder:
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not found:
        fail(f"{path}: an empty folder, expected recordings")
    return found


def _classify(trained: TrainedRun, paths: list[Path], problems: list[str]) -> Iterator[tuple[Path, Prediction]]:
    """Yield each path with its prediction; lines that say why there is none are appended to `problems`."""
    for path in paths:
        try:
            with own_words():
                found = trained.predict(path)
            _note_slices(trained, path)
            yield path, found
        except EventError as error:
            problems.append(printable(_without_options(str(error))))
        except OSError as error:
            problems.append(printable(system_problem(error)))


def _without_options(problem: str) -> str:
    """Name in the error of a reader what helps here: this command has none of its options.

    Example:
        >>> _without_options("a.npy: 4 columns without names; give their order, columns='txyp' (--columns txyp)")
        "a.npy: 4 columns without names; give their order, columns='txyp' (tmkt-data convert --columns txyp)"
    """
    text = _SENSOR_ADVICE.sub(", as the run was trained on", problem)
    return _OPTION.sub(r"\1tmkt-data convert --", text)


def _note_slices(trained: TrainedRun, path: Path) -> None:
    from tmkt_data.events.slices import read_slices, slices_path

    table = slices_path(path)
    if trained.recipe.data.dataset not in _SLICED or not table.is_file():
        return
    num_slices = len(read_slices(table))
    if num_slices > 1:
        click.echo(
            f"note: {printable(str(path))}: holds {num_slices} samples, listed in {table.name}, and is classified as "
            "one; cut it into a file each first",
            err=True,
        )


def _show(found: Iterator[tuple[Path, Prediction]]) -> None:
    for path, prediction in found:
        steps = " ".join(f"{100 * confidence:.0f}" for confidence in prediction.confidences)
        click.echo(f"{printable(str(path))}: {prediction.class_name}, {percent(float(prediction.confidences[-1]))}")
        click.echo(f"    after each time step, %: {steps}")


def _show_json(found: Iterator[tuple[Path, Prediction]]) -> None:
    for path, prediction in found:
        record = {"file": str(path), "class": prediction.class_name, "label": prediction.label}
        record |= {"confidences": prediction.confidences.tolist()}
        click.echo(json.dumps(record | {"probabilities": prediction.probabilities[-1].tolist()}))


def _show_csv(found: Iterator[tuple[Path, Prediction]], class_names: tuple[str, ...]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "predicted", *class_names])
    for path, prediction in found:
        probabilities = (f"{value:.6f}" for value in prediction.probabilities[-1])
        writer.writerow([str(path), prediction.class_name, *probabilities])
