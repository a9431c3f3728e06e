"""Annotations of N-Caltech101: the box and the contour of the object at the start of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.files import read_bytes

_MAX_BYTES = 1 << 20


class Annotation(NamedTuple):
    """Bounding box and contour of an object, in sensor pixels; box corners may lie outside the sensor.

    Attributes:
        box: Four corners as (x, y), shape (4, 2), int16.
        contour: Points as (x, y), shape (M, 2), int16.
    """

    box: NDArray[np.int16]
    contour: NDArray[np.int16]


def annotation_path(annotations: Path, recording_id: str) -> Path:
    """Return the annotation file of a recording: `airplanes/annotation_0001.bin` for `"airplanes/image_0001"`.

    Args:
        annotations: Folder `Caltech101_annotations`; it has none for the background class.
        recording_id: Id of the recording in the catalogue.
    """
    name, _, stem = recording_id.partition("/")
    return annotations / name / f"{stem.replace('image', 'annotation')}.bin"


def read_annotation(path: Path) -> Annotation:
    """Read one annotation.

    Raises:
        EventError: The file is missing, or its length does not match the counts in it.

    Source: Orchard et al., 2015, `Read_annotation.m`: two int16 counts and the values in column-major order, twice.
    """
    data = read_bytes(path, limit=_MAX_BYTES)
    values = np.frombuffer(data[: len(data) - len(data) % 2], "<i2")
    box, rest = _points(values, path.name)
    contour, rest = _points(rest, path.name)
    if len(rest) or len(data) % 2 or len(box) < 4:
        raise EventError(
            f"{path.name}: a box of {len(box)} corners and {2 * len(rest) + len(data) % 2} bytes left, expected 4 and "
            "none; fetch it again"
        )
    return Annotation(box[:4], contour)


def _points(values: NDArray[np.int16], place: str) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    rows, columns = (int(value) for value in values[:2]) if len(values) >= 2 else (0, 0)
    if rows != 2 or not 0 <= columns <= len(values[2:]) // 2:
        raise EventError(f"{place}: {rows} x {columns} values where points begin, expected 2 x N; fetch it again")
    return values[2 : 2 + 2 * columns].reshape(-1, 2), values[2 + 2 * columns :]
