"""The embedded dataset: scikit-learn's handwritten digits paired with simulated recordings."""

from __future__ import annotations

from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.completeness import Declared
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.nmnist import DIGITS, IMAGE_NAME, PLACEMENT, RECORDING_NAME, SENSOR_SIZE, list_parts
from tmkt_data.datasets.shown import NMNIST_CAMERA, camera_identity
from tmkt_data.datasets.source_table import Source, SourceTable

INFO = DatasetInfo(
    name="digits",
    title="embedded: 1797 real handwritten digits + simulated recordings of them, 10 classes",
    homes=("scikit-learn ships the images (UCI optical digits); the recordings are simulated on the first prepare",),
    license="images CC BY 4.0 (UCI); recordings made by tmkt",
    tree=("ROOT/N-MNIST/Train/5/00001.bin", "ROOT/MNIST_png/Train/5/00001.png"),
    size=34,
    recipe="scnn_digits",
    recorded_with=camera_identity(NMNIST_CAMERA),
)

_NUM_DIGITS = 1797


def open_digits(root: Path) -> Catalogue:
    """List the digits written below `root` by `digits_source.write_digits`.

    Returns:
        The catalogue; ids look like `"5/00016"`, with the 1-based image number in scikit-learn's dataset.

    Raises:
        CatalogueError: The files are missing.
    """
    event_folder, image_folder = root / "N-MNIST", root / "MNIST_png"
    for folder in (event_folder, image_folder):
        if not folder.is_dir():
            raise missing_data(INFO, "files of the embedded set", [folder])
    notes: list[str] = []
    recordings = list_parts(event_folder, RECORDING_NAME, "recordings", notes)
    images = list_parts(image_folder, IMAGE_NAME, "images", notes)
    numbers = tuple(f"{number:05d}" for number in range(1, _NUM_DIGITS + 1))
    return Catalogue(
        name=INFO.name,
        class_names=DIGITS,
        sensor_size=SENSOR_SIZE,
        placement=PLACEMENT,
        recordings=SourceTable.of(_one_part(source) for source in recordings),
        images=SourceTable.of(_one_part(source) for source in images),
        motion="saccade",
        expected=_NUM_DIGITS,
        declared=Declared(numbers, numbers, has_classes=False),
        notes=tuple(notes),
        recorded_with=INFO.recorded_with,
    )


def _one_part(source: Source) -> Source:
    # The dataset has no test split of its own, so neither the id nor `part` names one.
    return source._replace(id=source.id.replace("/train-", "/"), part="")
