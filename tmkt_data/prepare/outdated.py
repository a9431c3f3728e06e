"""Caches of earlier versions: which of their recordings and images are read differently now."""

from __future__ import annotations

import contextlib

import numpy as np

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.recording_reader import RecordingReader
from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import EventError, ImageError
from tmkt_data.events.formats.aedat2 import has_several_sensors
from tmkt_data.events.formats.prophesee import TIMELESS, decode_evt_start
from tmkt_data.events.read import ARRAY_SUFFIXES
from tmkt_data.files import checksum, read_bytes
from tmkt_data.images.decode import is_seen_otherwise
from tmkt_data.prepare.images import ImageConverter, bake_changes, view_in
from tmkt_data.sample_ids import evenly_spaced, rows_of
from tmkt_data.spec import PrepareSpec

_LARGEST_LOW_US = 1 << 12
"""Events without a time word were read with the lower part of a time only, at most 12 bits."""
_HALF_RANGE = 1 << 31
"""Signed times of 32 bits that wrapped were sorted, so that they seemed to span more than this."""
_START_BYTES = 1 << 16
_READ_AGAIN = 8
"""Images that may be read differently and are read again to find out."""
_BAKED_AGAIN = 256
"""Images that are baked again to find out: on a black ground few differ, 93 of 650 of N-MNIST."""


def outdated_recordings(catalogue: Catalogue, spec: PrepareSpec, cache: Cache) -> list[str]:
    """Return the ids of recordings that earlier versions read wrongly and that are read differently now.

    Earlier versions gave events before the first time word of an EVT file a time near 0, sorted signed times of 32 bits
    where they wrap, and read the sensors of a camera with several as one. Only recordings whose times in the cache look
    like that are read again.

    Args:
        catalogue: The samples, with overrides applied.
        spec: The choices of the cache.
        cache: A cache of them.
    """
    if catalogue.kind != "files":
        return []
    tables = {
        name: cache.tables[f"events/{name}"] for name in ("t_first_us", "t_last_us", "num_inversions", "num_kept")
    }
    is_early = (catalogue.name == "folder") & (np.abs(tables["t_first_us"] - spec.time_offset_us) < _LARGEST_LOW_US)
    is_sorted = (tables["num_inversions"] > 0) & (tables["t_last_us"] - tables["t_first_us"] >= _HALF_RANGE)
    rows = rows_of(catalogue.recordings.ids, cache.tables["events/id"])
    found: list[str] = []
    if catalogue.name == "folder":
        known = zip(catalogue.recordings, rows.tolist(), strict=True)
        found = [source.id for source, row in known if row >= 0 and _mixes_sensors(source)]
    reader = RecordingReader(catalogue, spec)
    for at in np.flatnonzero((rows >= 0) & (is_early | is_sorted)[rows]).tolist():
        source, row = catalogue.recordings[at], int(rows[at])
        if not (_lacks_times(source) if is_early[row] else source.file.lower().endswith(ARRAY_SUFFIXES)):
            continue
        with contextlib.suppress(EventError):
            facts = reader.open(source).facts
            stored = tuple(int(tables[name][row]) for name in ("t_first_us", "t_last_us", "num_kept"))
            if (facts.t_first, facts.t_last, facts.num_kept) != stored:
                found.append(source.id)
    return found


def outdated_images(catalogue: Catalogue, spec: PrepareSpec, cache: Cache) -> list[str]:
    """Return the ids of images that earlier versions read as stored and that are read as a viewer shows them now.

    Only the first ones that may differ are read again; where one of them differs, all that may are returned. Images of
    published datasets are upright and opaque, but for photographs. Earlier versions also baked an edge where an image
    ends on a fixed canvas; where some images differ in that, all are returned.

    Args:
        catalogue: The samples, with overrides applied.
        spec: The choices of the cache.
        cache: A cache of them.
    """
    suffixes = ("",) if catalogue.name == "folder" else (".jpg", ".jpeg")
    rows = rows_of(catalogue.images.ids, cache.tables["images/id"])
    converter = ImageConverter(catalogue, spec, {})
    others: list[str] = []
    is_outdated = False
    for source, row in zip(catalogue.images, rows.tolist(), strict=True):
        if row < 0 or source.item >= 0 or not source.file.lower().endswith(suffixes):
            continue
        with contextlib.suppress(ImageError):
            if is_seen_otherwise(source.path):
                others.append(source.id)
                if len(others) <= _READ_AGAIN:
                    is_outdated |= _differs(converter, source, int(cache.tables["images/frames_xxh3"][row]))
    if not is_outdated and is_baked_otherwise(cache):
        return [source.id for source in catalogue.images]
    return others if is_outdated else []


def is_baked_otherwise(cache: Cache) -> bool:
    """Return whether an earlier version baked the images of a cache, with an edge where they end on a fixed canvas.

    Up to 256 images are baked again from their stored intensity to find out; no source is read.

    Raises:
        CacheError: A frame was modified after it was written.
    """
    spec = cache.spec
    if spec.bake not in ("gradient", "saccade") or spec.canvas != "fixed":
        return False
    view = view_in(cache)
    heights, widths = (cache.tables[f"images/{side}_px"].tolist() for side in ("height", "width"))
    for row in evenly_spaced(len(cache.image_ids), _BAKED_AGAIN).tolist():
        one = np.array([row])
        seen = cache.finest_frames(one) if spec.bake == "saccade" else cache.image_frames(one)
        if (bake_changes(seen[0], (heights[row], widths[row]), view) != cache.image_spikes(one)[0]).any():
            return True
    return False


def _differs(converter: ImageConverter, source: Source, digest: int) -> bool:
    try:
        return checksum(converter.convert(source).frame) != digest
    except ImageError:
        return True


def _mixes_sensors(source: Source) -> bool:
    """Return whether an AEDAT 2.0 file holds the events of several sensors, which were read as those of one."""
    return source.file.lower().endswith(".aedat") and has_several_sensors(_start(source))


def _start(source: Source) -> bytes:
    with contextlib.suppress(EventError):
        return read_bytes(source.path, limit=_START_BYTES)
    return b""


def _lacks_times(source: Source) -> bool:
    """Return whether the first words of an EVT file hold events before a time word."""
    if not source.file.lower().endswith(".raw"):
        return False
    try:
        events = decode_evt_start(_start(source))
    except EventError:
        return False
    return TIMELESS in events.num_dropped
