"""The splits of both sides of a cache, with samples of equal content kept apart, together, or refused."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.duplicates import Duplicates, SideContents, equal_rows, find_duplicates, keep_together
from tmkt_data.datasets.image_reader import source_checksum
from tmkt_data.datasets.source_table import SourceTable
from tmkt_data.datasets.splits import SplitRule, split_images, split_recordings
from tmkt_data.errors import CatalogueError, ImageError
from tmkt_data.files import checksum
from tmkt_data.prepare.read_ahead import first_bytes
from tmkt_data.sample_ids import rows_of
from tmkt_data.spec import DuplicateRule, PrepareSpec, Protocol
from tmkt_data.storage.member_files import is_in_store

_HEAD_BYTES = 1 << 12
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
    """Return the contents of sources as far as they may be equal; others have a digest of 0 and a size of their own.

    Most files of equal size differ in their first bytes, and are not read further. Those in a store are left out, as
    they take long to answer, and what cannot be read, which is reported when it is decoded.
    """
    sizes, digests = -1 - np.arange(len(sources)), np.zeros(len(sources), np.uint64)
    rows = _repeated(np.where((sources.sizes > 0) & (sources.items < 0), sources.sizes, sizes))
    files = ["" if is_in_store(source.file) else source.file for source in sources.take(rows)]
    for row, start in zip(rows.tolist(), first_bytes(files, _HEAD_BYTES), strict=True):
        if start is not None and len(start) == min(sources.sizes[row], _HEAD_BYTES):
            sizes[row], digests[row] = sources.sizes[row], checksum(start)
    alike = equal_rows(sizes, digests)
    is_alike = np.zeros(len(sources), bool)
    is_alike[np.concatenate(alike) if alike else []] = True
    for row in np.flatnonzero(is_alike & (sizes > _HEAD_BYTES)).tolist():
        try:
            digests[row] = source_checksum(sources[row], {})
        except ImageError:
            is_alike[row] = False
    sizes[~is_alike], digests[~is_alike] = -1 - np.flatnonzero(~is_alike), 0
    return SideContents(sources.ids, sizes, digests, np.zeros(len(sources), np.uint8))


def _repeated(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows whose value another row has, too, ascending."""
    _, group, num = np.unique(values, return_inverse=True, return_counts=True)
    return np.flatnonzero(num[group] > 1)
