"""Interoperate with tonic: prepare its datasets, and use caches as datasets with its transforms.

tonic is not imported here; objects are used by their interface, so datasets of other libraries work as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue, class_folders, is_plain, some
from tmkt_data.datasets.folder import open_folder
from tmkt_data.datasets.folder_settings import SETTINGS_NAME
from tmkt_data.errors import CatalogueError, EventError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.formats.columns import decode_columns
from tmkt_data.events.write import write_events
from tmkt_data.files import read_bytes, write_bytes
from tmkt_data.locks import locked_folder
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.sample_ids import normal_name
from tmkt_data.spec import Pairing, TimeUnit

MANIFEST_NAME = "from-tonic.json"
_LOCK = "from-tonic.lock"
Transform = Callable[[Any], Any]


class EventDataset(Protocol):
    """Interface required by `from_tonic`: a length, and `(events, target)` by index."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return the events, an array with fields t, x, y and p, and the class, a name or a number."""
        ...


def from_tonic(
    dataset: EventDataset,
    folder: str | Path,
    *,
    images: str | Path | None = None,
    sensor_size: tuple[int, int] | None = None,
    unit: TimeUnit = "us",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Catalogue:
    """Export the recordings of a tonic dataset to a folder, and list it.

    The folder can then be used with `tmkt-data prepare folder --root FOLDER`. Call it again to resume an interrupted
    export.

    Args:
        dataset: Dataset without transforms. Samples are named by the stems of the paths in `data` if it has them, else
            by index. Datasets of a one-row sensor, such as spoken digits, need no y.
        folder: Folder to write, about 13 bytes per event.
        images: Folder of class folders with images; equal class and stem make twins; None for recordings only. A folder
            is matched to a class by name, ignoring case; else by the folder of the sample's own file; else by the
            number of the class or the first word of its name: `0` matches `0 - zero`. The class then takes the name
            of the folder.
        sensor_size: Width and height; None uses the dataset's `sensor_size`.
        unit: Time unit; microseconds in tonic.
        progress: Called with the number of samples written and the total.

    Returns:
        The catalogue of the folder. Class names come from the targets or the dataset's `classes`.

    Raises:
        CatalogueError: No samples, no sensor size, an invalid target, image folders that match no class, or a folder
            that contains another dataset.
        EventError: A sample is not an event array.
        TmktError: The disk is full or not writable, or another process is writing there.

    Example:
        >>> import tonic  # doctest: +SKIP
        >>> catalogue = from_tonic(tonic.datasets.NMNIST("data"), "nmnist-folder")  # doctest: +SKIP
    """
    folder = Path(folder)
    size = _size_of(dataset, sensor_size)
    stems = _stems_of(dataset)
    manifest = {"dataset": type(dataset).__name__, "samples": len(stems), "sensor_size": list(size), "unit": unit}
    text = json.dumps(manifest | {"first": stems[0], "last": stems[-1]}, sort_keys=True)
    with locked_folder(folder, _LOCK):
        _claim(folder, text)
        classes = _Classes(dataset, () if images is None else class_folders(Path(images)))
        _write_samples(folder, stems, _Samples(dataset, classes, size, unit), progress)
        if images is not None:
            _require_images(folder, Path(images))
        _write_settings(folder, size, images)
    return open_folder(folder)


def _require_images(folder: Path, images: Path) -> None:
    recordings, pictures = class_folders(folder / "events"), class_folders(images)
    if not set(map(normal_name, recordings)) & set(map(normal_name, pictures)):
        raise CatalogueError(
            f"{images}: found folders {some(pictures) or 'none'}, expected those of classes ({some(recordings)}); "
            f"rename them, or write to another folder than {folder}"
        )


def _size_of(dataset: EventDataset, given: tuple[int, int] | None) -> SensorSize:
    size = given if given is not None else getattr(dataset, "sensor_size", None)
    sides = list(size)[:2] if isinstance(size, Sequence) else []
    if len(sides) != 2 or not all(isinstance(side, (int, np.integer)) and 1 <= side <= 65536 for side in sides):
        raise CatalogueError(
            f"{type(dataset).__name__}: sensor_size is {size!r}, expected width and height; give sensor_size=(240, 180)"
        )
    return SensorSize(int(sides[0]), int(sides[1]))


def _stems_of(dataset: EventDataset) -> list[str]:
    count = len(dataset)
    if not count:
        raise CatalogueError(f"{type(dataset).__name__}: no samples, expected some; is it downloaded?")
    paths = getattr(dataset, "data", None)
    if isinstance(paths, list) and len(paths) == count and all(isinstance(path, (str, os.PathLike)) for path in paths):
        return [_safe(Path(path).stem, "file name") for path in paths]
    return [f"{number:06d}" for number in range(count)]


def _safe(name: str, what: str) -> str:
    """Return a name that is safe as one path component.

    Raises:
        CatalogueError: There is no such name.
    """
    safe = "".join("_" if letter in '/\\:*?"<>|' else letter for letter in name).strip()
    if safe in ("", ".", "..") or not is_plain(safe) or len(os.fsencode(safe)) > 200:
        raise CatalogueError(f"{what} {name[:60]!r}: not a valid file name; rename it")
    return safe


def _claim(folder: Path, text: str) -> None:
    path = folder / MANIFEST_NAME
    if path.is_file():
        if read_bytes(path, error=CatalogueError).decode(errors="replace") != text:
            raise CatalogueError(f"{folder}: contains another dataset; give another folder")
    elif any(entry.name not in (_LOCK, "images") for entry in folder.iterdir()):
        raise CatalogueError(f"{folder}: contains other files; give an empty folder")
    else:
        write_bytes(path, text.encode())


class _Samples(NamedTuple):
    """Reads the samples of a tonic dataset."""

    dataset: EventDataset
    classes: _Classes
    size: SensorSize
    unit: TimeUnit

    def place(self, number: int) -> str:
        return f"{type(self.dataset).__name__}[{number}]"

    def read(self, number: int) -> tuple[str, Events]:
        """Return the class and the events of a sample."""
        events, target = self.dataset[number]
        name = self.classes.name_of(number, target, self.place(number))
        return name, _record_of(events, self.size, self.unit, self.place(number))


def _write_samples(folder: Path, stems: list[str], samples: _Samples, progress: Callable[[int, int], None]) -> None:
    done_path = folder / ".done"
    # Classes of written samples: an existing sample is located without decoding it again.
    known = _whole_lines(done_path)
    # A file of no sample before is of this one: a run was stopped before it noted what it had written.
    written: set[Path] = set()
    with done_path.open("a", encoding="utf-8") as done:
        for number, stem in enumerate(stems):
            path = folder / "events" / (known[number] if number < len(known) else "") / f"{stem}.npz"
            if number >= len(known) or not path.is_file():
                name, events = samples.read(number)
                path = folder / "events" / name / f"{stem}.npz"
                if path in written:
                    place = samples.place(number)
                    raise CatalogueError(f"{place}: duplicate sample {stem!r} in class {name}; rename one")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_events(path, events)
                if number >= len(known):
                    done.write(f"{name}\n")
                    done.flush()
            written.add(path)
            progress(number + 1, len(stems))


def _whole_lines(path: Path) -> list[str]:
    """Return the lines of a file, from which a last one that was cut off is removed."""
    text = read_bytes(path).decode(errors="replace") if path.is_file() else ""
    whole, end, rest = text.rpartition("\n")
    if rest:
        write_bytes(path, (whole + end).encode())
    return whole.splitlines()


class _Classes:
    """Names the class of a sample, after its image folder if there is one."""

    def __init__(self, dataset: EventDataset, image_folders: Sequence[str]) -> None:
        self._classes, self._paths = getattr(dataset, "classes", None), getattr(dataset, "data", None)
        self._folders = {_key_of(name): name for name in reversed(image_folders)}
        numbers = {int(name): name for name in reversed(image_folders) if name.isascii() and name.isdigit()}
        # Folders numbered from 1 do not tell which number class 0 has.
        self._numbers = numbers if 0 in numbers else {}
        self._targets: dict[str, Any] = {}

    def name_of(self, index: int, target: Any, place: str) -> str:
        """Return the folder name of a class; raises CatalogueError for an invalid target."""
        if getattr(target, "shape", None) == () and hasattr(target, "item"):
            target = target.item()
        name = self._own_name(target, place)
        name = self._image_folder(name, target, index) or name
        if self._targets.setdefault(name, target) != target:
            raise CatalogueError(f"{place}: classes {self._targets[name]!r} and {target!r} have the same folder name")
        return name

    def _own_name(self, target: Any, place: str) -> str:
        if isinstance(target, str):
            return _safe(target, f"{place}: class")
        if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
            number = int(target)
            if isinstance(self._classes, (list, tuple)) and 0 <= number < len(self._classes):
                return _safe(str(self._classes[number]), f"{place}: class")
            return f"{number:04d}" if number >= 0 else _safe(str(number), f"{place}: class")
        raise CatalogueError(f"{place}: target is {type(target).__name__}, expected the name or number of a class")

    def _image_folder(self, name: str, target: Any, index: int) -> str | None:
        candidates = [name]
        if isinstance(self._paths, list) and index < len(self._paths):
            path = self._paths[index]
            candidates += [Path(path).parent.name] if isinstance(path, (str, os.PathLike)) else []
        candidates += name.split()[:1]
        by_name = next((self._folders[key] for key in map(_key_of, candidates) if key in self._folders), None)
        return by_name if by_name is not None or isinstance(target, str) else self._numbers.get(int(target))


def _key_of(name: str) -> str:
    return normal_name(name).lower()


def _record_of(events: Any, size: SensorSize, unit: TimeUnit, place: str) -> Events:
    array = np.asarray(events)
    if array.dtype.names is None or array.dtype.hasobject or array.ndim != 1:
        raise EventError(
            f"{place}: events are {array.dtype} of shape {array.shape}, expected one array with fields t, x, y and p; "
            "remove the transform of the dataset"
        )
    columns = {name: array[name] for name in array.dtype.names}
    if size.height == 1 and "y" not in columns:
        columns["y"] = np.zeros(len(array), np.uint16)
    return decode_columns(columns, sensor_size=size, unit=unit, place=place)


def _write_settings(folder: Path, size: SensorSize, images: str | Path | None) -> None:
    where = json.dumps(str(Path(images).absolute())) if images is not None else '""'
    text = f"# Written by tmkt from a tonic dataset.\nsensor_size = [{size.width}, {size.height}]\nimages = {where}\n"
    write_bytes(folder / SETTINGS_NAME, text.encode())


class TonicFrames:
    """A cache as a tonic dataset: `(frames, label)` by index, with transforms.

    Frames have the axis order of tonic's `ToFrame`, so frame transforms and wrappers work with them, such as
    `tonic.DiskCachedDataset`, `tonic.collation.PadTensors` and those of torchvision. Event transforms do not apply:
    the cache holds frames.

    Args:
        path: A cache made by `tmkt-data prepare`.
        split: `train`, `val` or `test`.
        transform: Applied to the frames, with a pairing to those of both sides.
        target_transform: Applied to the label.
        transforms: Applied to frames and label together, after the others.
        pairing: `none`: frames of the recording; `same-class` or `twin`: a tuple of image frames and event frames, see
            `PairedFrames`.
        options: Further arguments of `PairedFrames`.

    Attributes:
        classes: Names of the classes, indexed by label.
        sensor_size: Width, height and channels of a frame.
        dtype: Type of the frames, float32.
        ordering: Axes of the frames, `"tpyx"`.

    Raises:
        TmktError: As in `PairedFrames`.

    Example:
        >>> train = TonicFrames("nmnist.h5", "train")  # doctest: +SKIP
        >>> train[0][0].shape, train.sensor_size  # doctest: +SKIP
        ((10, 2, 34, 34), (34, 34, 2))
    """

    dtype = np.dtype(np.float32)
    ordering = "tpyx"

    def __init__(
        self,
        path: str | Path,
        split: Any = "train",
        *,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        transforms: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        pairing: Pairing = "none",
        **options: Any,
    ) -> None:
        self.frames = PairedFrames(path, split, pairing=pairing, **options)
        self.classes, self.sensor_size = self.frames.classes, self.frames.sensor_size
        self.transform, self.target_transform, self.transforms = transform, target_transform, transforms
        self._is_paired = pairing != "none"

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return the frames, shape (T, C, H, W), float32, or a tuple of two; and the label."""
        sample = self.frames[index]
        sides: tuple[NDArray[np.float32], ...] = (sample.image, sample.events) if self._is_paired else (sample.events,)
        changed = tuple(side if self.transform is None else self.transform(side) for side in sides)
        data: Any = changed if self._is_paired else changed[0]
        label: Any = sample.label if self.target_transform is None else self.target_transform(sample.label)
        return (data, label) if self.transforms is None else self.transforms(data, label)
