"""ES-ImageNet: recordings simulated from ImageNet photographs, matched by the name of the photograph."""

from __future__ import annotations

import io
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue, class_folders, scan_folder, some
from tmkt_data.datasets.completeness import Declared, count_note, notes_of
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.source_table import NO_SOURCES, Source, SourceTable, TableBuilder, sorted_sources
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.read import Reading
from tmkt_data.files import decode_text, read_bytes
from tmkt_data.images.frames import Placement
from tmkt_data.sample_ids import bytes_of, first_disorder, rows_of
from tmkt_data.storage.member_files import is_file, is_folder

SENSOR_SIZE = SensorSize(224, 224)
NUM_CLASSES = 1000
PARTS = {"train": "train", "val": "test"}
INFO = DatasetInfo(
    name="esimagenet",
    title="ES-ImageNet + ImageNet: 1.3 million simulated recordings, 1000 classes",
    homes=(
        "recordings: https://github.com/lyh983012/ES-imagenet-master (25 rar parts)",
        "images: https://image-net.org (ILSVRC 2012, after registration)",
    ),
    license="ES-ImageNet see its page; ImageNet for research, its own terms",
    tree=(
        "ROOT/ES-imagenet-0.18/train/class0/n01440764_10026.npz, .../val/..., trainlabel.txt and vallabel.txt",
        "ROOT/ILSVRC2012/train/n01440764/n01440764_10026.JPEG",
    ),
    size=64,
    recipe="scnn_esimagenet",
    time_bins=8,
)
_ROOTS = (".", "ES-imagenet-0.18", "ES-ImageNet", "ES-imagenet", "esimagenet")
_IMAGE_ROOTS = ("ILSVRC2012/train", "ImageNet/train", "imagenet/train", "ILSVRC/Data/CLS-LOC/train", "train", ".")
_RECORDING = re.compile(r".+\.npz")
_IMAGE = re.compile(r"n[0-9]{8}_[0-9]+\.JPE?G", re.IGNORECASE)
_CLASS = re.compile(r"class(\d{1,3})")
_SYNSET = re.compile(r"(n[0-9]{8})_[0-9]+")
_NUM_RECORDINGS = 1_306_916
_MAX_LABELS = 1 << 28
_MAX_NAME = 255
_CENTER, _CROP = 254, 16


def open_esimagenet(root: Path | None = None, events: Path | None = None, images: Path | None = None) -> Catalogue:
    """List ES-ImageNet and the ImageNet photographs that it was made from.

    Args:
        root: Folder that contains both sides.
        events: Folder of `train`, `val` and the two lists, if outside `root`.
        images: Folder of the synset folders, if outside `root`; if neither has them, the catalogue has no images.

    Returns:
        The catalogue; ids look like `"0000/n01440764_10026"`. The published `val` is the test split. Each recording is
        centered in 256 x 256 by the two sizes in its row of the lists and cropped to 224 x 224, as in the authors'
        loader.

    Raises:
        CatalogueError: The recordings are missing, or a list cannot be read.

    Source: Lin et al., Frontiers in Neuroscience 15:726582, 2021; layout as in their loader, not checked against the
        original (inferred).
    """
    start = events if events is not None else root
    folders = [] if start is None else [start / name for name in _ROOTS]
    base = next((folder for folder in folders if is_file(folder / "trainlabel.txt")), None)
    if base is None:
        raise missing_data(INFO, "recordings (trainlabel.txt and train/class0/...npz)", folders)
    notes: list[str] = []
    recordings = _recordings(base, notes)
    if not recordings:
        raise missing_data(INFO, "recordings (train/class0/n01440764_10026.npz)", [base])
    synsets = _synsets(recordings, notes)
    photographs = _photographs(images, root, synsets, notes)
    notes += notes_of(count_note(len(recordings), _NUM_RECORDINGS, "recordings"))
    return Catalogue(
        name=INFO.name,
        class_names=tuple(f"{label:04d}" for label in range(NUM_CLASSES)),
        sensor_size=SENSOR_SIZE,
        placement=Placement(0, 0, *SENSOR_SIZE),
        recordings=recordings,
        images=photographs,
        reading=Reading(columns="yxt", unit="us"),
        expected=_NUM_RECORDINGS,
        declared=Declared(num_images=_NUM_RECORDINGS),
        is_centered=True,
        notes=tuple(notes),
    )


def center_shift(a: int, b: int) -> tuple[int, int]:
    """Return the column and row shift that centers a recording of `a` rows and `b` columns."""
    return (_CENTER - b) // 2 - _CROP, (_CENTER - a) // 2 - _CROP


