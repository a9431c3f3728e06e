"""A folder of images as a dataset of its own: a simulated recording of each image, beside a copy of it.

The tree is what `tmkt-data prepare folder` reads:

    OUT/simulate.toml                what the recordings were made with; written first
    OUT/events/<class>/<stem>.bin    the recordings
    OUT/images/<class>/<file>        the images, byte for byte; written after their recording
    OUT/tmkt.toml                    the sensor size; written last, without it the tree is incomplete
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tmkt_data.cache.format import refuse_cache
from tmkt_data.datasets.catalogue import every_class_folder, is_plain, scan_folder, some
from tmkt_data.datasets.folder import IMAGE_NAME
from tmkt_data.datasets.folder_settings import SETTINGS_NAME
from tmkt_data.datasets.look_alikes import difference, equal_when_normal
from tmkt_data.errors import CatalogueError, SpecError, counted
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.atis import ATIS_SIZE
from tmkt_data.files import read_bytes
from tmkt_data.simulate.camera import CAMERA_VERSION, CameraSettings
from tmkt_data.simulate.camera_file import camera_text
from tmkt_data.spec import WRITTEN_SUFFIXES, WrittenSuffix

MADE_WITH = "simulate.toml"
LOCK = "simulate.lock"
DEFAULT_SENSOR = SensorSize(240, 180)
_ATIS_SUFFIXES = (".bin", ".bs2")


@dataclass(frozen=True)
class RecordedCamera:
    """What recordings are made with.

    Attributes:
        settings: Pixel model and path.
        sensor_size: Width and height of the sensor.
        suffix: Format of the recordings.
        seed: Seed of the sensor and of all draws.

    Raises:
        SpecError: The format cannot hold the sensor.
    """

    settings: CameraSettings = field(default_factory=CameraSettings)
    sensor_size: SensorSize = DEFAULT_SENSOR
    suffix: WrittenSuffix = ".bin"
    seed: int = 0

    def __post_init__(self) -> None:
        size = self.sensor_size
        if self.suffix not in WRITTEN_SUFFIXES:
            raise SpecError(f"format: found {self.suffix!r}, expected one of {', '.join(WRITTEN_SUFFIXES)}")
        if self.suffix in _ATIS_SUFFIXES and (size.width > ATIS_SIZE.width or size.height > ATIS_SIZE.height):
            raise SpecError(
                f"sensor: found {size.width} x {size.height}, a {self.suffix} file holds up to {ATIS_SIZE.width} x "
                f"{ATIS_SIZE.height}; give a smaller sensor or the format .npz"
            )

    def text(self) -> str:
        """Return everything that determines the recordings, as TOML."""
        width, height = self.sensor_size
        head = f"# Written by tmkt-data simulate.\nversion = {CAMERA_VERSION}\nseed = {self.seed}\n"
        return f'{head}sensor_size = [{width}, {height}]\nformat = "{self.suffix}"\n\n{camera_text(self.settings)}'


class ImageToRecord(NamedTuple):
    """An image, and what becomes of it.

    Attributes:
        id: Sample id, `<class>/<stem>`.
        source: The image.
        recording: File of its recording.
        copy: File of its copy.
    """

    id: str
    source: Path
    recording: Path
    copy: Path


@dataclass(frozen=True)
class SimulationPlan:
    """Images to record and what with.

    Attributes:
        out: Folder to write.
        camera: What the recordings are made with.
        images: The images, sorted by class and stem.
        notes: What was left out, one line each.
    """

    out: Path
    camera: RecordedCamera
    images: tuple[ImageToRecord, ...]
    notes: tuple[str, ...] = ()


def plan_simulation(images: Path, out: Path, camera: RecordedCamera) -> SimulationPlan:
    """List the images of a folder and what becomes of them; nothing is written.

    Args:
        images: Folder of class folders with images, or of images, which then are one class with its name.
        out: Folder to write: new, empty, or one of an earlier run with the same camera.
        camera: What to record with.

    Raises:
        CatalogueError: There are no images, two of one class share a stem, or `out` holds other files.
    """
    here, there = images.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise CatalogueError(f"{out}: inside {images}, or around it; name a folder beside it")
    notes: list[str] = []
    found: list[ImageToRecord] = []
    for name, folder in _classes(images, notes):
        files, ignored = scan_folder(folder, IMAGE_NAME)
        if not is_plain(name):
            raise CatalogueError(f"{images}: folder {name!a} has control characters in its name; rename it")
        if ignored:
            notes.append(f"left out of {name}: {some(ignored)}")
        again = next(equal_when_normal([stem for stem, _, _ in files]), None)
        if again is not None:
            how = f"two images with the stem {again[0]!r}" if again[0] == again[1] else difference(*again)
            raise CatalogueError(f"{folder}: {how}, expected one of each stem; rename or remove one of them")
        for stem, file, _ in files:
            source = Path(file)
            recording = out / "events" / name / f"{stem}{camera.suffix}"
            found.append(ImageToRecord(f"{name}/{stem}", source, recording, out / "images" / name / source.name))
    if not found:
        raise CatalogueError(
            f"{images}: no images, expected class folders with images (cat/first.jpg), or images; check the path"
        )
    plan = SimulationPlan(out, camera, tuple(found), tuple(notes))
    _require_own(plan)
    return plan


def _classes(images: Path, notes: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield the name and folder of each class; a folder without class folders is one class."""
    refuse_cache(images, "a folder of images")
    if not images.is_dir():
        raise CatalogueError(f"{images}: no such folder, expected a folder of images; check the path")
    folders = [name for name in every_class_folder(images) if not name.startswith(".")]
    with_images = [name for name in folders if scan_folder(images / name, IMAGE_NAME)[0]]
    beside = scan_folder(images, IMAGE_NAME)[0]
    if not with_images:
        yield images.resolve().name, images
        return
    if beside:
        notes.append(f"{counted(len(beside), 'image')} beside the class folders left out, such as {beside[0][0]}")
    empty = sorted(set(folders) - set(with_images), key=os.fsencode)
    if empty:
        notes.append(f"{counted(len(empty), 'folder')} without images left out: {some(empty)}")
    for name in with_images:
        yield name, images / name


