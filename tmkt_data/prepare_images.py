"""Convert a block of images into the arrays that the cache stores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.building import Block
from tmkt_data.cache.layout import IMAGE_TABLES, SPIKE_TABLES
from tmkt_data.checksums import checksum
from tmkt_data.datasets.catalogue import Catalogue, Source
from tmkt_data.encode import frame_of_pixels, image_frame, poisson_frames, smallest_pixels
from tmkt_data.io.images import DecodedImage
from tmkt_data.prepare_blocks import convert_all, empty_block
from tmkt_data.random_keys import Purpose, draw_key, sample_uid
from tmkt_data.source_reader import Archives, canvas_of, read_pixels
from tmkt_data.spec import PrepareSpec


def convert_images(
    sources: Sequence[Source],
    catalogue: Catalogue,
    spec: PrepareSpec,
    *,
    skip_bad: bool = False,
    archives: Archives | None = None,
) -> Block:
    """Decode some images, place and resize them, and reduce them to intensity; as `convert_recordings`.

    Args:
        sources: Images of the block.
        catalogue: Where sensor size and placement are taken from.
        spec: Choices of the cache.
        skip_bad: Leave unreadable images out instead of raising.
        archives: Archives read so far, by path, kept from block to block.

    Raises:
        UnreadableSourcesError: With every image of the block that could not be read.
    """
    arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {"frames": ((spec.size, spec.size), np.dtype("u1"))}
    columns = {name: kind for name, kind in IMAGE_TABLES.items() if name != "label"}
    if spec.bake != "none":
        arrays["spikes"] = ((spec.time_bins, spec.num_channels, spec.size, spec.size), np.dtype("u1"))
        columns |= SPIKE_TABLES
    block = empty_block(len(sources), columns, arrays)
    known = {} if archives is None else archives

    def convert(source: Source, at: int) -> dict[str, int]:
        return _convert_image(source, catalogue, spec, block, at, known)

    return convert_all("images", sources, block, convert, "files", skip_bad=skip_bad)


def _convert_image(
    source: Source,
    catalogue: Catalogue,
    spec: PrepareSpec,
    block: Block,
    at: int,
    archives: Archives,
) -> dict[str, int]:
    image, data, frame = _read_frame(source, catalogue, spec, archives)
    block["frames"][at] = frame
    facts = {
        "height_px": image.height,
        "width_px": image.width,
        "source_bytes": len(data),
        "source_xxh3": checksum(data),
        "frames_xxh3": checksum(frame),
    }
    if spec.bake != "none":
        block["spikes"][at] = bake_spikes(frame, source.id, spec)
        facts["spikes_xxh3"] = checksum(block["spikes"][at])
    return facts


def _read_frame(
    source: Source, catalogue: Catalogue, spec: PrepareSpec, archives: Archives
) -> tuple[DecodedImage, bytes, NDArray[np.uint8]]:
    sensor_size, placement = canvas_of(catalogue, spec) if spec.canvas == "fixed" else (None, None)
    where: dict[str, Any] = {
        "height": spec.size,
        "width": spec.size,
        "sensor_size": sensor_size,
        "placement": placement,
    }
    if spec.image_decode == "full":
        image, data = read_pixels(source, archives)
        frame = image_frame(image.pixels, channel=spec.image_channel, **where)
    else:
        image, data = read_pixels(source, archives, partial(smallest_pixels, **where))
        frame = frame_of_pixels(image.pixels, image.extent, channel=spec.image_channel, **where)
    return image, data, frame


def bake_spikes(frame: NDArray[np.uint8], sample_id: str, spec: PrepareSpec) -> NDArray[np.uint8]:
    """Return the spike frames of one image as they are stored, shape (T, C, H, W), uint8.

    `poisson`: 0 or 1, drawn once with seed 0, epoch 0. `repeat`: the intensity itself, 0 to 255.
    """
    if spec.bake == "poisson":
        key = draw_key(0, 0, sample_uid(sample_id), 0, Purpose.POISSON)
        return poisson_frames(frame, spec.time_bins, spec.num_channels, key=np.uint64(key)).astype(np.uint8)
    return np.broadcast_to(frame, (spec.time_bins, spec.num_channels, *frame.shape))
