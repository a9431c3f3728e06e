"""Convert a block of recordings or images into the arrays that the cache stores."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.building import Block
from tmkt_data.cache.layout import EVENT_TABLES, IMAGE_TABLES
from tmkt_data.datasets.catalogue import Catalogue, Source
from tmkt_data.encode import image_frame, poisson_frames
from tmkt_data.errors import EventError, ImageError, TmktError
from tmkt_data.io.files import read_bytes
from tmkt_data.io.images import decode_image, read_idx
from tmkt_data.io.read import decode_events
from tmkt_data.random_keys import Purpose, draw_key, sample_uid
from tmkt_data.spec import PrepareSpec
from tmkt_data.voxelize import event_frames

LARGEST_BYTE = 255


class UnreadableSourcesError(TmktError):
    """Sources that could not be decoded.

    Attributes:
        problems: One line each, by sample id.
    """

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems


def frames_dtype(spec: PrepareSpec) -> np.dtype[Any]:
    """Return how event frames are stored.

    Counts under `sum` are bytes, with larger counts in a table beside them. Weighted counts are float16, a relative
    error of at most 2**-11. Voxel grids are float32.
    """
    if spec.representation == "voxel":
        return np.dtype("<f4")
    return np.dtype("u1") if spec.resize == "sum" else np.dtype("<f2")


def convert_recordings(sources: Sequence[Source], catalogue: Catalogue, spec: PrepareSpec) -> Block:
    """Decode, bin and resize some recordings.

    Args:
        sources: Recordings of the block.
        catalogue: Where the sensor size is taken from.
        spec: Choices of the cache.

    Returns:
        `frames`, the columns of `EVENT_TABLES` but label and twin, and the cells whose count exceeds a byte.

    Raises:
        UnreadableSourcesError: With every recording of the block that could not be read.
    """
    shape = (spec.time_bins, spec.num_channels, spec.size, spec.size)
    block: Block = {name: np.zeros(len(sources), dtype) for name, dtype in EVENT_TABLES.items()}
    block["frames"] = np.zeros((len(sources), *shape), frames_dtype(spec))
    block["overflow_length"] = np.zeros(len(sources), np.int64)
    cells: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.uint32]] = []
    problems: dict[str, str] = {}
    for at, source in enumerate(sources):
        try:
            frames = _convert_recording(source, catalogue, spec, block, at)
        except EventError as problem:
            problems[source.id] = f"{source.id}: {problem}"
            continue
        if block["frames"].dtype == np.uint8:
            flat = frames.reshape(-1)
            over = np.flatnonzero(flat > LARGEST_BYTE)
            cells.append(over)
            counts.append(flat[over].astype(np.uint32))
            block["overflow_length"][at] = len(over)
            frames = np.minimum(frames, LARGEST_BYTE)
        block["frames"][at] = frames
        block["frames_crc32"][at] = zlib.crc32(block["frames"][at])
    if problems:
        raise UnreadableSourcesError(problems)
    block["overflow_cell"] = np.concatenate(cells) if cells else np.zeros(0, np.int64)
    block["overflow_count"] = np.concatenate(counts) if counts else np.zeros(0, np.uint32)
    return block


def _convert_recording(source: Source, catalogue: Catalogue, spec: PrepareSpec, block: Block, at: int) -> NDArray[Any]:
    data = read_bytes(source.path)
    events = decode_events(data, source.path, sensor_size=catalogue.sensor_size)
    if not len(events):
        raise EventError(f"{source.path.name}: none of {events.num_read} events lies on the sensor; fetch it again")
    result = event_frames(
        events,
        num_bins=spec.time_bins,
        height=spec.size,
        width=spec.size,
        bin_rule=spec.bin_rule,
        canvas=spec.canvas,
        resize=spec.resize,
        representation=spec.representation,
        sensor_size=catalogue.sensor_size,
    )
    block["t_first_us"][at] = events.t[0]
    block["t_last_us"][at] = events.t[-1]
    block["num_read"][at] = events.num_read
    block["num_kept"][at] = len(events)
    block["num_outside_sensor"][at] = sum(events.num_dropped.values())
    block["num_outside_bins"][at] = result.num_outside_bins
    block["num_inversions"][at] = events.num_inversions
    block["source_bytes"][at] = len(data)
    block["source_crc32"][at] = zlib.crc32(data)
    return result.frames


def convert_images(sources: Sequence[Source], catalogue: Catalogue, spec: PrepareSpec) -> Block:
    """Decode some images, place and resize them, and reduce them to intensity; arguments as `convert_recordings`.

    Raises:
        UnreadableSourcesError: With every image of the block that could not be read.
    """
    block: Block = {name: np.zeros(len(sources), dtype) for name, dtype in IMAGE_TABLES.items()}
    block["frames"] = np.zeros((len(sources), spec.size, spec.size), np.uint8)
    if spec.bake != "none":
        shape = (len(sources), spec.time_bins, spec.num_channels, spec.size, spec.size)
        block["spikes"] = np.zeros(shape, np.uint8)
        block["spikes_crc32"] = np.zeros(len(sources), "<u4")
    archives: dict[Path, NDArray[np.uint8]] = {}
    problems: dict[str, str] = {}
    for at, source in enumerate(sources):
        try:
            _convert_image(source, catalogue, spec, block, at, archives)
        except ImageError as problem:
            problems[source.id] = f"{source.id}: {problem}"
    if problems:
        raise UnreadableSourcesError(problems)
    return block


def _convert_image(
    source: Source,
    catalogue: Catalogue,
    spec: PrepareSpec,
    block: Block,
    at: int,
    archives: dict[Path, NDArray[np.uint8]],
) -> None:
    data = source_bytes(source, archives)
    if source.item < 0:
        rgb = decode_image(data, place=source.path.name)
    else:
        rgb = np.repeat(archives[source.path][source.item][:, :, None], 3, axis=2)
    fixed = spec.canvas == "fixed"
    frame = image_frame(
        rgb,
        height=spec.size,
        width=spec.size,
        channel=spec.image_channel,
        sensor_size=catalogue.sensor_size if fixed else None,
        placement=catalogue.placement if fixed else None,
    )
    block["frames"][at] = frame
    block["height_px"][at], block["width_px"][at] = rgb.shape[:2]
    block["source_bytes"][at] = len(data)
    block["source_crc32"][at] = zlib.crc32(data)
    block["frames_crc32"][at] = zlib.crc32(block["frames"][at])
    if spec.bake != "none":
        block["spikes"][at] = bake_spikes(frame, source.id, spec)
        block["spikes_crc32"][at] = zlib.crc32(block["spikes"][at])


def bake_spikes(frame: NDArray[np.uint8], sample_id: str, spec: PrepareSpec) -> NDArray[np.uint8]:
    """Return the spike frames of one image as they are stored, shape (T, C, H, W), uint8.

    `poisson`: 0 or 1, drawn once with seed 0, epoch 0. `repeat`: the intensity itself, 0 to 255.
    """
    if spec.bake == "poisson":
        key = draw_key(0, 0, sample_uid(sample_id), 0, Purpose.POISSON)
        return poisson_frames(frame, spec.time_bins, spec.num_channels, key=np.uint64(key)).astype(np.uint8)
    return np.broadcast_to(frame, (spec.time_bins, spec.num_channels, *frame.shape))


def source_bytes(source: Source, archives: dict[Path, NDArray[np.uint8]]) -> bytes:
    """Return the bytes that make a source what it is: its file, or its part of an IDX archive.

    Args:
        source: Recording or image.
        archives: Archives read so far, by path; a new one is added.

    Raises:
        ImageError: The file cannot be read.
    """
    if source.item < 0:
        return read_bytes(source.path, error=ImageError)
    if source.path not in archives:
        archives[source.path] = read_idx(source.path, 3)
    return bytes(archives[source.path][source.item].tobytes())
