"""Files that hold many images: IDX of MNIST and Fashion-MNIST, and the batches of CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import ImageError
from tmkt_data.events.formats.pickles import read_pickle
from tmkt_data.files import read_bytes
from tmkt_data.images.decode import read_idx

CIFAR_SHAPE = (3, 32, 32)
_CIFAR_RECORD = 1 + 3 * 32 * 32
_PICKLE = b"\x80"
_GZIP = b"\x1f\x8b"


def read_archive(path: Path) -> NDArray[np.uint8]:
    """Read all images of a file.

    Args:
        path: An IDX file of 3 dimensions, gzipped or not, or a batch of CIFAR-10.

    Returns:
        Shape (n, h, w), or (n, h, w, 3) for CIFAR-10, uint8.

    Raises:
        ImageError: Neither of them, or a damaged file.
    """
    start = read_bytes(path, limit=4, error=ImageError)
    if start.startswith(_GZIP) or start[:3] == b"\x00\x00\x08":
        return read_idx(path, 3)
    return read_cifar(path)[0]


def read_cifar(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a batch of CIFAR-10, binary version (`data_batch_1.bin`) or Python version (`data_batch_1`).

    The pickle of the Python version is parsed but never run, see `read_pickle`.

    Returns:
        Images, shape (n, 32, 32, 3), uint8; labels, shape (n,), 0 to 9.

    Raises:
        ImageError: No such file, a truncated one, or a label outside 0 to 9.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    data = read_bytes(path, error=ImageError)
    if data.startswith(_PICKLE):
        planes, labels = _from_pickle(data, path.name)
    else:
        if not data or len(data) % _CIFAR_RECORD:
            raise ImageError(
                f"{path.name}: {len(data)} bytes, expected {_CIFAR_RECORD} an image (CIFAR-10); fetch it again"
            )
        records = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_RECORD)
        planes, labels = records[:, 1:], records[:, 0].astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() <= 9:
        raise ImageError(f"{path.name}: labels run from {labels.min()} to {labels.max()}, expected 0 to 9 (CIFAR-10)")
    images = planes.reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def _from_pickle(data: bytes, place: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = read_pickle(data, place, ImageError)
    held = batch if isinstance(batch, dict) else {}
    planes, labels = held.get("data"), held.get("labels")
    if not isinstance(planes, np.ndarray) or planes.dtype != np.uint8 or planes.shape[1:] != (_CIFAR_RECORD - 1,):
        raise ImageError(f"{place}: no array 'data' of 3072 bytes an image, expected a batch of CIFAR-10")
    if not isinstance(labels, list) or len(labels) != len(planes) or any(type(label) is not int for label in labels):
        raise ImageError(f"{place}: no list 'labels' of {len(planes)} numbers, expected a batch of CIFAR-10")
    return planes, np.array([min(max(label, -1), 10) for label in labels], np.int64)