def _require_own(plan: SimulationPlan) -> None:
    """Refuse a folder with other files, or with recordings of another camera."""
    made_with, out = plan.out / MADE_WITH, plan.out
    if out.exists() and not out.is_dir():
        raise CatalogueError(f"{out}: a file, expected a folder to write; name another")
    if made_with.is_file():
        before, after = (
            _values(read_bytes(made_with, error=CatalogueError).decode(errors="replace")),
            _values(plan.camera.text()),
        )
        changed = [name for name in after if before.get(name) != after[name]]
        if changed:
            raise CatalogueError(
                f"{out}: holds recordings made with another {changed[0]}: {before.get(changed[0])}, not "
                f"{after[changed[0]]}; name another folder, or delete this one"
            )
    own = {path for image in plan.images for path in (image.recording, image.copy)}
    own |= {out / MADE_WITH, out / SETTINGS_NAME, out / LOCK} if made_with.is_file() else set()
    foreign = [path for path in files_below(out) if path not in own and not is_temporary(path)]
    if foreign or (not made_with.is_file() and any(path.exists() for path in own)):
        example = foreign[0].relative_to(out) if foreign else f"recordings without {MADE_WITH}"
        raise CatalogueError(
            f"{out}: holds {counted(max(len(foreign), 1), 'other file')}, such as {example}; name an empty folder, or "
            "remove what does not belong to these images"
        )


def _values(text: str) -> dict[str, Any]:
    """Return the values of a camera by name, those of the path by `path.` and name; none where it is damaged."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
    path = values.pop("path", {})
    return values | {f"path.{name}": value for name, value in path.items()}


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder; none if it does not exist."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir()) if folder.is_dir() else []


def is_temporary(path: Path) -> bool:
    """Return whether a file is one that an interrupted `atomic_write` left."""
    return path.name.startswith(".") and path.name.endswith(".tmp")
