"""Read the images of a catalogue, from files of their own or from archives of many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import EventError, ImageError
from tmkt_data.events.stream import checksum_of
from tmkt_data.files import checksum, read_bytes
from tmkt_data.images.archives import read_archive
from tmkt_data.images.decode import DecodedImage, SmallestPixels, decode_scaled

Archives = dict[Path, NDArray[np.uint8]]


def read_pixels(
    source: Source, archives: Archives, smallest: SmallestPixels | None = None
) -> tuple[DecodedImage, bytes]:
    """Return a decoded image and its source bytes.

    Args:
        source: The image.
        archives: Cache of opened archives by path; new ones are added.
        smallest: See `decode_scaled`.

    Raises:
        ImageError: The image cannot be read.
    """
    data = source_bytes(source, archives)
    if source.item < 0:
        return decode_scaled(data, smallest, place=source.path.name), data
    return DecodedImage.of(archive_of(source.path, archives)[source.item]), data


def source_bytes(source: Source, archives: Archives) -> bytes:
    """Return the bytes of a source: its file, or its image in an archive; errors as in `read_pixels`."""
    if source.item < 0:
        return read_bytes(source.path, error=ImageError)
    return bytes(archive_of(source.path, archives)[source.item].tobytes())


def source_checksum(source: Source, archives: Archives) -> int:
    """Return the checksum of the bytes of a source; errors as in `read_pixels`."""
    if source.item < 0:
        try:
            return checksum_of(source.path)
        except EventError as broken:
            raise ImageError(str(broken)) from None
    return checksum(source_bytes(source, archives))


def archive_of(path: Path, archives: Archives) -> NDArray[np.uint8]:
    """Return the images of an archive, which is read only once; errors as in `read_archive`."""
    if path not in archives:
        archives[path] = read_archive(path)
    return archives[path]
