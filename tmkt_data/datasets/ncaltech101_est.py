"""N-Caltech101 as NumPy arrays in three splits, the layout of EST: `N-Caltech101/training/airplanes/*.npy`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tmkt_data.datasets.catalogue import class_folders, holds_classes, scan_folder, some
from tmkt_data.datasets.look_alikes import alike_notes
from tmkt_data.datasets.source_table import Source, SourceTable, sorted_sources
from tmkt_data.errors import CatalogueError, EventError
from tmkt_data.events.formats.npy import read_npy_header
from tmkt_data.events.read import Reading
from tmkt_data.spec import TimeUnit
from tmkt_data.storage.member_files import file_status, open_member

PARTS = {"training": "train", "validation": "val", "testing": "test"}
RECORDING_NAME = re.compile(r".+\.npy")
ROOTS = (".", "N-Caltech101", "N-Caltech101_EST", "EST/N-Caltech101")
_NUMBER = re.compile(r"image_([0-9]{4})")
_LONGEST_S = 10.0
"""Recordings last a third of a second; larger end times are not in seconds."""


def find_est(start: Path | None) -> Path | None:
    """Return the folder that contains the three splits, or None."""
    if start is None:
        return None
    for name in ROOTS:
        if holds_classes(start / name / "training", RECORDING_NAME):
            return start / name
    return None


def list_est(folder: Path, class_names: Sequence[str], notes: list[str]) -> tuple[SourceTable, Reading]:
    """List the three splits.

    Args:
        folder: Folder that contains `training`, `validation` and `testing`.
        class_names: Classes to include; a label is an index into it, independent of folder order.
        notes: Appended to: what was excluded or inferred.

    Returns:
        The recordings and their reader options. A recording whose name contains the number of a photograph is its
        twin; others have none.

    Raises:
        CatalogueError: A recording is in two splits, or its times are not in the unit of the others.

    Source: as uzh-rpg/rpg_event_representation_learning and EventCLIP read it; original not checked (inferred).
    """
    found: dict[str, Source] = {}
    left_out: list[str] = []
    for part, split in PARTS.items():
        for name in class_folders(folder / part):
            if name not in class_names:
                left_out.append(f"{part}/{name}")
                notes += alike_notes(f"recordings of {part}", [name], class_names)
                continue
            files, others = scan_folder(folder / part / name, RECORDING_NAME)
            left_out += [f"{part}/{name}/{other}" for other in others]
            for stem, path, size in files:
                number = _NUMBER.search(stem)
                sample = f"{name}/{number[0] if number else stem}"
                if sample in found:
                    raise CatalogueError(f"{path}: duplicate sample {sample}, also in {found[sample].path}; remove one")
                found[sample] = Source(sample, class_names.index(name), path, size, split)
    if left_out:
        notes.append(f"recordings: left out: {some(left_out)}")
    recordings = sorted_sources(found.values())
    unit = _unit_of(recordings)
    notes.append(f"recordings are arrays of x, y, t, p with times in {unit} (inferred from the last time of each)")
    return recordings, Reading(columns="xytp", unit=unit)


def _unit_of(recordings: Sequence[Source]) -> TimeUnit:
    """Infer the unit of most recordings.

    Raises:
        CatalogueError: A recording has another unit.
    """
    units = {source.path: unit for source in recordings if (unit := _unit_of_one(source.path)) is not None}
    odd: TimeUnit = "us" if 2 * list(units.values()).count("s") >= len(units) else "s"
    usual: TimeUnit = "s" if odd == "us" else "us"
    strange = [str(path) for path, unit in units.items() if unit == odd]
    if strange:
        raise CatalogueError(
            f"{strange[0]}: times in {odd}, expected {usual} as in {len(units) - len(strange)} other recordings "
            f"(inferred; {len(strange)} in all: {some([Path(path).name for path in strange])}); convert or remove it"
        )
    return usual


def _unit_of_one(path: Path) -> TimeUnit | None:
    """Infer a recording's unit from its last time; None if it is empty or unreadable, which is reported later."""
    try:
        with open_member(path) or path.open("rb") as file:
            shape, is_transposed, dtype = read_npy_header(file, file_status(path).num_bytes, path.name)
            if len(shape) != 2 or shape[1] != 4 or not shape[0] or dtype.kind not in "iuf":
                return None
            cell = 3 * shape[0] - 1 if is_transposed else 4 * shape[0] - 2
            file.seek(cell * dtype.itemsize, os.SEEK_CUR)
            last = float(np.frombuffer(file.read(dtype.itemsize), dtype)[0])
    except (OSError, EventError):
        return None
    return None if math.isnan(last) else "s" if last <= _LONGEST_S else "us"
