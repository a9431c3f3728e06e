"""DVS128 Gesture: recordings of eleven gestures, sliced from long files; it has no images."""

from __future__ import annotations

import re
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue, class_folders, scan_folder, some
from tmkt_data.datasets.completeness import count_note, notes_of
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.source_table import NO_SOURCES, Source, sorted_sources
from tmkt_data.errors import CatalogueError, EventError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.read import NOTHING_GIVEN, Reading
from tmkt_data.events.slices import read_slices, slices_path
from tmkt_data.files import decode_text, read_bytes
from tmkt_data.images.frames import Placement

CLASS_NAMES = (
    "hand_clapping", "right_hand_wave", "left_hand_wave", "right_arm_clockwise", "right_arm_counter_clockwise",
    "left_arm_clockwise", "left_arm_counter_clockwise", "arm_roll", "air_drums", "air_guitar", "other_gestures",
)  # fmt: skip
SENSOR_SIZE = SensorSize(128, 128)
INFO = DatasetInfo(
    name="dvsgesture",
    title="DVS128 Gesture: 1464 recordings of 11 gestures; no images, for event-only training",
    homes=("recordings: https://research.ibm.com/interactive/dvsgesture (DvsGesture.tar.gz)",),
    license="CC BY 4.0",
    tree=(
        "ROOT/DvsGesture/user01_led.aedat and user01_led_labels.csv, trials_to_train.txt, trials_to_test.txt",
        "or as tonic unpacks it: ROOT/ibmGestureTrain/user01_led/0.npy and ROOT/ibmGestureTest/...",
    ),
    size=48,
    recipe="scnn_dvsgesture",
)
_ROOTS = (".", "DvsGesture", "DVSGesture", "DVS128Gesture", "dvsgesture", "DVSGesture/DvsGesture", "extract/DvsGesture")
_TRIALS = {"trials_to_train.txt": "train", "trials_to_test.txt": "test"}
_ARRAY_PARTS = {"ibmGestureTrain": "train", "ibmGestureTest": "test"}
_ARRAY = re.compile(r"(\d{1,2})\.npy")
_NUM_SLICES, _NUM_ARRAYS = 1464, 1341


def open_dvsgesture(root: Path | None = None, events: Path | None = None, images: Path | None = None) -> Catalogue:
    """List DVS128 Gesture.

    Args:
        root: Folder of the dataset, or a parent.
        events: The same.
        images: Must be None: the dataset has none; use `tmkt-data prepare --allow-unpaired`.

    Returns:
        The catalogue; ids look like `"air_drums/user01_led-08"`, ending in the row of the CSV. The published trial
        lists define the train and test splits. Classes in the CSV count from 1.

    Raises:
        CatalogueError: The dataset, a listed recording or its CSV is missing, or a class is not in 1 to 11.

    Source: Amir et al., CVPR 2017.
    """
    if images is not None:
        raise CatalogueError("dvsgesture: has no images; omit --images")
    start = events if events is not None else root
    folders = [] if start is None else [start / name for name in _ROOTS]
    notes: list[str] = []
    for folder in folders:
        if any((folder / name).is_file() for name in _TRIALS):
            return _catalogue(_slices(folder, notes), _NUM_SLICES, notes, is_arrays=False)
        if any((folder / name).is_dir() for name in _ARRAY_PARTS):
            return _catalogue(_arrays(folder, notes), _NUM_ARRAYS, notes, is_arrays=True)
    raise missing_data(INFO, "recordings (trials_to_train.txt and user01_led.aedat)", folders)


def _catalogue(recordings: list[Source], expected: int, notes: list[str], *, is_arrays: bool) -> Catalogue:
    notes += notes_of(count_note(len(recordings), expected, "recordings"))
    return Catalogue(
        name=INFO.name,
        class_names=CLASS_NAMES,
        sensor_size=SENSOR_SIZE,
        placement=Placement(0, 0, *SENSOR_SIZE),
        recordings=sorted_sources(recordings),
        images=NO_SOURCES,
        kind="files" if is_arrays else "slices",
        reading=Reading(columns="xypt", unit="ms") if is_arrays else NOTHING_GIVEN,
        expected=expected,
        notes=tuple(notes),
    )


def _slices(folder: Path, notes: list[str]) -> list[Source]:
    sources: list[Source] = []
    for name, part in _TRIALS.items():
        if not (folder / name).is_file():
            notes.append(f"recordings: {name} is missing, and with it the {part} part")
            continue
        data = read_bytes(folder / name, limit=1 << 20, error=CatalogueError)
        lines = decode_text(data, errors="replace").split()
        for line in lines:
            path = folder / Path(line).name
            if not re.fullmatch(r"[\w.-]+\.aedat", line) or not path.is_file():
                raise CatalogueError(f"{folder / name}: lists {line[:60]!r}, which is missing; fetch it again")
            sources += _rows(path, part)
    return sources


def _rows(path: Path, part: str) -> list[Source]:
    try:
        rows = read_slices(slices_path(path))
    except EventError as broken:
        raise CatalogueError(str(broken)) from None
    size = path.stat().st_size
    for item, row in enumerate(rows, start=1):
        if not 1 <= row.number <= len(CLASS_NAMES):
            raise CatalogueError(f"{slices_path(path).name}, row {item}: class {row.number}, expected 1 to 11")
    return [
        Source(f"{CLASS_NAMES[row.number - 1]}/{path.stem}-{item + 1:02d}", row.number - 1, str(path), size, part, item)
        for item, row in enumerate(rows)
    ]


def _arrays(folder: Path, notes: list[str]) -> list[Source]:
    sources: list[Source] = []
    left_out: list[str] = []
    for name, part in _ARRAY_PARTS.items():
        for user in class_folders(folder / name):
            files, others = scan_folder(folder / name / user, _ARRAY)
            left_out += [f"{name}/{user}/{other}" for other in others]
            for stem, path, size in files:
                if int(stem) >= len(CLASS_NAMES):
                    left_out.append(f"{name}/{user}/{Path(path).name}")
                    continue
                sources.append(Source(f"{CLASS_NAMES[int(stem)]}/{user}", int(stem), path, size, part))
    if left_out:
        notes.append(f"recordings: left out: {some(left_out)}")
    return sources
