"""The splits of both sides of a cache, with samples of equal content kept apart, together, or refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.duplicates import Duplicates, SideContents, find_duplicates, keep_together
from tmkt_data.datasets.image_reader import source_checksum
from tmkt_data.datasets.source_table import SourceTable
from tmkt_data.datasets.splits import SplitRule, split_images, split_recordings
from tmkt_data.errors import CatalogueError, ImageError
from tmkt_data.sample_ids import rows_of
from tmkt_data.spec import DuplicateRule, PrepareSpec, Protocol

REFUSED: Protocol = "twin-disjoint"
"""The protocol whose duplicates are refused; `kt-paper` is the rule of a publication."""

Codes = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def duplicate_rule(catalogue: Catalogue, spec: PrepareSpec) -> DuplicateRule:
    """Return what is done with samples of equal content in different splits.

    Splits that a dataset publishes are used as they are, for comparable figures. In a dataset of one's own, a copy is
    most likely a mistake, and figures on it are wrong.
    """
    if spec.duplicates is not None:
        return spec.duplicates
    return "keep" if _is_published(catalogue) and spec.test_share is None else "refuse"


def _is_published(catalogue: Catalogue) -> bool:
    return catalogue.split_layout != "drawn" or bool((catalogue.recordings.parts != "").any())


def split_sides(
    catalogue: Catalogue,
    spec: PrepareSpec,
    protocol: Protocol,
    recordings: SourceTable,
    sides: list[SideContents],
    drawn_over: SourceTable | None = None,
) -> Codes:
    """Return the `SplitCode` of each recording and of each image.

    Args:
        catalogue: The dataset.
        spec: The options.
        protocol: The split rule.
        recordings: The recordings that are in the cache.
        sides: Contents of these and of the images in the cache; the splits in them do not matter.
        drawn_over: All recordings of a dataset of which these are a shard; None: these.

    Raises:
        CatalogueError: Samples of equal content are in different splits, and that is to be refused.
    """
    rule = SplitRule(protocol, catalogue.split_layout, spec.split_seed, spec.val_share, spec.test_share)
    over = recordings if drawn_over is None else drawn_over
    # Of a shard, only its classes: drawing all of them again for each shard would take longer than the rest.
    only = None if drawn_over is None else frozenset(recordings.labels.tolist())
    codes = split_recordings(over.ids, over.labels, over.parts, rule, only)
    if drawn_over is not None:
        codes = codes[rows_of(recordings.ids, over.ids)]
    events, images = (
        side._replace(codes=side_codes)
        for side, side_codes in zip(sides, (codes, split_images(sides[1].ids, sides[0].ids, codes)), strict=True)
    )
    match duplicate_rule(catalogue, spec):
        case "together":
            twins = rows_of(events.ids, images.ids)
            return keep_together(events, images, twins, is_published=_published_rows(catalogue, spec, recordings))
        case "refuse" if protocol == REFUSED:
            require_none(catalogue, find_duplicates(events, images))
    return events.codes, images.codes


def _published_rows(catalogue: Catalogue, spec: PrepareSpec, recordings: SourceTable) -> NDArray[np.bool_]:
    if spec.test_share is not None:
        return np.zeros(len(recordings), bool)
    return np.isin(recordings.parts, ("val", "test")) | (catalogue.split_layout != "drawn")


def require_none(catalogue: Catalogue, found: Duplicates) -> None:
    """Refuse duplicates across splits.

    Raises:
        CatalogueError: There are some.
    """
    if found.text:
        raise CatalogueError(
            f"{catalogue.name}: {found.text}; remove the copies, or give --duplicates together to move each with its "
            "copies into one split, or --duplicates keep"
        )


def refuse_early(catalogue: Catalogue, spec: PrepareSpec) -> None:
    """Refuse duplicates across splits before anything is decoded, as far as files of equal size tell.

    Raises:
        CatalogueError: See `require_none`.
    """
    if duplicate_rule(catalogue, spec) == "refuse":
        sides = [_contents(catalogue.recordings), _contents(catalogue.images)]
        if any(side.digests.any() for side in sides):
            split_sides(catalogue, spec, REFUSED, catalogue.recordings, sides)


def _contents(sources: SourceTable) -> SideContents:
    """Return the contents of sources as far as they may be equal; others have a digest of 0 and a size of their own."""
    repeated = {size for size, num in Counter(source.num_bytes for source in sources).items() if num > 1 and size}
    digests = np.zeros(len(sources), np.uint64)
    sizes = -1 - np.arange(len(sources))
    for row, source in enumerate(sources):
        if source.item < 0 and source.num_bytes in repeated:
            try:
                digests[row], sizes[row] = source_checksum(source, {}), source.num_bytes
            except ImageError:
                # What cannot be read is reported when it is decoded.
                continue
    return SideContents(sources.ids, sizes, digests, np.zeros(len(sources), np.uint8))
