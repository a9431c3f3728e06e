"""CIFAR10-DVS recordings and CIFAR-10 images, paired by class: no list maps recordings to images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue, class_folders, find_folder, scan_folder, some
from tmkt_data.datasets.completeness import Declared, completeness, count_note, notes_of
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.look_alikes import alike_notes
from tmkt_data.datasets.source_table import Source, SourceTable, sorted_sources
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.read import Reading
from tmkt_data.images.archives import read_cifar
from tmkt_data.images.frames import Placement

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SENSOR_SIZE = SensorSize(128, 128)
PER_CLASS = 1000

INFO = DatasetInfo(
    name="cifar10dvs",
    title="CIFAR10-DVS + CIFAR-10: 10000 recordings of pictures on a screen, 10 classes, paired by class",
    homes=(
        "recordings: https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671 (airplane.zip and nine more)",
        "images: https://www.cs.toronto.edu/~kriz/cifar.html (cifar-10-binary.tar.gz or cifar-10-python.tar.gz)",
    ),
    license="CIFAR10-DVS see figshare; CIFAR-10 none stated",
    tree=(
        "ROOT/CIFAR10DVS/airplane/cifar10_airplane_0.aedat   (or .aedat4, or .npz with t, x, y and p)",
        "ROOT/cifar-10-batches-bin/data_batch_1.bin   or   ROOT/cifar-10-batches-py/data_batch_1",
    ),
    size=48,
    recipe="scnn_cifar10dvs",
)
_EVENT_FOLDERS = (".", "CIFAR10DVS", "CIFAR10-DVS", "cifar10dvs", "extract", "events_np", "CIFAR10DVS/extract")
_IMAGE_FOLDERS = (".", "cifar-10-batches-bin", "cifar-10-batches-py", "cifar10", "CIFAR10")
_RECORDING = re.compile(r"cifar10_([a-z]+)_(\d{1,3})\.(aedat|aedat4|npz)")
_BATCH = re.compile(r"(data_batch_[1-5]|test_batch)(\.bin)?")
_NUM_IMAGES = 60_000


def open_cifar10dvs(root: Path | None = None, events: Path | None = None, images: Path | None = None) -> Catalogue:
    """List CIFAR10-DVS and CIFAR-10.

    Args:
        root: Folder that contains both sides in one of the standard layouts.
        events: Folder of the class folders, if outside `root`.
        images: Folder of the batches, if outside `root`.

    Returns:
        The catalogue; ids look like `"airplane/0007"` and `"airplane/train-00031"`. There are no twins. Recordings
        in AEDAT 2.0 are rotated upright with the orientation `cifar10dvs`. Test images of CIFAR-10 may be used for
        training, since no recording is known to show them.

    Raises:
        CatalogueError: A side is missing, a recording is duplicated, or a batch cannot be read.

    Source: Li et al., Frontiers in Neuroscience 11:309, 2017.
    """
    folder, looked = find_folder(events, root, _EVENT_FOLDERS, _RECORDING)
    start = images if images is not None else root
    batches = [] if start is None else _batches(start)
    if folder is None:
        what = "recordings (airplane/cifar10_airplane_0.aedat)"
        raise missing_data(INFO, what, looked, found="images" if batches else "")
    if not batches:
        places = [start / name for name in _IMAGE_FOLDERS] if start else []
        raise missing_data(INFO, "images (data_batch_1.bin)", places, found="recordings")
    notes: list[str] = []
    recordings = _recordings(folder, notes)
    pictures = sorted_sources(_images(batches))
    expected = [f"{name}/{number:04d}" for name in CLASS_NAMES for number in range(PER_CLASS)]
    notes += notes_of(
        completeness({source.id for source in recordings}, expected, "recordings"),
        count_note(len(pictures), _NUM_IMAGES, "images"),
    )
    return Catalogue(
        name=INFO.name,
        class_names=CLASS_NAMES,
        sensor_size=SENSOR_SIZE,
        placement=Placement(0, 0, *SENSOR_SIZE),
        recordings=recordings,
        images=pictures,
        split_layout="prefix",
        reading=Reading(orientation="cifar10dvs"),
        expected=len(expected),
        declared=Declared(expected, num_images=_NUM_IMAGES),
        notes=tuple(notes),
    )


def _recordings(folder: Path, notes: list[str]) -> SourceTable:
    found: dict[str, Source] = {}
    left_out: list[str] = []
    for name in class_folders(folder):
        if name not in CLASS_NAMES:
            notes += alike_notes("recordings", [name], CLASS_NAMES)
            continue
        files, others = scan_folder(folder / name, _RECORDING)
        left_out += [f"{name}/{other}" for other in others]
        for _, file, size in files:
            path = Path(file)
            match = _RECORDING.fullmatch(path.name)
            if match is None or match[1] != name:
                left_out.append(f"{name}/{path.name}")
                continue
            sample = f"{name}/{int(match[2]):04d}"
            if sample in found:
                raise CatalogueError(f"{path}: duplicate {sample}, also {found[sample].path.name}; remove one")
            found[sample] = Source(sample, CLASS_NAMES.index(name), str(path), size)
    if left_out:
        notes.append(f"recordings: left out: {some(left_out)}")
    return sorted_sources(found.values())


def _batches(start: Path) -> list[Path]:
    for name in _IMAGE_FOLDERS:
        if (start / name).is_dir():
            found = scan_folder(start / name, _BATCH)[0]
            if found:
                return [Path(file) for _, file, _ in found]
    return []


def _images(batches: list[Path]) -> Iterator[Source]:
    at = {"train": 0, "test": 0}
    for path in batches:
        _, labels = read_cifar(path)
        part = "test" if path.name.startswith("test") else "train"
        size = path.stat().st_size
        for item, label in enumerate(labels.tolist()):
            yield Source(f"{CLASS_NAMES[label]}/{part}-{at[part] + item:05d}", label, str(path), size, part, item)
        at[part] += len(labels)
