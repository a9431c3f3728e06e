"""N-Caltech101 recordings paired with the Caltech-101 photographs that they were made from."""

from __future__ import annotations

import re
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue, class_folders, find_folder, scan_folder, some
from tmkt_data.datasets.completeness import Declared, completeness, count_note, notes_of
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.look_alikes import alike_notes
from tmkt_data.datasets.ncaltech101_est import find_est, list_est
from tmkt_data.datasets.source_table import Source, SourceTable, TableBuilder
from tmkt_data.events.events import SensorSize
from tmkt_data.events.read import NOTHING_GIVEN
from tmkt_data.images.frames import Placement
from tmkt_data.spec import ClassSet

BACKGROUND = "BACKGROUND_Google"
SENSOR_SIZE = SensorSize(240, 180)
PLACEMENT = Placement(-4, -5, 242, 182)
"""The photograph is scaled to fit 242 x 182, and recordings are cropped to 234 x 172 or a little more in its middle.

Fitted to the events of Faces_easy/image_0001, the one real recording at hand (inferred): to 0.2 % in scale and half a
pixel in place, see docs/simulator.md.
"""

INFO = DatasetInfo(
    name="ncaltech101",
    title="N-Caltech101 + Caltech-101: 8709 recordings of photographs, 101 classes",
    homes=(
        "recordings: https://www.garrickorchard.com/datasets/n-caltech101 (Mendeley record cy6cvx3ryv)",
        "images: https://data.caltech.edu/records/mzrjq-6wc02 (caltech-101.zip)",
    ),
    license="CC BY 4.0, both",
    tree=(
        "ROOT/Caltech101/airplanes/image_0001.bin   (or N-Caltech101/{training,validation,testing}/airplanes/*.npy)",
        "ROOT/101_ObjectCategories/airplanes/image_0001.jpg   (or caltech101/101_ObjectCategories/...)",
    ),
    size=48,
    recipe="vggsnn_ncaltech",
    canvas="tight",
    image_decode="scaled",
)

_EVENT_FOLDERS = (
    "Caltech101",
    "N-Caltech101/Caltech101",
    "ncaltech101/Caltech101",
    "N-Caltech101",
    "NCALTECH101/Caltech101",
)
IMAGE_FOLDERS = (
    "101_ObjectCategories",
    "caltech101/101_ObjectCategories",
    "caltech-101/101_ObjectCategories",
    "Caltech-101/101_ObjectCategories",
    "Caltech101/101_ObjectCategories",
)
_RECORDING = re.compile(r"image_[0-9]{4}\.bin")
_IMAGE = re.compile(r"image_[0-9]{4}\.jpg")

NUM_RECORDINGS: dict[str, int] = {
    "BACKGROUND_Google": 467,
    "Faces_easy": 435,
    "Leopards": 200,
    "Motorbikes": 798,
    "accordion": 55,
    "airplanes": 800,
    "anchor": 42,
    "ant": 42,
    "barrel": 47,
    "bass": 54,
    "beaver": 46,
    "binocular": 33,
    "bonsai": 128,
    "brain": 98,
    "brontosaurus": 43,
    "buddha": 85,
    "butterfly": 91,
    "camera": 50,
    "cannon": 43,
    "car_side": 123,
    "ceiling_fan": 47,
    "cellphone": 59,
    "chair": 62,
    "chandelier": 107,
    "cougar_body": 47,
    "cougar_face": 69,
    "crab": 73,
    "crayfish": 70,
    "crocodile": 50,
    "crocodile_head": 51,
    "cup": 57,
    "dalmatian": 67,
    "dollar_bill": 52,
    "dolphin": 65,
    "dragonfly": 68,
    "electric_guitar": 75,
    "elephant": 64,
    "emu": 53,
    "euphonium": 64,
    "ewer": 85,
    "ferry": 67,
    "flamingo": 67,
    "flamingo_head": 45,
    "garfield": 34,
    "gerenuk": 34,
    "gramophone": 51,
    "grand_piano": 99,
    "hawksbill": 100,
    "headphone": 42,
    "hedgehog": 54,
    "helicopter": 88,
    "ibis": 80,
    "inline_skate": 31,
    "joshua_tree": 64,
    "kangaroo": 86,
    "ketch": 114,
    "lamp": 61,
    "laptop": 81,
    "llama": 78,
    "lobster": 41,
    "lotus": 66,
    "mandolin": 43,
    "mayfly": 40,
    "menorah": 87,
    "metronome": 32,
    "minaret": 76,
    "nautilus": 55,
    "octopus": 35,
    "okapi": 39,
    "pagoda": 47,
    "panda": 38,
    "pigeon": 45,
    "pizza": 53,
    "platypus": 34,
    "pyramid": 57,
    "revolver": 82,
    "rhino": 59,
    "rooster": 49,
    "saxophone": 40,
    "schooner": 63,
    "scissors": 39,
    "scorpion": 84,
    "sea_horse": 57,
    "snoopy": 35,
    "soccer_ball": 64,
    "stapler": 45,
    "starfish": 86,
    "stegosaurus": 59,
    "stop_sign": 64,
    "strawberry": 35,
    "sunflower": 85,
    "tick": 49,
    "trilobite": 86,
    "umbrella": 75,
    "watch": 239,
    "water_lilly": 37,
    "wheelchair": 59,
    "wild_cat": 34,
    "windsor_chair": 56,
    "wrench": 39,
    "yin_yang": 60,
}
"""Recordings per class of the published dataset, in label order: 8709 in all, 8242 without background."""


