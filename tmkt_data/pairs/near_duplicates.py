"""Images of val and test that look like one of an earlier split, such as another crop of a photograph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.sample_ids import evenly_spaced
from tmkt_data.spec import Protocol

HASH_ROWS, HASH_COLUMNS = 8, 8
MOST_BITS = 8
"""Bits of 64 in which the hashes of near-duplicates may differ."""
LEAST_CORRELATION = 0.97
MOST_IMAGES = 200_000
MOST_HELD_OUT = 4_000
_NEAREST = 16
_SHOWN = 5
_CHUNK = 256
_BITS_OF_BYTE = np.array([byte.bit_count() for byte in range(256)], np.uint8)


@dataclass(frozen=True)
class NearDuplicates:
    """Images of val and test that nearly equal an image of an earlier split, at the size of the cache.

    Attributes:
        num_images: Number of such images; copies of equal content do not count, see `Duplicates`.
        num_compared: Images of val and test that were compared, evenly spaced if there are more.
        examples: The most alike, such as `"ant/image_0001 (test) ~ ant/image_0009 (train), 0.998"`.
    """

    num_images: int
    num_compared: int
    examples: tuple[str, ...]


def difference_hashes(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the difference hash of intensity images: whether each cell is brighter than the one to its left.

    Args:
        images: Shape (N, H, W), uint8; H and W at least 4.

    Returns:
        One bit for each of 8 x 8 pairs of cells of 8 x 9, by their mean intensity, shape (N,), uint64.

    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013 (dHash).
    """
    _, height, width = images.shape
    sums = np.zeros((len(images), height + 1, width + 1), np.int64)
    sums[:, 1:, 1:] = images.cumsum(axis=1, dtype=np.int64).cumsum(axis=2)
    (top, bottom), (left, right) = _cells(height, HASH_ROWS), _cells(width, HASH_COLUMNS + 1)
    lines = sums[:, bottom] - sums[:, top]
    # Means and not sums, since cells may differ in size by a pixel.
    cells = (lines[:, :, right] - lines[:, :, left]) / np.outer(bottom - top, right - left)
    bits = np.packbits((cells[:, :, 1:] > cells[:, :, :-1]).reshape(len(images), -1), axis=1)
    return np.ascontiguousarray(bits).view(np.uint64).reshape(-1)


def _cells(size: int, num: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each cell along an axis begins and ends; they overlap where there are more cells than pixels."""
    first = np.arange(num) * size // num
    return first, np.maximum(first + 1, (np.arange(num) + 1) * size // num)


def find_near_duplicates(cache: Cache, protocol: Protocol) -> NearDuplicates | None:
    """Compare the images of val and test with those of earlier splits.

    Two images are near-duplicates if their difference hashes differ in at most 8 of 64 bits and their stored
    intensities correlate by 0.97 or more. Of each image, the 16 nearest by hash are compared.

    Args:
        cache: The cache.
        protocol: The split rule.

    Returns:
        What was found; None for more than 200,000 images, which would take minutes.

    Raises:
        CacheError: The frames cannot be read.
    """
    codes = cache.splits("images", protocol)
    if len(codes) > MOST_IMAGES:
        return None
    held_out = np.flatnonzero(codes > SplitCode.TRAIN)
    held_out = held_out[evenly_spaced(len(held_out), MOST_HELD_OUT)]
    hashes = np.concatenate([np.zeros(0, np.uint64), *map(difference_hashes, _frames(cache, np.arange(len(codes))))])
    found: list[tuple[float, str]] = []
    for row in held_out.tolist():
        distances = _num_bits(hashes ^ hashes[row])
        near = np.flatnonzero((distances <= MOST_BITS) & (codes < codes[row]) & (codes >= SplitCode.TRAIN))
        near = near[_differs(cache, near, row)]
        near = near[np.argsort(distances[near], kind="stable")[:_NEAREST]]
        if not len(near):
            continue
        alike = _correlations(cache.image_frames(np.array([row]))[0], cache.image_frames(near))
        best = int(alike.argmax())
        if alike[best] >= LEAST_CORRELATION:
            pair = " ~ ".join(f"{cache.image_ids[at]} ({_name(codes[at])})" for at in (row, int(near[best])))
            found.append((float(alike[best]), f"{pair}, {alike[best]:.3f}"))
    found.sort(key=lambda pair: -pair[0])
    return NearDuplicates(len(found), len(held_out), tuple(text for _, text in found[:_SHOWN]))


def _num_bits(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return the number of bits that are set, shape (N,); NumPy 1 has no function for it."""
    return np.asarray(_BITS_OF_BYTE[words.view(np.uint8).reshape(-1, 8)].sum(axis=1, dtype=np.uint8))


def _frames(cache: Cache, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    for first in range(0, len(rows), _CHUNK):
        yield cache.image_frames(rows[first : first + _CHUNK])


def _differs(cache: Cache, rows: NDArray[np.int64], row: int) -> NDArray[np.bool_]:
    """Return which images are of other content than the one of a row."""
    sizes, digests = cache.tables["images/source_bytes"], cache.tables["images/source_xxh3"]
    return np.asarray((digests[rows] != digests[row]) | (sizes[rows] != sizes[row]), bool)


def _correlations(image: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the Pearson correlation of an image with others, shape (M,); 0 where one of them is uniform."""
    flat = np.concatenate([image[None], others]).reshape(1 + len(others), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1)
    scale = norms[0] * norms[1:]
    return np.asarray(np.divide(flat[1:] @ flat[0], scale, out=np.zeros(len(others)), where=scale > 0), np.float64)


def _name(code: int) -> str:
    return SplitCode(code).name.lower()
