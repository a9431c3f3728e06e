"""Separable resizing as sparse matrices: which target cells one source column or row adds to, with what weight."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.spec import Resize

Weights = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
"""A sparse matrix in compressed rows as kernels take it: `AxisTable` or `Taps` as a plain tuple."""


class AxisTable(NamedTuple):
    """Targets of each source coordinate along one axis, in compressed rows.

    Attributes:
        start: Shape (source + 1,), int32; source s adds to entries `start[s]` to `start[s + 1]`.
        target: Shape (entries,), int32; target cell of each entry.
        weight: Shape (entries,), float32; what one event adds to the cell.
    """

    start: NDArray[np.int32]
    target: NDArray[np.int32]
    weight: NDArray[np.float32]


@lru_cache(maxsize=2048)
def axis_table(source: int, target: int, rule: Resize) -> AxisTable:
    """Return the table of one axis.

    - `sum`: source s adds 1 to cell `s * target // source`.
    - `area`: cell i is the mean over `[floor(i * source / target), ceil((i + 1) * source / target))`.
    - `bilinear`: cell i samples at `i * (source - 1) / (target - 1)` between its two neighbors (corners aligned).

    Args:
        source: Source pixels, 1 or more.
        target: Target cells, 1 or more.
        rule: Name of the rule.

    Raises:
        SpecError: No pixels or cells, or an unknown rule.

    Example:
        >>> axis_table(4, 2, "sum").target.tolist()
        [0, 0, 1, 1]
        >>> axis_table(4, 2, "area").weight.tolist()
        [0.5, 0.5, 0.5, 0.5]

    Source: `area` and `bilinear` are the formulas of `torch.nn.functional.interpolate`.
    """
    if source < 1 or target < 1:
        raise SpecError(f"resize: found {source} pixels for {target} cells, expected 1 or more of each")
    cells = np.arange(target, dtype=np.int64)
    match rule:
        case "sum":
            sources = np.arange(source, dtype=np.int64)
            targets = sources * target // source
            weights = np.ones(source)
        case "area":
            first = cells * source // target
            last = -(-(cells + 1) * source // target)
            widths = last - first
            targets = np.repeat(cells, widths)
            sources = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
            weights = np.repeat(1.0 / widths, widths)
        case "bilinear":
            # In integers, so that a cell that lies exactly on a source pixel gives its neighbor no weight.
            low, rest = np.divmod(cells * (source - 1), max(1, target - 1))
            high = np.minimum(low + 1, source - 1)
            fraction = rest / max(1, target - 1)
            sources = np.concatenate([low, high])
            targets = np.concatenate([cells, cells])
            weights = np.concatenate([1.0 - fraction, fraction])
        case _:
            raise SpecError(f"resize: found {rule!r}, expected one of {', '.join(get_args(Resize))}")
    keep = weights > 0
    sources, targets, weights = sources[keep], targets[keep], weights[keep]
    order = np.argsort(sources, kind="stable")
    start = np.zeros(source + 1, np.int32)
    np.cumsum(np.bincount(sources, minlength=source), out=start[1:])
    return AxisTable(start, targets[order].astype(np.int32), weights[order].astype(np.float32))


class Taps(NamedTuple):
    """Samples of each target cell along one axis, in compressed rows.

    Attributes:
        start: Shape (target + 1,), int32; cell i has taps `start[i]` to `start[i + 1]`.
        place: Shape (taps,), int32; sampled place on the grid.
        weight: Shape (taps,), float32.
    """

    start: NDArray[np.int32]
    place: NDArray[np.int32]
    weight: NDArray[np.float32]


class SampledAxis(NamedTuple):
    """A grid that holds only the sampled source coordinates, along one axis.

    Attributes:
        place: Shape (source,), int32; place of each source coordinate on the grid, S where no cell samples it.
        num_places: Number of sampled coordinates, S.
        taps: Samples of each target cell on the grid.
    """

    place: NDArray[np.int32]
    num_places: int
    taps: Taps


@lru_cache(maxsize=2048)
def sampled_axis(source: int, target: int, rule: Resize) -> SampledAxis:
    """Return the transpose of `axis_table`: the sources that each target cell samples.

    Args:
        source: Source pixels, 1 or more.
        target: Target cells, 1 or more.
        rule: Name of the rule.

    Example:
        >>> axis = sampled_axis(9, 3, "bilinear")
        >>> axis.num_places, axis.place.tolist(), axis.taps.place.tolist()
        (3, [0, 3, 3, 3, 1, 3, 3, 3, 2], [0, 1, 2])
    """
    table = axis_table(source, target, rule)
    sampled = np.diff(table.start) > 0
    num_places = int(sampled.sum())
    place = np.where(sampled, np.cumsum(sampled) - 1, num_places).astype(np.int32)
    sources = np.repeat(np.arange(source), np.diff(table.start))
    order = np.argsort(table.target, kind="stable")
    start = np.zeros(target + 1, np.int32)
    np.cumsum(np.bincount(table.target, minlength=target), out=start[1:])
    return SampledAxis(place, num_places, Taps(start, place[sources[order]], table.weight[order]))
