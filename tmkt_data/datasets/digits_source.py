"""The embedded dataset `digits` as source files: real handwritten digits, and simulated recordings of them.

The tree has the layout of N-MNIST and MNIST, so the same catalogue and readers work for both:

    MNIST_png/Train/<digit>/<NNNNN>.png     28 x 28, mode L, white on black
    N-MNIST/Train/<digit>/<NNNNN>.bin       ATIS events of a 34 x 34 sensor
    digits.json                             written last; without it the tree is incomplete
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.datasets.nmnist import PLACEMENT, SENSOR_SIZE
from tmkt_data.datasets.shown import NMNIST_CAMERA, camera_identity, lay_on_sensor, record_shown
from tmkt_data.errors import CatalogueError, TmktError, counted
from tmkt_data.events.events import Events
from tmkt_data.events.formats.atis import BYTES_PER_EVENT, write_atis
from tmkt_data.files import write_bytes
from tmkt_data.images.decode import DecodedImage
from tmkt_data.locks import locked_folder
from tmkt_data.random_keys import sample_uid

SOURCE = "scikit-learn load_digits: UCI Optical Recognition of Handwritten Digits (test part, CC BY 4.0)"
SOURCE_VERSION = "2"
"""Version of what this module makes. A tree of another version, or of another camera, is rewritten."""
IMAGE_SIZE = 28
STROKE_SIZE = 20
"""The 8 x 8 digits become 20 x 20 with a margin of 4, as MNIST centers its digits."""

_PIXELS = Path(__file__).with_name("optical_digits.npz")
"""The digits of `SOURCE`: `pixels` uint8 (1797, 8, 8), 0 to 16, and `labels`. scikit-learn itself would be 190 MB."""
_MARKER = "digits.json"
_BEGUN = "digits.partial.json"
_LOCK = "digits.lock"
_IMAGES = "MNIST_png"
_EVENTS = "N-MNIST"


class _Digit(NamedTuple):
    number: int
    label: int
    pixels: NDArray[np.uint8]

    @property
    def image_name(self) -> str:
        return f"{_IMAGES}/Train/{self.label}/{self.number:05d}.png"

    @property
    def events_name(self) -> str:
        return f"{_EVENTS}/Train/{self.label}/{self.number:05d}.bin"


def write_digits(root: Path, *, per_class: int | None = None) -> Iterator[int]:
    """Write the tree, yielding the number of digits complete after each.

    An interrupted run resumes and produces the same bytes. A complete tree is left unchanged. A tree of another
    version or `per_class`, or one modified after completion, is rewritten.

    Args:
        root: Folder of the tree; created if missing.
        per_class: Keep only the first so many digits of each class, 1 or more; None keeps all 1797.

    Yields:
        Number of digits complete, from 1 to all.

    Raises:
        CatalogueError: The folder contains files that this function did not write.
        TmktError: `per_class` is below 1, or the disk is full or not writable.
    """
    digits = _load_digits(per_class)
    if _is_whole(root, digits, per_class):
        yield from range(1, len(digits) + 1)
        return
    _refuse_strangers(root)
    with locked_folder(root, _LOCK):
        yield from _write(root, digits, per_class)


def _write(root: Path, digits: list[_Digit], per_class: int | None) -> Iterator[int]:
    _begin(root, digits, per_class)
    for done, digit in enumerate(digits, start=1):
        image = _enlarge(digit.pixels)
        picture, recording = root / digit.image_name, root / digit.events_name
        if not _is_picture(picture):
            write_bytes(picture, _encode_png(image))
        if not _is_recording(recording):
            write_atis(recording, _record(image, digit))
        yield done
    marker = _identity(per_class) | {"counts": _count(digits), "digests": _digest(root, digits)}
    write_bytes(root / _MARKER, _dump(marker))
    _remove(root / _BEGUN)


def digits_are_whole(root: Path, *, per_class: int | None = None) -> bool:
    """Return whether the tree is complete, of this version and unmodified; reads every file.

    Args:
        root: Folder of the tree.
        per_class: As given to `write_digits`; a reduced tree does not count as the full one.
    """
    return _is_whole(root, _load_digits(per_class), per_class)


def _load_digits(per_class: int | None) -> list[_Digit]:
    if per_class is not None and per_class < 1:
        raise TmktError(f"digits: found per_class {per_class}, expected 1 or more; omit it to keep all")
    with np.load(_PIXELS, allow_pickle=False) as stored:
        pixels, labels = stored["pixels"], stored["labels"]
    taken = [0] * 10
    digits = []
    for number, (label, row) in enumerate(zip(labels.tolist(), pixels, strict=True), start=1):
        taken[label] += 1
        if per_class is None or taken[label] <= per_class:
            digits.append(_Digit(number, label, row))
    return digits


def _enlarge(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarge an (8, 8) image with gray values 0 to 16 to (28, 28), uint8, white on black."""
    padded = np.pad(pixels.astype(np.float32) * (255.0 / 16.0), 2)
    side = STROKE_SIZE * 12 // 8
    large = np.asarray(Image.fromarray(padded).resize((side, side), Image.Resampling.BICUBIC))
    cut = (side - IMAGE_SIZE) // 2
    middle = large[cut : cut + IMAGE_SIZE, cut : cut + IMAGE_SIZE]
    return np.asarray(np.clip(np.rint(middle), 0, 255), dtype=np.uint8)


