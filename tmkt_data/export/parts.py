"""What of a cache is exported: recordings and images of each split, in shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.format import PIECE_OF_ROWS, rows_within
from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.splits import SPLIT_CODES

_READ_ROWS = 256
"""Rows read at a time, at most."""


class Part(NamedTuple):
    """One side of one split.

    Attributes:
        side: `"events"` or `"images"`.
        split: `"train"`, `"val"` or `"test"`.
        rows: Rows of the side in the cache, in order, int64.
        dtype: Smallest type that holds its arrays: uint8, uint16 or uint32 for counts, float32 for other frames,
            uint8 for intensities.
        shape: Shape of one array: (T, C, H, W) of a recording, (H, W) of an image.
    """

    side: str
    split: str
    rows: NDArray[np.int64]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one array."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def rows_within(self, num_bytes: int, most: int, dtype: np.dtype[Any] | None = None) -> int:
        """Return how many arrays, of another type where one is given, have at most so many bytes; one or more."""
        itemsize = (self.dtype if dtype is None else dtype).itemsize
        return rows_within(num_bytes, int(np.prod(self.shape)) * itemsize, most)

    def shards(self, shard_bytes: int) -> list[NDArray[np.int64]]:
        """Return the rows of each shard; a shard holds one row or more."""
        per_shard = max(1, shard_bytes // self.row_bytes)
        return [self.rows[start : start + per_shard] for start in range(0, len(self.rows), per_shard)]


class Sample(NamedTuple):
    """One exported sample; `array` has the shape and dtype of its part."""

    id: str
    label: int
    class_name: str
    array: NDArray[Any]


def parts_of(cache: Cache, protocol: str) -> list[Part]:
    """Return the parts of a cache that have rows.

    Raises:
        CacheError: The cache has no such protocol.
    """
    spec = cache.spec
    shapes = {
        "events": (spec.time_bins, spec.num_channels, spec.size, spec.size),
        "images": (spec.size, spec.size),
    }
    dtypes = {"events": _event_dtype(cache), "images": np.dtype(np.uint8)}
    found = []
    for side, shape in shapes.items():
        codes = cache.splits(side, protocol)
        for split, code in SPLIT_CODES.items():
            rows = np.flatnonzero(codes == code)
            if len(rows):
                found.append(Part(side, split, rows, dtypes[side], shape))
    return found


def _event_dtype(cache: Cache) -> np.dtype[Any]:
    if cache.arrays["events/frames"].dtype != np.uint8:
        return np.dtype(np.float32)
    counts = cache.tables["events/overflow_count"]
    return np.min_scalar_type(int(counts.max())) if len(counts) else np.dtype(np.uint8)


def samples(cache: Cache, part: Part, rows: NDArray[np.int64]) -> Iterator[Sample]:
    """Yield the samples of some rows of a part, in order.

    Raises:
        CacheError: A frame was modified after it was written.
    """
    labels = cache.tables[f"{part.side}/label"]
    ids = cache.event_ids if part.side == "events" else cache.image_ids
    read = cache.event_frames if part.side == "events" else cache.image_frames
    # Counts are read as float32.
    at_once = part.rows_within(PIECE_OF_ROWS, _READ_ROWS, np.dtype(np.float32 if part.side == "events" else np.uint8))
    for start in range(0, len(rows), at_once):
        chosen = rows[start : start + at_once]
        for row, array in zip(chosen.tolist(), read(chosen), strict=True):
            label = int(labels[row])
            yield Sample(ids[row], label, cache.class_names[label], array.astype(part.dtype))