def open_ncaltech101(
    root: Path | None = None,
    events: Path | None = None,
    images: Path | None = None,
    class_set: ClassSet = "all",
) -> Catalogue:
    """List N-Caltech101 and Caltech-101.

    Args:
        root: Folder that contains both sides in one of the standard layouts.
        events: Folder of the recordings, if outside `root`.
        images: Folder of the photographs, if outside `root`.
        class_set: `all` 101 classes, or the 100 `objects` without the background class.

    Returns:
        The catalogue. Recordings are `.bin` files, or the arrays of `ncaltech101_est` with their three splits. Labels
        follow the published class list, whatever is on disk. The photographs of `Faces` are excluded: they are other
        crops of those in `Faces_easy`.

    Raises:
        CatalogueError: A side is missing.

    Source: Orchard et al., Frontiers in Neuroscience 9:437, 2015; Fei-Fei et al., 2004.
    """
    event_folder, looked_events = find_folder(events, root, _EVENT_FOLDERS, _RECORDING)
    est_folder = find_est(events if events is not None else root) if event_folder is None else None
    image_folder, looked_images = find_folder(images, root, IMAGE_FOLDERS, _IMAGE)
    if event_folder is None and est_folder is None:
        raise missing_data(
            INFO,
            "recordings (class folders with image_0001.bin)",
            looked_events,
            found="images" if image_folder else "",
        )
    if image_folder is None:
        raise missing_data(INFO, "images (class folders with image_0001.jpg)", looked_images, found="recordings")
    names = tuple(name for name in NUM_RECORDINGS if class_set == "all" or name != BACKGROUND)
    notes: list[str] = []
    reading = NOTHING_GIVEN
    if event_folder is not None:
        recordings = _list_side(event_folder, names, _RECORDING, "recordings", notes)
    elif est_folder is not None:
        recordings, reading = list_est(est_folder, names, notes)
    photographs = _list_side(image_folder, names, _IMAGE, "images", notes)
    expected = tuple(f"{name}/image_{number:04d}" for name in names for number in range(1, NUM_RECORDINGS[name] + 1))
    ids = {source.id for source in recordings}
    notes += notes_of(
        completeness(ids, expected, "recordings")
        if event_folder is not None
        else count_note(len(ids), len(expected), "recordings"),
        completeness({source.id for source in photographs}, expected, "images"),
    )
    return Catalogue(
        name=INFO.name,
        class_names=names,
        sensor_size=SENSOR_SIZE,
        placement=PLACEMENT,
        recordings=recordings,
        images=photographs,
        motion="saccade",
        split_layout="prefix" if event_folder is not None else "drawn",
        reading=reading,
        expected=len(expected),
        declared=Declared(expected if event_folder is not None or ids <= set(expected) else (), expected),
        notes=tuple(notes),
    )


def _list_side(
    folder: Path, names: tuple[str, ...], pattern: re.Pattern[str], side: str, notes: list[str]
) -> SourceTable:
    present = class_folders(folder)
    strangers = [name for name in present if name not in names]
    if strangers:
        notes.append(f"{side}: folders left out: {some(strangers)}")
        notes += alike_notes(side, strangers, names)
    builder = TableBuilder()
    ignored: list[str] = []
    for label, name in enumerate(names):
        if name not in present:
            continue
        files, others = scan_folder(folder / name, pattern)
        builder.extend(Source(f"{name}/{stem}", label, path, size) for stem, path, size in files)
        ignored.extend(f"{name}/{other}" for other in others)
    if ignored:
        notes.append(f"{side}: files left out: {some(ignored)}")
    return builder.sorted_table()