def _record(image: NDArray[np.uint8], digit: _Digit) -> Events:
    seen = lay_on_sensor(DecodedImage.of(image), SENSOR_SIZE, PLACEMENT)
    return record_shown(NMNIST_CAMERA, seen, sample_uid(digit.events_name))


def _encode_png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()


def _identity(per_class: int | None) -> dict[str, object]:
    camera = camera_identity(NMNIST_CAMERA)
    return {"source": SOURCE, "version": SOURCE_VERSION, "camera": camera, "per_class": per_class}


def _count(digits: list[_Digit]) -> dict[str, int]:
    return {str(label): sum(digit.label == label for digit in digits) for label in range(10)}


def _digest(root: Path, digits: list[_Digit]) -> dict[str, str]:
    """Return the SHA-256 of each side over names and bytes in order; `""` if a file is missing."""
    sides: dict[str, str] = {}
    for side in (_IMAGES, _EVENTS):
        digest = hashlib.sha256()
        for digit in digits:
            name = digit.image_name if side == _IMAGES else digit.events_name
            try:
                data = (root / name).read_bytes()
            except OSError:
                return {_IMAGES: "", _EVENTS: ""}
            digest.update(f"{name} {len(data)}\n".encode())
            digest.update(data)
        sides[side] = digest.hexdigest()
    return sides


def _is_whole(root: Path, digits: list[_Digit], per_class: int | None) -> bool:
    marker = _read_marker(root / _MARKER)
    if marker is None or any(marker.get(name) != value for name, value in _identity(per_class).items()):
        return False
    if marker.get("counts") != _count(digits) or len(_find_files(root)) != 2 * len(digits):
        return False
    return marker.get("digests") == _digest(root, digits)


def _begin(root: Path, digits: list[_Digit], per_class: int | None) -> None:
    """Create the folders and the start marker; keep files only if they belong to the same interrupted run."""
    begun, marker = _refuse_strangers(root)
    _make_folders(root, digits)
    if marker is not None or begun != _identity(per_class):
        # With this marker nothing is kept, so an interruption while clearing leaves no stale file behind.
        write_bytes(root / _BEGUN, _dump({"clearing": True}))
        for path in [root / _MARKER, *_own_files(root)]:
            _remove(path)
        write_bytes(root / _BEGUN, _dump(_identity(per_class)))
    for path in root.glob("*/Train/*/.*.tmp"):
        _remove(path)


def _find_files(root: Path) -> list[Path]:
    return [*root.glob(f"{_IMAGES}/*/*/*.png"), *root.glob(f"{_EVENTS}/*/*/*.bin")]


def _refuse_strangers(root: Path) -> tuple[dict[str, object] | None, dict[str, object] | None]:
    """Return the two markers of a folder that contains only this dataset.

    Raises:
        CatalogueError: The folder contains other files.
    """
    begun, marker = _read_marker(root / _BEGUN), _read_marker(root / _MARKER)
    known = set() if begun is None and marker is None else set(_own_files(root))
    foreign = [path for path in _find_files(root) if path not in known]
    if foreign:
        raise CatalogueError(
            f"{root}: holds {counted(len(foreign), 'other file')}, such as {foreign[0].relative_to(root)}; "
            "give an empty folder"
        )
    return begun, marker


def _own_files(root: Path) -> list[Path]:
    """Return every file that the full dataset may have; the names are the same in all versions."""
    names = ((digit.image_name, digit.events_name) for digit in _load_digits(None))
    return [root / name for pair in names for name in pair]


def _make_folders(root: Path, digits: list[_Digit]) -> None:
    folders = {(root / name).parent for digit in digits for name in (digit.image_name, digit.events_name)}
    for folder in sorted(folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as broken:
            raise TmktError(f"{folder}: cannot be made ({broken.strerror or broken}); name another folder") from broken


def _is_picture(path: Path) -> bool:
    """Return whether an existing image is complete; a failing disk may have truncated it."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")


def _is_recording(path: Path) -> bool:
    try:
        size = path.stat().st_size
    except OSError:
        return False
    return size > 0 and size % BYTES_PER_EVENT == 0


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as broken:
        raise TmktError(f"{path}: cannot be removed ({broken.strerror or broken}); check its folder") from broken


def _dump(content: dict[str, object]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _read_marker(path: Path) -> dict[str, object] | None:
    """Return the content of a marker: empty if it is unreadable, None if it does not exist."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
