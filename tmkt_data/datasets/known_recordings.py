"""Real recordings with the images that they show, as a simulated camera is fitted to."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.format import refuse_cache
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.folder_settings import SETTINGS_NAME
from tmkt_data.datasets.image_reader import Archives, read_pixels
from tmkt_data.datasets.recording_reader import RecordingReader
from tmkt_data.datasets.registry import open_catalogue
from tmkt_data.datasets.shown import lay_on_sensor
from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import Events, SensorSize, Window
from tmkt_data.events.filters import num_filtered
from tmkt_data.images.frames import ImageTarget
from tmkt_data.sample_ids import evenly_spaced, rows_of
from tmkt_data.simulate.fit import KnownRecording
from tmkt_data.spec import PrepareSpec

MOST_RECORDINGS = 48
"""Recordings that are read; half of them are held out."""
HOT_PIXELS = 2.0
"""Pixels that are left out, as option `hot_pixels` of `prepare`: a few of them would outweigh all others in a fit."""
_DATASETS = ("nmnist", "ncaltech101", "cepdvs", "nomniglot")


class KnownRecordings(NamedTuple):
    """Recordings of known images, in two halves.

    Attributes:
        dataset: Name of the dataset that they are of.
        sensor_size: Width and height of their sensor.
        fitted: Recordings to fit to.
        held_out: Recordings to test the fit with; empty where there is only one.
        num_hot: Events of hot pixels, which are left out of all of them.
    """

    dataset: str
    sensor_size: SensorSize
    fitted: tuple[KnownRecording, ...]
    held_out: tuple[KnownRecording, ...]
    num_hot: int = 0


def read_known(folder: Path, most: int = MOST_RECORDINGS) -> KnownRecordings:
    """Read recordings of known images, evenly spaced over the dataset.

    Args:
        folder: As given to `prepare folder --root`, or a folder with N-MNIST and MNIST, N-Caltech101 and Caltech-101,
            or another published dataset whose recordings are made of images.
        most: Number of recordings that are read, 1 or more.

    Raises:
        CatalogueError: There are no recordings with their image.
        EventError: A recording cannot be read.
        ImageError: An image cannot be read.
    """
    catalogue = _open(folder)
    twins = rows_of(catalogue.recordings.ids, catalogue.images.ids)
    rows = np.flatnonzero(twins >= 0)
    chosen = rows[evenly_spaced(len(rows), most, nearest=True)]
    reader, archives = RecordingReader(catalogue, PrepareSpec(hot_pixels=HOT_PIXELS)), Archives()
    known, num_hot = [], 0
    for row in chosen.tolist():
        source = catalogue.recordings[row]
        light, window = _light(catalogue, catalogue.images[int(twins[row])], archives)
        events, num_dropped = _events(reader, source, catalogue.sensor_size)
        known.append(KnownRecording(source.id, light, events, window))
        num_hot += num_dropped
    return KnownRecordings(catalogue.name, catalogue.sensor_size, tuple(known[::2]), tuple(known[1::2]), num_hot)


def _open(folder: Path) -> Catalogue:
    """Open the first dataset that is in a folder with recordings and their images."""
    refuse_cache(folder, "a folder of recordings with their images")
    if not folder.is_dir():
        raise CatalogueError(f"{folder}: no such folder, expected recordings with their images; check the path")
    if (folder / SETTINGS_NAME).is_file():
        found = open_catalogue("folder", folder)
        if found.num_twins:
            return found
    for name in _DATASETS:
        try:
            found = open_catalogue(name, folder)
        except CatalogueError:
            continue
        if found.num_twins:
            return found
    raise CatalogueError(
        f"{folder}: no recordings with their images, expected a folder as for prepare folder ({SETTINGS_NAME}, events, "
        f"images), or {', '.join(_DATASETS)}; check the path"
    )


def _light(catalogue: Catalogue, image: Source, archives: Archives) -> tuple[NDArray[np.uint8], Window | None]:
    size, placement = catalogue.sensor_size, catalogue.placement
    pixels, _ = read_pixels(image, archives, ImageTarget(*size[::-1], size, placement).smallest_pixels)
    return lay_on_sensor(pixels, size, placement)


def _events(reader: RecordingReader, source: Source, size: SensorSize) -> tuple[Events, int]:
    """Return a recording whose times start at 0, and the number of events of hot pixels that it is without."""
    opened = reader.open(source)
    pieces = list(opened.pieces())
    t, x, y, p = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in "txyp")
    num_hot = num_filtered(opened.facts.num_dropped)["hot_pixels"]
    return Events(t - t[:1], x, y, p, size, len(t)), num_hot
