"""Fashion-MNIST images paired with simulated recordings: harder than digits, and no camera needed."""

from __future__ import annotations

from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.completeness import Declared
from tmkt_data.datasets.info import DatasetInfo, missing_data
from tmkt_data.datasets.nmnist import PLACEMENT, SENSOR_SIZE, find_idx, list_idx
from tmkt_data.datasets.shown import NMNIST_CAMERA, camera_identity
from tmkt_data.errors import CatalogueError

CLASS_NAMES = (
    "t-shirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot",
)  # fmt: skip
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the four files."""
INFO = DatasetInfo(
    name="fashion",
    title="Fashion-MNIST: 70000 images of clothing + SIMULATED recordings of them, 10 classes",
    homes=(
        "images: apt install dataset-fashion-mnist, or https://github.com/zalandoresearch/fashion-mnist (data/fashion)",
        "recordings: simulated while the cache is prepared",
    ),
    license="images MIT; recordings made by tmkt",
    tree=("ROOT/train-images-idx3-ubyte.gz and the three others   (or below fashion-mnist, FashionMNIST/raw)",),
    size=34,
    recipe="scnn_fashion",
    recorded_with=camera_identity(NMNIST_CAMERA),
)
_FOLDERS = (".", "fashion-mnist", "FashionMNIST/raw", "fashion", "data/fashion", "raw")
_NUM_IMAGES = 70_000


def open_fashion(root: Path | None = None, events: Path | None = None, images: Path | None = None) -> Catalogue:
    """List Fashion-MNIST.

    Args:
        root: Folder of the four IDX files, or a parent; None uses the folder of Debian's package.
        events: Must be None: recordings are simulated.
        images: The same as `root`.

    Returns:
        The catalogue; ids look like `"bag/train-00007"`. Every image has a recording, simulated when it is read.

    Raises:
        CatalogueError: The files are missing or inconsistent.

    Source: Xiao et al., arXiv 1708.07747, 2017.
    """
    if events is not None:
        raise CatalogueError("fashion: its recordings are simulated; omit --events")
    start = images if images is not None else root
    folder, looked = find_idx(start if start is not None else DEBIAN_FOLDER, _FOLDERS)
    if folder is None:
        raise missing_data(INFO, "images (train-images-idx3-ubyte.gz)", looked)
    pictures = list_idx(folder, CLASS_NAMES)
    notes = [f"all {len(pictures)} recordings are SIMULATED, from the images: no camera has seen them"]
    if len(pictures) != _NUM_IMAGES:
        notes.append(f"{len(pictures)} of {_NUM_IMAGES} images are here")
    return Catalogue(
        name=INFO.name,
        class_names=CLASS_NAMES,
        sensor_size=SENSOR_SIZE,
        placement=PLACEMENT,
        recordings=pictures,
        images=pictures,
        motion="saccade",
        kind="simulated",
        expected=_NUM_IMAGES,
        declared=Declared(num_images=_NUM_IMAGES),
        notes=tuple(notes),
        recorded_with=INFO.recorded_with,
    )
