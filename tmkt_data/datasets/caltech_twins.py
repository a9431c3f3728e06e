"""Caltech-101 photographs beside simulated recordings of them: N-Caltech101 for those who have photographs alone."""

from __future__ import annotations

import re
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue, class_folders, find_folder, scan_folder, some
from tmkt_data.datasets.completeness import Declared, contiguous_ids
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.ncaltech101 import IMAGE_FOLDERS, PLACEMENT, SENSOR_SIZE
from tmkt_data.datasets.source_table import Source, SourceTable, TableBuilder, sorted_sources
from tmkt_data.sample_ids import rows_of

INFO = DatasetInfo(
    name="caltech101-twins",
    title="Caltech-101 photographs + SIMULATED recordings of them, the classes that are there",
    homes=(
        "images: https://data.caltech.edu/records/mzrjq-6wc02 (caltech-101.zip)",
        "recordings: simulated on the first prepare",
    ),
    licence="images CC BY 4.0; recordings made by tmkt",
    tree=("ROOT/101_ObjectCategories/airplanes/image_0001.jpg   (any classes, any number of photographs)",),
    size=32,
    recipe="scnn_caltech_twins",
    canvas="tight",
)

_IMAGE = re.compile(r"image_\d{4}\.jpg")
_RECORDING = re.compile(r"image_\d{4}\.bin")
_LEAST_PHOTOGRAPHS = 3
_OTHER_CROPS = "Faces"
"""Other crops of the photographs of Faces_easy: a held-out face would be in training too."""


def list_photographs(root: Path | None, images: Path | None = None) -> tuple[tuple[str, ...], SourceTable, list[str]]:
    """List the photographs of the classes that are there.

    Args:
        root: Folder of the photographs, or one that holds it under a usual name.
        images: The folder itself, where it lies elsewhere.

    Returns:
        Names of the classes, bytewise; the photographs, bytewise by id; and what was left out, one line each.

    Raises:
        CatalogueError: There are no photographs, or those of one class alone.
    """
    folder, looked = find_folder(images, root, IMAGE_FOLDERS, _IMAGE)
    if folder is None:
        raise missing_data(INFO, "images (class folders with image_0001.jpg)", looked)
    found = {name: scan_folder(folder / name, _IMAGE) for name in class_folders(folder)}
    notes = [f"images: {_OTHER_CROPS} left out, other crops of Faces_easy"] if _OTHER_CROPS in found else []
    found.pop(_OTHER_CROPS, None)
    few = [name for name, (files, _) in found.items() if len(files) < _LEAST_PHOTOGRAPHS]
    if few:
        notes.append(f"images: classes of fewer than {_LEAST_PHOTOGRAPHS} photographs left out: {some(few)}")
    names = tuple(name for name in found if name not in few)
    if len(names) < 2:
        raise missing_data(INFO, f"two classes of {_LEAST_PHOTOGRAPHS} photographs or more", looked)
    others = [f"{name}/{other}" for name in names for other in found[name][1]]
    if others:
        notes.append(f"images: files left out: {some(others)}")
    photographs = sorted_sources(
        Source(f"{name}/{stem}", label, path, size)
        for label, name in enumerate(names)
        for stem, path, size in found[name][0]
    )
    return names, photographs, notes


def open_caltech_twins(root: Path | None, recordings: Path, images: Path | None = None) -> Catalogue:
    """List photographs and the recordings that `caltech_twins_source.write_twins` has simulated of them.

    Args:
        root: Folder of the photographs, or one that holds it.
        recordings: Folder of the simulated recordings.
        images: Folder of the photographs, where it lies elsewhere.

    Returns:
        The catalogue, with splits as those of N-Caltech101; ids such as `"airplanes/image_0001"`.

    Raises:
        CatalogueError: A side that is not there, or a photograph without its recording.
    """
    names, photographs, notes = list_photographs(root, images)
    builder = TableBuilder()
    for label, name in enumerate(names):
        files, _ = scan_folder(recordings / name, _RECORDING) if (recordings / name).is_dir() else ([], [])
        builder.extend(Source(f"{name}/{stem}", label, path, size) for stem, path, size in files)
    simulated = builder.sorted_table()
    missing = photographs.take(rows_of(photographs.ids, simulated.ids) < 0)
    if missing:
        raise missing_data(INFO, f"simulated recording of {some([source.id for source in missing])}", [recordings])
    notes.append(f"all {len(simulated)} recordings are SIMULATED, from the photographs: no camera has seen them")
    declared = contiguous_ids(source.id for source in photographs)
    return Catalogue(
        name=INFO.name,
        class_names=names,
        sensor_size=SENSOR_SIZE,
        placement=PLACEMENT,
        recordings=simulated,
        images=photographs,
        motion="saccade",
        split_layout="prefix",
        declared=Declared(declared, declared),
        notes=tuple(notes),
    )
