"""The cache format, version 3: names, types, the leading block and the digests. See docs/cache-format.md.

A cache is an HDF5 file behind a leading block of 512 bytes of text, which HDF5 ignores (its "user block"). The block
holds the size and a digest of everything after it, so a truncated or modified file is detected without HDF5.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import CacheError
from tmkt_data.sample_ids import bytes_of, texts_of
from tmkt_data.spec import CACHE_FORMAT, PrepareSpec

FORMAT = CACHE_FORMAT
FORMAT_VERSION = 3
LEADING_BYTES = 512

EVENT_TABLES: dict[str, str] = {
    "label": "<i4",
    "twin": "<i8",
    "t_first_us": "<i8",
    "t_last_us": "<i8",
    "num_read": "<i8",
    "num_kept": "<i8",
    "num_outside_sensor": "<i8",
    "num_no_event": "<i8",
    "num_outside_bins": "<i8",
    "num_inversions": "<i8",
    "source_bytes": "<i8",
    "source_xxh3": "<u8",
    "frames_xxh3": "<u8",
}
FILTER_TABLES: dict[str, str] = {"num_hot_pixels": "<i8", "num_refractory_us": "<i8", "num_background_us": "<i8"}
"""Events dropped by each filter; only in caches whose recordings were filtered."""
IMAGE_TABLES: dict[str, str] = {
    "label": "<i4",
    "height_px": "<i4",
    "width_px": "<i4",
    "source_bytes": "<i8",
    "source_xxh3": "<u8",
    "frames_xxh3": "<u8",
}
SPIKE_TABLES: dict[str, str] = {"spikes_xxh3": "<u8"}
FINE_TABLES: dict[str, str] = {"fine_xxh3": "<u8"}
OVERFLOW_TABLES: dict[str, str] = {"overflow_start": "<i8", "overflow_cell": "<i8", "overflow_count": "<u4"}

Table = NDArray[Any]


PIECE_OF_ROWS = 1 << 26
"""Bytes of the rows that are handled at a time, where these are more than one."""


class FrameArray(NamedTuple):
    """An array of frames: its HDF5 path, shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def side(self) -> str:
        """Its side, `"events"` or `"images"`."""
        return self.name.partition("/")[0]

    @property
    def kind(self) -> str:
        """Its content, `"frames"`, `"spikes"` or `"fine"`."""
        return self.name.partition("/")[2]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        return self.shape[0] * self.row_bytes

    def with_rows(self, num_rows: int) -> FrameArray:
        """Return the same array with another number of rows."""
        return self._replace(shape=(num_rows, *self.shape[1:]))