def _recordings(base: Path, notes: list[str]) -> SourceTable:
    builder = TableBuilder()
    left_out: list[str] = []
    hidden: list[str] = []
    for part, split in PARTS.items():
        sizes = read_sizes(base / f"{part}label.txt")
        folders = [(name, base / part / name) for name in class_folders(base / part)]
        for name, folder in (*folders, ("", base / part)):
            if not is_folder(folder):
                continue
            files, others = scan_folder(folder, _RECORDING)
            hidden += [f"{part}/{name}/{other}" for other in others if other.startswith(".")]
            label = _CLASS.fullmatch(name)
            for (stem, file, num_bytes), row in zip(
                files, sizes.of([f"{stem}.npz" for stem, _, _ in files]), strict=True
            ):
                if row is None or (label is not None and int(label[1]) != row[0]):
                    left_out.append(f"{part}/{name}/{stem}.npz")
                    continue
                shift = center_shift(row[1], row[2])
                builder.append(Source(f"{row[0]:04d}/{stem}", row[0], file, num_bytes, split, shift=shift))
    if left_out:
        notes.append(f"recordings: left out, as no list names them so: {some(left_out)}")
    if hidden:
        notes.append(f"recordings: {len(hidden)} hidden files left out: {some(hidden)}")
    table = builder.sorted_table()
    again = first_disorder(table.ids)
    if again is not None:
        first, second = table[again - 1], table[again]
        raise CatalogueError(f"{second.path}: duplicate sample {second.id}, also {first.path}; remove one")
    return table


class SizeList(NamedTuple):
    """A list of the dataset: class and size of over a million files.

    Attributes:
        names: File names in UTF-8, sorted, shape (N,).
        rows: Class, rows and columns of each, shape (N, 3), int16.
    """

    names: NDArray[np.bytes_]
    rows: NDArray[np.int16]

    def of(self, names: Sequence[str]) -> list[tuple[int, int, int] | None]:
        """Return class, rows and columns of files; None for files not in the list."""
        at = rows_of(bytes_of(names), self.names).tolist()
        return [None if row < 0 else tuple(self.rows[row].tolist()) for row in at]


def read_sizes(path: Path) -> SizeList:
    """Read a list of the dataset; empty if it does not exist. For duplicate files, the last row counts.

    Raises:
        CatalogueError: The list cannot be read, or a row is malformed.
    """
    names: list[bytes] = []
    rows = array("h")
    data = read_bytes(path, limit=_MAX_LABELS, error=CatalogueError) if is_file(path) else b""
    if not data.isascii():
        data = decode_text(data, errors="surrogateescape").encode("utf-8", "surrogateescape")
    for number, line in enumerate(io.BytesIO(data), start=1):
        parts = line.split()
        if not parts:
            continue
        numbers = [int(text) for text in parts[1:] if text.isdigit() and len(text) < 6]
        if (
            len(parts) != 4
            or len(parts[0]) > _MAX_NAME
            or len(numbers) != 3
            or numbers[0] >= NUM_CLASSES
            or max(numbers[1:]) > 256
        ):
            found = line.decode("utf-8", errors="replace").strip()[:60]
            raise CatalogueError(f"{path.name}, row {number}: found {found!r}, expected file, class and two sizes")
        names.append(parts[0])
        rows.extend(numbers)
    table = np.array(names, bytes) if names else np.zeros(0, "S1")
    # The last of several equal names comes first, where `rows_of` finds it.
    order = np.lexsort((-np.arange(len(table)), table))
    return SizeList(table[order], np.frombuffer(rows, np.int16).reshape(-1, 3)[order])


def _synsets(recordings: SourceTable, notes: list[str]) -> dict[str, int]:
    """Return the class of each synset from the recording names, excluding synsets with two classes."""
    found: dict[str, int] = {}
    torn: set[str] = set()
    for source in recordings:
        synset = _SYNSET.search(source.id)
        if synset is not None and found.setdefault(synset[1], source.label) != source.label:
            torn.add(synset[1])
    if torn:
        notes.append(f"images: synsets whose recordings have two classes left out: {some(sorted(torn))}")
    return {name: label for name, label in found.items() if name not in torn}


def _photographs(images: Path | None, root: Path | None, synsets: dict[str, int], notes: list[str]) -> SourceTable:
    starts = [images] if images is not None else ([] if root is None else [root / name for name in _IMAGE_ROOTS])
    for folder in starts:
        names = [name for name in class_folders(folder) if name in synsets]
        if names:
            return _list_photographs(folder, names, synsets)
    if images is not None:
        raise missing_data(INFO, "images (n01440764/n01440764_10026.JPEG)", [images], found="recordings")
    notes.append("images: none found; give their folder with --images, or --allow-unpaired")
    return NO_SOURCES


def _list_photographs(folder: Path, names: list[str], synsets: dict[str, int]) -> SourceTable:
    return sorted_sources(
        Source(f"{synsets[name]:04d}/{stem}", synsets[name], file, size)
        for name in names
        for stem, file, size in scan_folder(folder / name, _IMAGE)[0]
    )
