"""Simulated recordings of Caltech-101 photographs, as ATIS files in the layout of N-Caltech101."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tmkt_data.datasets.image_reader import Archives, read_pixels
from tmkt_data.datasets.ncaltech101 import PLACEMENT, SENSOR_SIZE
from tmkt_data.datasets.shown import NCALTECH101_CAMERA, camera_identity, lay_on_sensor, record_shown
from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import ImageError
from tmkt_data.events.events import Events
from tmkt_data.events.formats.atis import write_atis
from tmkt_data.files import file_digest
from tmkt_data.locks import locked_folder
from tmkt_data.random_keys import sample_uid

SOURCE_VERSION = 2
_LOCK = "twins.lock"


def twins_folder(photographs: Sequence[Source], below: Path) -> Path:
    """Return the folder for recordings of these photographs; its name hashes their bytes and the camera.

    Args:
        photographs: The photographs.
        below: Parent of all such folders.

    Raises:
        ImageError: A photograph cannot be read.
    """
    digest = hashlib.sha256()
    digest.update(f"{SOURCE_VERSION} {camera_identity(NCALTECH101_CAMERA)}".encode())
    for source in photographs:
        digest.update(f"\n{source.id} ".encode())
        digest.update(bytes.fromhex(file_digest(source.path, "sha256", error=ImageError)))
    return below / digest.hexdigest()[:16]


def write_twins(photographs: Sequence[Source], folder: Path) -> Iterator[int]:
    """Simulate a recording of each photograph, yielding the number complete after each.

    Existing recordings are kept: files are written atomically, and the folder name identifies what they were made
    from. An interrupted run therefore resumes.

    Args:
        photographs: The photographs.
        folder: Folder of the recordings, from `twins_folder`; created if missing.

    Yields:
        Number of recordings complete, from 1 to all.

    Raises:
        ImageError: A photograph cannot be read.
        TmktError: The disk is full or not writable, or another process is writing there.
    """
    paths = [folder / f"{source.id}.bin" for source in photographs]
    if all(path.is_file() for path in paths):
        yield from range(1, len(paths) + 1)
        return
    with locked_folder(folder, _LOCK, sorted({path.parent.name for path in paths})):
        for done, (source, path) in enumerate(zip(photographs, paths, strict=True), start=1):
            if not path.is_file():
                write_atis(path, simulate_twin(source))
            yield done


def simulate_twin(source: Source) -> Events:
    """Simulate the recording of one photograph, as a pure function of its pixels, id and settings.

    As in N-Caltech101, the photograph is scaled to fit the screen, moved along the saccades, and the recording is
    cropped to its middle (inferred).

    Raises:
        ImageError: The photograph cannot be read.
    """
    image, _ = read_pixels(source, Archives())
    return record_shown(NCALTECH101_CAMERA, lay_on_sensor(image, SENSOR_SIZE, PLACEMENT), sample_uid(source.id))
