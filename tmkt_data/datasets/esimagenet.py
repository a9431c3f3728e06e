"""ES-ImageNet: recordings that software made of ImageNet photographs, matched by the photograph's name."""

from __future__ import annotations

import re
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue, class_folders, scan_folder, some
from tmkt_data.datasets.completeness import count_note, notes_of
from tmkt_data.datasets.declared import Declared
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.source_table import NO_SOURCES, Source, SourceTable, sorted_sources
from tmkt_data.encode import Placement
from tmkt_data.errors import CatalogueError
from tmkt_data.events import SensorSize
from tmkt_data.io.files import read_bytes
from tmkt_data.io.read import Reading

SENSOR_SIZE = SensorSize(224, 224)
NUM_CLASSES = 1000
PARTS = {"train": "train", "val": "test"}
INFO = DatasetInfo(
    name="esimagenet",
    title="ES-ImageNet + ImageNet: 1.3 million recordings made by software, 1000 classes",
    homes=(
        "recordings: https://github.com/lyh983012/ES-imagenet-master (25 rar parts)",
        "images: https://image-net.org (ILSVRC 2012, after registration)",
    ),
    licence="ES-ImageNet see its page; ImageNet for research, its own terms",
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
_IMAGE = re.compile(r"n\d{8}_\d+\.JPE?G", re.IGNORECASE)
_CLASS = re.compile(r"class(\d{1,3})")
_SYNSET = re.compile(r"(n\d{8})_\d+")
_NUM_RECORDINGS = 1_306_916
_MAX_LABELS = 1 << 28
_CENTER, _CROP = 254, 16


def open_esimagenet(root: Path | None = None, events: Path | None = None, images: Path | None = None) -> Catalogue:
    """List ES-ImageNet and the photographs of ImageNet that it was made of.

    Args:
        root: Folder that holds both sides.
        events: Folder of `train`, `val` and the two lists, where it lies elsewhere.
        images: Folder of the synset folders, where it lies elsewhere; without any the catalogue has no images.

    Returns:
        The catalogue; ids are such as `"0000/n01440764_10026"`. The makers' `val` is the test part. Each recording is
        moved to the middle of 256 x 256 by the two sizes in its row of the lists, and cut to 224 x 224, as the
        authors' loader does.

    Raises:
        CatalogueError: The recordings are not there, or a list that cannot be read.

    Source: Lin et al., Frontiers in Neuroscience 15:726582, 2021; the layout as their loader has it, no original was
        at hand (inferred).
    """
    start = events if events is not None else root
    folders = [] if start is None else [start / name for name in _ROOTS]
    base = next((folder for folder in folders if (folder / "trainlabel.txt").is_file()), None)
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
    """Return what moves a recording of `a` rows and `b` columns to the middle: for columns, then rows."""
    return (_CENTER - b) // 2 - _CROP, (_CENTER - a) // 2 - _CROP


def _recordings(base: Path, notes: list[str]) -> SourceTable:
    sources: dict[str, Source] = {}
    left_out: list[str] = []
    hidden: list[str] = []
    for part, split in PARTS.items():
        sizes = read_sizes(base / f"{part}label.txt")
        folders = [(name, base / part / name) for name in class_folders(base / part)]
        for name, folder in (*folders, ("", base / part)):
            if not folder.is_dir():
                continue
            files, others = scan_folder(folder, _RECORDING)
            hidden += [f"{part}/{name}/{other}" for other in others if other.startswith(".")]
            for stem, file, num_bytes in files:
                path = Path(file)
                label = _CLASS.fullmatch(name)
                row = sizes.get(path.name)
                if row is None or (label is not None and int(label[1]) != row[0]):
                    left_out.append(f"{part}/{name}/{path.name}")
                    continue
                sample = f"{row[0]:04d}/{stem}"
                if sample in sources:
                    raise CatalogueError(f"{path}: sample {sample} is {sources[sample].path} too; remove one")
                sources[sample] = Source(sample, row[0], path, num_bytes, split, shift=center_shift(row[1], row[2]))
    if left_out:
        notes.append(f"recordings: left out, as no list names them so: {some(left_out)}")
    if hidden:
        notes.append(f"recordings: {len(hidden)} hidden files left out: {some(hidden)}")
    return sorted_sources(sources.values())


def read_sizes(path: Path) -> dict[str, tuple[int, int, int]]:
    """Read a list of the set: class, rows and columns of each file; none where the list is not there.

    Raises:
        CatalogueError: The list cannot be read, or a row that is none.
    """
    if not path.is_file():
        return {}
    data = read_bytes(path, limit=_MAX_LABELS, error=CatalogueError)
    rows: dict[str, tuple[int, int, int]] = {}
    for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        numbers = [int(text) for text in parts[1:] if text.isascii() and text.isdigit() and len(text) < 6]
        if len(parts) != 4 or len(numbers) != 3 or numbers[0] >= NUM_CLASSES or max(numbers[1:]) > 256:
            raise CatalogueError(f"{path.name}, row {number}: found {line[:60]!r}, expected file, class and two sizes")
        rows[parts[0]] = (numbers[0], numbers[1], numbers[2])
    return rows


def _synsets(recordings: SourceTable, notes: list[str]) -> dict[str, int]:
    """Return the class of each synset, from the names of the recordings; one with two classes is left out."""
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
