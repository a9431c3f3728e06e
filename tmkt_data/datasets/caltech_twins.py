"""Caltech-101 photographs paired with simulated recordings: a stand-in for N-Caltech101 when only photographs exist."""

from __future__ import annotations

import re
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue, every_class_folder, find_folder, scan_folder, some
from tmkt_data.datasets.completeness import Declared, contiguous_ids
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.ncaltech101 import IMAGE_FOLDERS, PLACEMENT, SENSOR_SIZE
from tmkt_data.datasets.shown import NCALTECH101_CAMERA, camera_identity
from tmkt_data.datasets.source_table import Source, SourceTable, TableBuilder, sorted_sources
from tmkt_data.sample_ids import rows_of

INFO = DatasetInfo(
    name="caltech101-twins",
    title="Caltech-101 photographs + SIMULATED recordings of them, for the classes present",
    homes=(
        "images: https://data.caltech.edu/records/mzrjq-6wc02 (caltech-101.zip)",
        "recordings: simulated on the first prepare",
    ),
    license="images CC BY 4.0; recordings made by tmkt",
    tree=("ROOT/101_ObjectCategories/airplanes/image_0001.jpg   (any classes, any number of photographs)",),
    size=32,
    recipe="scnn_caltech_twins",
    canvas="tight",
    recorded_with=camera_identity(NCALTECH101_CAMERA),
)

_IMAGE = re.compile(r"image_[0-9]{4}\.jpg")
_RECORDING = re.compile(r"image_[0-9]{4}\.bin")
_LEAST_PHOTOGRAPHS = 3
_OTHER_CROPS = "Faces"
"""Other crops of the photographs in Faces_easy; including them would leak held-out faces into training."""


def list_photographs(root: Path | None, images: Path | None = None) -> tuple[tuple[str, ...], SourceTable, list[str]]:
    """List the photographs of the classes present.

    Args:
        root: Folder of the photographs, or a parent that contains it under a standard name.
        images: Folder of the photographs, if outside `root`.

    Returns:
        Class names, sorted bytewise; photographs, sorted bytewise by id; and one line for each exclusion.

    Raises:
        CatalogueError: There are no photographs, or photographs of only one class.
    """
    folder, looked = find_folder(images, root, IMAGE_FOLDERS, _IMAGE)
    if folder is None:
        raise missing_data(INFO, "images (class folders with image_0001.jpg)", looked)
    found = {name: scan_folder(folder / name, _IMAGE) for name in every_class_folder(folder)}
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
    """List photographs and their recordings simulated by `caltech_twins_source.write_twins`.

    Args:
        root: Folder of the photographs, or a parent of it.
        recordings: Folder of the simulated recordings.
        images: Folder of the photographs, if outside `root`.

    Returns:
        The catalogue, split like N-Caltech101; ids look like `"airplanes/image_0001"`.

    Raises:
        CatalogueError: A side is missing, or a photograph has no recording.
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
        recorded_with=INFO.recorded_with,
    )
