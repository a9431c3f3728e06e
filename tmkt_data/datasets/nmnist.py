"""N-MNIST recordings paired with the MNIST images that they were made from, as PNG files or IDX archives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue, class_folders, holds_classes, scan_folder, some
from tmkt_data.datasets.completeness import Declared, completeness, notes_of
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.look_alikes import alike_notes
from tmkt_data.datasets.source_table import NO_SOURCES, Source, SourceTable, TableBuilder
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import SensorSize
from tmkt_data.images.decode import read_idx
from tmkt_data.images.frames import Placement
from tmkt_data.storage.member_files import file_status, is_file

SENSOR_SIZE = SensorSize(34, 34)
PLACEMENT = Placement(3, 3, 28, 28)
"""The 28 x 28 image at the center of its path over the 34 x 34 sensor."""
DIGITS = tuple(str(digit) for digit in range(10))
PARTS = ("Train", "Test")

INFO = DatasetInfo(
    name="nmnist",
    title="N-MNIST + MNIST: 70000 recordings of handwritten digits, 10 classes",
    homes=(
        "recordings: https://www.garrickorchard.com/datasets/n-mnist (Mendeley record 468j46mzdv)",
        "images: http://yann.lecun.com/exdb/mnist (train-images-idx3-ubyte.gz and three more)",
    ),
    license="N-MNIST CC BY-SA 4.0; MNIST commonly given as CC BY-SA 3.0",
    tree=(
        "ROOT/N-MNIST/Train/5/00001.bin   and   ROOT/N-MNIST/Test/7/00001.bin",
        "ROOT/MNIST_png/Train/5/00001.png   or   ROOT/MNIST/raw/train-images-idx3-ubyte[.gz]",
    ),
    size=34,
    recipe="scnn_nmnist",
)

_EVENT_FOLDERS = ("N-MNIST", "NMNIST", "nmnist/N-MNIST", "nmnist")
_PNG_FOLDERS = ("MNIST_png", "nmnist/MNIST_png", "mnist_png", "MNIST-png")
_IDX_FOLDERS = (".", "MNIST/raw", "MNIST", "mnist", "raw", "nmnist/MNIST")
RECORDING_NAME = re.compile(r"[0-9]{5}\.(bin|bs2)")
IMAGE_NAME = re.compile(r"[0-9]{5}\.png")
_IDX_NAMES = {"Train": "train", "Test": "t10k"}
_NUM_RECORDINGS = {"Train": 60_000, "Test": 10_000}


def open_nmnist(root: Path | None = None, events: Path | None = None, images: Path | None = None) -> Catalogue:
    """List N-MNIST and MNIST.

    Args:
        root: Folder that contains both sides in one of the standard layouts.
        events: Folder of the recordings, if outside `root`.
        images: Folder of the images, if outside `root`.

    Returns:
        The catalogue; ids look like `"5/train-00001"`, with the 1-based image number in MNIST.

    Raises:
        CatalogueError: A side is missing, or IDX files are inconsistent.

    Source: Orchard et al., Frontiers in Neuroscience 9:437, 2015.
    """
    notes: list[str] = []
    event_folder, looked = _find_parts(events, root, _EVENT_FOLDERS, RECORDING_NAME)
    image_folder, looked_png = _find_parts(images, root, _PNG_FOLDERS, IMAGE_NAME)
    idx_folder, looked_idx = find_idx(images if images is not None else root, _IDX_FOLDERS)
    has_images = image_folder is not None or idx_folder is not None
    if event_folder is None:
        raise missing_data(INFO, "recordings (Train/5/00001.bin)", looked, found="images" if has_images else "")
    recordings = list_parts(event_folder, RECORDING_NAME, "recordings", notes) if has_images else NO_SOURCES
    if image_folder is not None:
        digits = list_parts(image_folder, IMAGE_NAME, "images", notes)
    elif idx_folder is not None:
        digits = list_idx(idx_folder, DIGITS)
    else:
        places = [*looked_png, *looked_idx]
        raise missing_data(INFO, "images (MNIST_png/Train/5/00001.png or IDX files)", places, found="recordings")
    for side, sources in (("recordings", recordings), ("images", digits)):
        notes += notes_of(*(_missing_numbers(sources, part, side) for part in PARTS))
    numbers = tuple(f"{part.lower()}-{number}" for part in PARTS for number in _numbers(part))
    return Catalogue(
        name=INFO.name,
        class_names=DIGITS,
        sensor_size=SENSOR_SIZE,
        placement=PLACEMENT,
        recordings=recordings,
        images=digits,
        motion="saccade",
        expected=sum(_NUM_RECORDINGS.values()),
        declared=Declared(numbers, numbers, has_classes=False),
        notes=tuple(notes),
    )


def list_parts(folder: Path, pattern: re.Pattern[str], side: str, notes: list[str]) -> SourceTable:
    """List `folder/{Train,Test}/<digit>/<number>`; exclusions are appended to `notes`.

    Raises:
        CatalogueError: A folder cannot be read.
    """
    builder = TableBuilder()
    ignored: list[str] = []
    for part in PARTS:
        for digit in class_folders(folder / part):
            if digit not in DIGITS:
                ignored.append(f"{part}/{digit}")
                notes += alike_notes(f"{side} of {part}", [digit], DIGITS)
                continue
            files, others = scan_folder(folder / part / digit, pattern)
            builder.extend(
                Source(f"{digit}/{part.lower()}-{stem}", int(digit), path, size, part.lower())
                for stem, path, size in files
            )
            ignored.extend(f"{part}/{digit}/{other}" for other in others)
    if ignored:
        notes.append(f"{side}: left out: {some(ignored)}")
    return builder.sorted_table()


def _missing_numbers(sources: SourceTable, part: str, side: str) -> str | None:
    # The digit of a missing number is unknown, so numbers are listed without it.
    found = {source.id.rpartition("-")[2] for source in sources if source.part == part.lower()}
    return completeness(found, _numbers(part), f"{side} of {part}")


def _numbers(part: str) -> list[str]:
    return [f"{number:05d}" for number in range(1, _NUM_RECORDINGS[part] + 1)]


def _find_parts(
    given: Path | None, root: Path | None, names: Sequence[str], holds: re.Pattern[str]
) -> tuple[Path | None, list[Path]]:
    """Find the folder whose Train or Test contains digit folders: `start`, or a standard location below it."""
    start = given if given is not None else root
    if start is None:
        return None, []
    looked = [start, *(start / name for name in names)]
    for folder in looked:
        if any(holds_classes(folder / part, holds) for part in PARTS):
            return folder, looked
    return None, looked


def find_idx(start: Path | None, names: Sequence[str]) -> tuple[Path | None, list[Path]]:
    """Find the folder with the four IDX files of MNIST or Fashion-MNIST.

    Args:
        start: Folder to search in and below; None finds nothing.
        names: Standard locations below it.

    Returns:
        The folder, or None; and every folder searched.
    """
    if start is None:
        return None, []
    looked = [start / name for name in names]
    for folder in looked:
        if any(_idx_file(folder, part, kind) for part in PARTS for kind in ("images-idx3", "labels-idx1")):
            return folder, looked
    return None, looked


def _idx_file(folder: Path, part: str, kind: str) -> Path | None:
    for dash in ("-", "."):
        for suffix in ("", ".gz"):
            path = folder / f"{_IDX_NAMES[part]}-{kind.replace('-idx', dash + 'idx')}-ubyte{suffix}"
            if is_file(path):
                return path
    return None


def list_idx(folder: Path, class_names: Sequence[str]) -> SourceTable:
    """List the images of the four IDX files; ids look like `"5/train-00001"`, counted from 1.

    Args:
        folder: Folder of the files; train or test may be missing.
        class_names: Names of the labels.

    Raises:
        CatalogueError: Labels or images are missing, their counts differ, or a label is out of range.
        ImageError: A file is damaged.
    """
    builder = TableBuilder()
    for part in PARTS:
        image_file = _idx_file(folder, part, "images-idx3")
        label_file = _idx_file(folder, part, "labels-idx1")
        if image_file is None and label_file is None:
            continue
        if image_file is None or label_file is None:
            raise CatalogueError(
                f"{image_file or label_file}: the file of the {'labels' if image_file else 'images'} is missing beside "
                "it; fetch both"
            )
        labels = read_idx(label_file, 1)
        num_images = read_idx(image_file, 3).shape[0]
        if num_images != len(labels):
            raise CatalogueError(f"{image_file.name}: {num_images} images, {label_file.name} has {len(labels)} labels")
        if len(labels) and labels.max() >= len(class_names):
            raise CatalogueError(
                f"{label_file.name}: label {labels.max()}, expected 0 to {len(class_names) - 1}; fetch it again"
            )
        num_bytes = file_status(image_file).num_bytes
        builder.extend(
            Source(
                f"{class_names[label]}/{part.lower()}-{number:05d}",
                int(label),
                str(image_file),
                num_bytes,
                part.lower(),
                number - 1,
            )
            for number, label in enumerate(labels.tolist(), 1)
        )
    return builder.sorted_table()
