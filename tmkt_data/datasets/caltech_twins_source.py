"""Simulated recordings of Caltech-101 photographs, as ATIS files in the layout of N-Caltech101."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tmkt_data.datasets.caltech_twins import PLACEMENT
from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import ImageError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.formats.atis import write_atis
from tmkt_data.files import file_digest, locked_folder
from tmkt_data.images.decode import read_image
from tmkt_data.images.frames import intensity, resize_rgb
from tmkt_data.random_keys import Purpose, draw_key, sample_uid
from tmkt_data.simulate.recording import SIMULATOR_VERSION, SimulatorSettings, simulate_recording
from tmkt_data.simulate.saccade import SaccadePath

SOURCE_VERSION = 1
SEED = 0
SETTINGS = SimulatorSettings(
    threshold_on=0.125,
    threshold_off=0.125,
    noise_rate_hz=1.0,
    path=SaccadePath(corners=((0.0, 0.0), (3.0, 6.0), (6.0, 0.0), (0.0, 0.0))),
)
"""Fitted to the one real recording available, Faces_easy/image_0001 (inferred); see docs/results.md.

The path is 6/7 of the published one: real recordings extend 6 pixels beyond the photograph.
"""

_MOTION_PX = 6
_LOCK = "twins.lock"


def twins_folder(photographs: Sequence[Source], below: Path) -> Path:
    """Return the folder for recordings of these photographs; its name hashes their bytes and the simulator version.

    Args:
        photographs: The photographs.
        below: Parent of all such folders.

    Raises:
        ImageError: A photograph cannot be read.
    """
    digest = hashlib.sha256()
    settings = dataclasses.asdict(SETTINGS)
    digest.update(json.dumps([SOURCE_VERSION, SIMULATOR_VERSION, SEED, settings], sort_keys=True).encode())
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

    The photograph is scaled to fit the screen as in N-Caltech101 (inferred) and moved along the saccades; the sensor
    covers the picture and its motion, as in the published recordings.

    Raises:
        ImageError: The photograph cannot be read.
    """
    rgb = read_image(source.path)
    left, top, right, bottom = PLACEMENT.box_of(rgb.shape[1], rgb.shape[0])
    width, height = right - left, bottom - top
    light = intensity(resize_rgb(rgb, height, width), "luminance")
    key = int(draw_key(SEED, 0, sample_uid(source.id), 0, Purpose.SIMULATE))
    size = SensorSize(width + _MOTION_PX, height + _MOTION_PX)
    return simulate_recording(light, key=key, sensor_size=size, settings=SETTINGS)
