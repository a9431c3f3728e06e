"""Prepare one recording as those of a cache were prepared, for a network that was trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.recording_reader import RecordingReader
from tmkt_data.datasets.source_table import Source, SourceTable
from tmkt_data.errors import EventError
from tmkt_data.events.events import SensorSize, Window
from tmkt_data.events.filters import swaps_axes
from tmkt_data.events.read import Reading
from tmkt_data.images.frames import Placement
from tmkt_data.prepare.blocks import empty_block
from tmkt_data.prepare.recordings import store_recording
from tmkt_data.spec import PrepareSpec


def recording_frames(path: str | Path, spec: PrepareSpec, facts: Mapping[str, Any]) -> NDArray[np.float32]:
    """Decode, bin and resize a recording as the recordings of a cache.

    A file that is in the cache gives the frames that the cache holds.

    Args:
        path: File of one recording, in any format that the dataset of the cache may have.
        spec: Options of the cache, `CacheInfo.spec`.
        facts: Facts of the cache, `CacheInfo.facts`.

    Returns:
        Frames of shape (T, C, H, W), not scaled. Owned by the caller.

    Raises:
        EventError: The file is missing or damaged, is not a recording of this sensor, or the dataset lists shifts.
    """
    path = Path(path)
    if not path.is_file():
        raise EventError(f"{path}: no such file, expected a recording")
    if facts["is_centered"]:
        raise EventError(
            f"{path}: the recordings of this cache are shifted by sizes listed beside them, expected a dataset whose "
            "files are placed as they are; prepare it with its list instead"
        )
    catalogue = _catalogue(spec, facts)
    stored = empty_block("events", spec, 1)["frames"][0]
    source = Source(path.stem, 0, str(path), path.stat().st_size)
    counted = store_recording(source, catalogue, spec, RecordingReader(catalogue, spec), stored)
    exact = counted.frames.reshape(stored.shape) if stored.dtype == np.uint8 else stored
    return exact.astype(np.float32)


def _catalogue(spec: PrepareSpec, facts: Mapping[str, Any]) -> Catalogue:
    width, height = facts["sensor_size"]
    # The facts hold the canvas after rotation.
    size = SensorSize(height, width) if swaps_axes(spec.orientation) else SensorSize(width, height)
    window = facts["window"]
    none = SourceTable.of(())
    return Catalogue(
        name="",
        class_names=(),
        sensor_size=size,
        placement=Placement(*facts["placement"]),
        recordings=none,
        images=none,
        reading=Reading(**facts["reading"]),
        window=None if window is None else Window(window[0], window[1], SensorSize(*window[2:])),
    )