def rows_within(num_bytes: int, row_bytes: int, most: int) -> int:
    """Return how many rows of `row_bytes` each are handled at a time: up to `num_bytes`, from 1 to `most` rows.

    Example:
        >>> rows_within(1000, 300, 256), rows_within(1000, 3000, 256), rows_within(1000, 1, 256)
        (3, 1, 256)
    """
    return max(1, min(most, num_bytes // row_bytes))


def row_pieces(array: FrameArray, most: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of an array in order, up to `most` and `PIECE_OF_ROWS` bytes at a time."""
    at_once = rows_within(PIECE_OF_ROWS, array.row_bytes, most)
    for first in range(0, array.shape[0], at_once):
        yield np.arange(first, min(first + at_once, array.shape[0]))


def frame_arrays(spec: PrepareSpec, num_recordings: int, num_images: int) -> list[FrameArray]:
    """Return the frame arrays of a cache with these options, in the order in which they are written.

    Counts with `sum` are stored as bytes, with larger counts in a separate table; weighted counts as float16, with a
    relative error of at most 2**-11; voxel grids as float32.
    """
    counts = np.dtype("u1") if spec.resize == "sum" else np.dtype("<f2")
    sequence = (spec.time_bins, spec.num_channels, spec.size, spec.size)
    arrays = [
        FrameArray(
            "events/frames", (num_recordings, *sequence), np.dtype("<f4") if spec.representation == "voxel" else counts
        ),
        FrameArray("images/frames", (num_images, spec.size, spec.size), np.dtype("u1")),
    ]
    if spec.bake != "none":
        arrays.append(FrameArray("images/spikes", (num_images, *sequence), np.dtype("u1")))
    if spec.image_scale > 1:
        side = spec.size * spec.image_scale
        arrays.append(FrameArray("images/fine", (num_images, side, side), np.dtype("u1")))
    return arrays


def image_tables(spec: PrepareSpec) -> dict[str, str]:
    """Return name and type of the tables of the image side of a cache with these options, beside ids and splits."""
    spikes = SPIKE_TABLES if spec.bake != "none" else {}
    return IMAGE_TABLES | spikes | (FINE_TABLES if spec.image_scale > 1 else {})


class LeadingBlock(NamedTuple):
    """The first 512 bytes of a cache, which describe the rest.

    Attributes:
        version: Format version.
        num_bytes: Size of the whole file.
        pieces: Digest of everything after the block, see `PieceDigests`, 64 hexadecimal digits.
        digest: Content digest, see `ContentDigest`.
    """

    version: int
    num_bytes: int
    pieces: str
    digest: str


def encode_leading_block(block: LeadingBlock) -> bytes:
    """Encode the leading block: text lines, their CRC-32, and padding to 512 bytes."""
    text = (
        f"{FORMAT} {block.version}\n"
        f"digest {block.digest}\n"
        f"bytes {block.num_bytes}\n"
        f"pieces {block.pieces}\n"
        "An HDF5 file follows this block; read it with tmkt-data inspect, or with any HDF5 library.\n"
    )
    line = f"crc32 {zlib.crc32(text.encode()):08x}\n"
    return (text + line).encode().ljust(LEADING_BYTES - 1) + b"\n"


_LEADING = re.compile(
    rb"tmkt-cache (?P<version>\d{1,9})\ndigest (?P<digest>[0-9a-f]{64})\n"
    rb"bytes (?P<bytes>\d{1,18})\npieces (?P<pieces>[0-9a-f]{64})\n"
)


def starts_a_cache(data: bytes) -> bool:
    """Return whether a file that starts with these bytes is a cache of any version."""
    return data.startswith(f"{FORMAT} ".encode())


def refuse_cache(path: Path, expected: str) -> None:
    """Refuse a cache where the user was to give something that caches are made of.

    Raises:
        CacheError: The path is that of a cache.
    """
    with suppress(OSError), path.open("rb") as file:
        if starts_a_cache(file.read(LEADING_BYTES)):
            raise CacheError(
                f"{path}: a cache of tmkt-data prepare, expected {expected}; see what it holds with tmkt-data inspect "
                "or tmkt-data preview"
            )


def decode_leading_block(data: bytes, place: str) -> LeadingBlock:
    """Decode the leading block.

    Raises:
        CacheError: Not a cache, another format version, or a damaged block.
    """
    if not starts_a_cache(data):
        raise CacheError(f"{place}: not a tmkt cache; make one with tmkt-data prepare")
    found = _LEADING.match(data)
    if found is None or len(data) < LEADING_BYTES:
        raise CacheError(f"{place}: the first {LEADING_BYTES} bytes are damaged or truncated; prepare it again")
    version = int(found["version"])
    if version != FORMAT_VERSION:
        raise CacheError(f"{place}: cache format {version}, this tmkt reads format {FORMAT_VERSION}; prepare it again")
    block = LeadingBlock(version, int(found["bytes"]), found["pieces"].decode(), found["digest"].decode())
    if encode_leading_block(block) != data[:LEADING_BYTES]:
        raise CacheError(f"{place}: the first {LEADING_BYTES} bytes are damaged; prepare it again")
    return block


class ContentDigest:
    """SHA-256 over the header and all tables, including the checksum of every frame.

    The tool version is excluded, so the same content always has the same digest.

    Args:
        header: Attributes of the file, text by name.
    """

    def __init__(self, header: Mapping[str, str]) -> None:
        self._digest = hashlib.sha256()
        for name in sorted(set(header) - {"tool_version"}):
            self._digest.update(f"{name}={header[name]}\0".encode())

    def add(self, name: str, table: Table) -> None:
        """Add the next table, sorted by its HDF5 path."""
        self.add_pieces(name, table, [np.ascontiguousarray(table).reshape(-1).view(np.uint8).data])

    def add_pieces(self, name: str, table: Table, pieces: Iterable[memoryview]) -> None:
        """Add the next table, given its bytes piece by piece; of `table`, only type and shape are used."""
        self._digest.update(f"{name}:{table.dtype.str}:{table.shape}\0".encode())
        for piece in pieces:
            self._digest.update(piece)

    def hexdigest(self) -> str:
        """Return the digest, 64 hexadecimal digits."""
        return self._digest.hexdigest()


def content_digest(header: Mapping[str, str], tables: Mapping[str, Table]) -> str:
    """Return the `ContentDigest` of a header and of all tables, by their HDF5 path."""
    digest = ContentDigest(header)
    for name in sorted(tables):
        digest.add(name, tables[name])
    return digest.hexdigest()


def text_table(values: Sequence[str]) -> Table:
    """Return text as a table of fixed-width UTF-8 bytes."""
    return bytes_of(values)


def table_text(table: Table) -> tuple[str, ...]:
    """Return the text of a table written by `text_table`."""
    return tuple(texts_of(table))
