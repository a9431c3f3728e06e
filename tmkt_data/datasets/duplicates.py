"""Samples of the same content under other names, which splits drawn by name would put on both sides of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.splits import SplitCode
from tmkt_data.errors import counted
from tmkt_data.sample_ids import decode_id

_SHOWN = 2
_NOUNS = {"events": "recording", "images": "image"}


class SideContents(NamedTuple):
    """The contents of one side.

    Attributes:
        ids: Sample ids, sorted bytewise, shape (N,), bytes.
        sizes: Bytes of each source, shape (N,), int64.
        digests: XXH3-64 of the source of each, shape (N,), uint64.
        codes: `SplitCode` of each, shape (N,), uint8.
    """

    ids: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    digests: NDArray[np.uint64]
    codes: NDArray[np.uint8]

    @classmethod
    def of(cls, tables: Mapping[str, NDArray[Any]], side: str, protocol: str) -> SideContents:
        """Return a side of the tables of a cache, by their HDF5 path."""
        names = ("id", "source_bytes", "source_xxh3", f"split/{protocol}")
        return cls(*(tables[f"{side}/{name}"] for name in names))


class Duplicates(NamedTuple):
    """Val and test samples whose content is also in an earlier split: val and test in train, or test in val.

    Attributes:
        recordings: Number of such recordings.
        images: Number of such images.
        examples: The first two of them, such as `"recording wave/a (test) = wave/b (train)"`.
        repeated_recordings: Recordings with the content of another one, in whatever split.
        repeated_images: The same for images.
    """

    recordings: int = 0
    images: int = 0
    examples: tuple[str, ...] = ()
    repeated_recordings: int = 0
    repeated_images: int = 0

    @property
    def text(self) -> str:
        """What is duplicated across splits, on one line; empty for nothing."""
        sides = ((self.recordings, "recording"), (self.images, "image"))
        nouns = " and ".join(counted(num, noun) for num, noun in sides if num)
        if not nouns:
            return ""
        one = self.recordings + self.images == 1
        return (
            f"{nouns} of val or test {'has' if one else 'have'} the content of one in another split, such as "
            f"{', '.join(self.examples)}"
        )


NO_DUPLICATES = Duplicates()


def equal_rows(sizes: NDArray[np.int64], digests: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """Return the rows of each content that occurs more than once, ascending, in the order of their first rows.

    Example:
        >>> equal_rows(np.array([5, 6, 5, 6]), np.array([9, 9, 9, 8], np.uint64))
        [array([0, 2])]
    """
    order = np.lexsort((digests, sizes))
    same = (sizes[order][1:] == sizes[order][:-1]) & (digests[order][1:] == digests[order][:-1])
    groups = np.split(order, np.flatnonzero(~same) + 1) if same.any() else []
    return sorted((np.sort(group) for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def find_duplicates(events: SideContents, images: SideContents) -> Duplicates:
    """Count the samples of val and test whose content is in an earlier split too.

    Samples outside every split do not count. An image is in the split of its recording, or in train without one.

    Args:
        events: The recordings.
        images: The images.
    """
    numbers, examples, repeated = [], [], []
    for name, side in (("events", events), ("images", images)):
        groups = equal_rows(side.sizes, side.digests)
        late = [_later(rows, side.codes) for rows in groups]
        numbers.append(sum(map(len, late)))
        repeated.append(sum(map(len, groups)))
        crossing = [(rows, found) for rows, found in zip(groups, late, strict=True) if len(found)]
        examples += [_example(name, side, rows, found) for rows, found in crossing[:_SHOWN]]
    return Duplicates(numbers[0], numbers[1], tuple(examples[:_SHOWN]), repeated[0], repeated[1])


def _later(rows: NDArray[np.int64], codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the rows of equal content that are in a later split than the first that holds it."""
    used = rows[codes[rows] != SplitCode.UNUSED]
    return np.asarray(used[codes[used] > codes[used].min()] if len(used) else used, np.int64)


def _example(name: str, side: SideContents, rows: NDArray[np.int64], late: NDArray[np.int64]) -> str:
    used = rows[side.codes[rows] != SplitCode.UNUSED]
    pair = (int(late[0]), int(used[np.argmin(side.codes[used])]))
    one, other = (f"{decode_id(side.ids[row])} ({SplitCode(side.codes[row]).name.lower()})" for row in pair)
    return f"{_NOUNS[name]} {one} = {other}"


def keep_together(
    events: SideContents, images: SideContents, twins: NDArray[np.int64], *, is_published: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Move samples of equal content into one split, along with their twins.

    They go to the split of the recording that is first by id; where some of them are in a published val or test split,
    to the latest of these. Samples outside every split stay there.

    Args:
        events: The recordings and the splits as drawn.
        images: The images.
        twins: Row of the twin image of each recording, -1 for none, shape (N,).
        is_published: Whether the split of each recording is the published one, shape (N,), bool.

    Returns:
        `SplitCode` of each recording and of each image.
    """
    event_codes, image_codes = events.codes.copy(), images.codes.copy()
    for rows, pictures in _families(events, images, twins):
        used = rows[event_codes[rows] != SplitCode.UNUSED]
        if not len(used):
            continue
        fixed = event_codes[used][is_published[used] & (event_codes[used] > SplitCode.TRAIN)]
        code = fixed.max() if len(fixed) else event_codes[used[0]]
        event_codes[used] = code
        image_codes[pictures[image_codes[pictures] != SplitCode.UNUSED]] = code
    return event_codes, image_codes


def _families(
    events: SideContents, images: SideContents, twins: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the rows of recordings and images that are linked by equal content or as twins, where any are equal."""
    num_events = len(events.ids)
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    def link(nodes: Sequence[int]) -> None:
        for node in nodes[1:]:
            one, other = sorted((root(nodes[0]), root(node)))
            parent[other] = one

    # Images are numbered after the recordings.
    for side, first in ((events, 0), (images, num_events)):
        for rows in equal_rows(side.sizes, side.digests):
            link((rows + first).tolist())
    with_twin = np.flatnonzero(twins >= 0)
    for row, image in zip(with_twin.tolist(), (twins[with_twin] + num_events).tolist(), strict=True):
        if row in parent or image in parent:
            link((row, image))
    families: dict[int, list[int]] = {}
    for node in sorted(parent):
        families.setdefault(root(node), []).append(node)
    members = (np.array(nodes, np.int64) for nodes in families.values())
    return [(nodes[nodes < num_events], nodes[nodes >= num_events] - num_events) for nodes in members]


def duplicates_in(tables: Mapping[str, NDArray[Any]], protocol: str) -> Duplicates:
    """Return the duplicates across the splits of a protocol, given the tables of a cache."""
    return find_duplicates(*(SideContents.of(tables, side, protocol) for side in ("events", "images")))
