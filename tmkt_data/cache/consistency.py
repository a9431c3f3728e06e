"""Whether the tables and frames of a cache can mean what they say: types, lengths, ranges, and how they agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.format import (
    EVENT_TABLES,
    FILTER_TABLES,
    OVERFLOW_TABLES,
    Table,
    image_tables,
    table_text,
)
from tmkt_data.errors import CacheError
from tmkt_data.sample_ids import first_disorder, rows_of
from tmkt_data.spec import PrepareSpec, Protocol

Tables = Mapping[str, Table]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
LARGEST_SPLIT_CODE = 3
"""Split codes are 0 unused, 1 train, 2 val, 3 test."""
_UNUSED, _TRAIN = 0, 1
_SIDES = ("events", "images")
_COUNTS = tuple(name for name in (*EVENT_TABLES, *FILTER_TABLES) if name.startswith("num_"))


def require(place: str, problems: Iterable[str]) -> None:
    """Refuse a cache with a problem; the first one is named.

    Raises:
        CacheError: There is one.
    """
    for problem in problems:
        raise CacheError(f"{place}: {problem}; the file cannot be used, prepare it again")


def index_problems(tables: Tables, spec: PrepareSpec) -> Iterator[str]:
    """Yield what is wrong with what others are looked up by, at once on opening: a wrong row would be read silently.

    Args:
        tables: All tables by HDF5 path.
        spec: The options of the cache.
    """
    yield from _type_problems(tables, spec)
    num_classes, num_images = len(tables["class_names"]), len(tables["images/id"])
    for side in _SIDES:
        yield from _outside(tables, f"{side}/label", 0, num_classes - 1)
        for protocol in PROTOCOLS:
            yield from _outside(tables, f"{side}/split/{protocol}", 0, LARGEST_SPLIT_CODE)
    yield from _outside(tables, "events/twin", -1, num_images - 1)
    yield from _overflow_problems(tables, spec)


def _type_problems(tables: Tables, spec: PrepareSpec) -> Iterator[str]:
    num_rows = {side: len(tables[f"{side}/id"]) for side in _SIDES}
    event_kinds = EVENT_TABLES | OVERFLOW_TABLES | (FILTER_TABLES if spec.filters else {})
    image_kinds = image_tables(spec)
    expected: dict[str, tuple[str, int | None]] = {"class_names": ("S", None)}
    for side, kinds in (("events", event_kinds), ("images", image_kinds)):
        kinds = kinds | {f"split/{protocol}": "|u1" for protocol in PROTOCOLS} | {"id": "S"}
        expected |= {f"{side}/{name}": (kind, num_rows[side]) for name, kind in kinds.items()}
    expected["events/overflow_start"] = ("<i8", num_rows["events"] + 1)
    expected["events/overflow_cell"] = ("<i8", None)
    expected["events/overflow_count"] = ("<u4", len(tables["events/overflow_cell"]))
    for name, (kind, length) in expected.items():
        if name not in tables:
            yield f"table {name} is missing"
            continue
        table = tables[name]
        if (table.dtype.kind if kind == "S" else table.dtype.str) != kind:
            yield f"{name}: found type {table.dtype.str}, expected {kind}"
        if table.ndim != 1 or (length is not None and len(table) != length):
            wanted = "one axis" if length is None else f"({length},)"
            yield f"{name}: found shape {table.shape}, expected {wanted}"


def _overflow_problems(tables: Tables, spec: PrepareSpec) -> Iterator[str]:
    start, cell = tables["events/overflow_start"], tables["events/overflow_cell"]
    if start[0] != 0 or start[-1] != len(cell) or (np.diff(start) < 0).any():
        yield f"events/overflow_start: found {start[0]} to {start[-1]}, expected ascending from 0 to {len(cell)}"
    num_cells = spec.time_bins * spec.num_channels * spec.size**2
    yield from _outside(tables, "events/overflow_cell", 0, num_cells - 1)


def _outside(tables: Tables, name: str, low: int, high: int | None = None) -> Iterator[str]:
    values = tables[name]
    if not len(values) or (values.min() >= low and (high is None or values.max() <= high)):
        return
    row = int(np.flatnonzero((values < low) | (values > (values.max() if high is None else high)))[0])
    wanted = f"{low} or more" if high is None else f"{low} to {high}"
    yield f"{name}: found {values[row]} in row {row}, expected {wanted}"


def table_problems(tables: Tables, spec: PrepareSpec) -> Iterator[str]:
    """Yield what is wrong with tables that `index_problems` accepts, by looking at all of them.

    Args:
        tables: All tables by HDF5 path.
        spec: The options of the cache.
    """
    yield from _name_problems(tables)
    yield from _twin_problems(tables, spec)
    yield from _count_problems(tables, spec)
    for side in _SIDES:
        for protocol in PROTOCOLS if spec.duplicates == "together" else ("twin-disjoint",):
            if spec.duplicates in ("together", "refuse"):
                yield from _duplicate_problems(tables, side, protocol, spec)


def _name_problems(tables: Tables) -> Iterator[str]:
    names = table_text(tables["class_names"])
    if len(set(names)) < len(names) or "" in names:
        yield f"class_names: found {len(set(names) - {''})} names of {len(names)} classes, expected one each"
    for side in _SIDES:
        row = first_disorder(tables[f"{side}/id"])
        if row is not None:
            one, other = table_text(tables[f"{side}/id"][row - 1 : row + 1])
            yield f"{side}/id: found {other!r} after {one!r} in row {row}, expected unique sorted ids"


def _twin_problems(tables: Tables, spec: PrepareSpec) -> Iterator[str]:
    twins, expected = tables["events/twin"], rows_of(tables["events/id"], tables["images/id"])
    yield from _unequal("events/twin", twins, expected, "the image of the same id")
    rows = np.flatnonzero(twins >= 0)
    images = twins[rows]
    for name in ("label", *(f"split/{protocol}" for protocol in PROTOCOLS)):
        found = tables[f"events/{name}"].copy()
        found[rows] = tables[f"images/{name}"][images]
        yield from _unequal(f"images/{name} of twins", found, tables[f"events/{name}"], "that of the recording")
    is_alone = np.ones(len(tables["images/id"]), bool)
    is_alone[images] = False
    for protocol in PROTOCOLS if spec.duplicates != "together" else ():
        codes = tables[f"images/split/{protocol}"]
        expected_codes = np.where(is_alone, _TRAIN, codes)
        yield from _unequal(f"images/split/{protocol}", codes, expected_codes, "train, as it has no recording")


def _unequal(name: str, found: NDArray[Any], expected: NDArray[Any], what: str) -> Iterator[str]:
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        row = int(wrong[0])
        yield f"{name}: found {found[row]} in row {row}, expected {expected[row]}, {what}"


def _count_problems(tables: Tables, spec: PrepareSpec) -> Iterator[str]:
    for name in (*_COUNTS, "source_bytes"):
        if f"events/{name}" in tables:
            yield from _outside(tables, f"events/{name}", 0)
    yield from _outside(tables, "images/source_bytes", 0)
    for name in ("height_px", "width_px"):
        yield from _outside(tables, f"images/{name}", 1)
    if len(tables["events/overflow_count"]):
        yield from _outside(tables, "events/overflow_count", 256)
    kept, read = tables["events/num_kept"], tables["events/num_read"]
    most = {"num_kept": np.where(read > 0, read, kept)}
    if spec.time_range == "whole":
        most["num_outside_bins"] = kept
    first, last = tables["events/t_first_us"], tables["events/t_last_us"]
    for name, values, largest in (
        ("t_first_us", first, last),
        *((name, tables[f"events/{name}"], largest) for name, largest in most.items()),
    ):
        over = np.flatnonzero(values > largest)
        if len(over):
            row = int(over[0])
            yield f"events/{name}: found {values[row]} in row {row}, expected at most {largest[row]}"


def _duplicate_problems(tables: Tables, side: str, protocol: str, spec: PrepareSpec) -> Iterator[str]:
    codes = tables[f"{side}/split/{protocol}"]
    used = np.flatnonzero(codes != _UNUSED)
    sizes, digests = (tables[f"{side}/source_{name}"][used] for name in ("bytes", "xxh3"))
    order = np.lexsort((codes[used], digests, sizes))
    one, other = order[:-1], order[1:]
    is_same = (sizes[one] == sizes[other]) & (digests[one] == digests[other])
    crossing = np.flatnonzero(is_same & (codes[used[one]] != codes[used[other]]))
    if len(crossing):
        rows = sorted((int(used[one[crossing[0]]]), int(used[other[crossing[0]]])))
        yield (
            f"{side}/split/{protocol}: found rows {rows[0]} and {rows[1]} of equal content in different splits, "
            f"expected one split, as it was prepared with duplicates {spec.duplicates!r}"
        )


def fact_problems(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the plain values from the catalogue that a cache holds."""
    size: Any = facts.get("sensor_size")
    box: Any = facts.get("placement")
    if not _are_whole(size, 2) or min(size) < 1:
        yield f"facts: found sensor_size {size}, expected width and height in pixels"
    if not _are_whole(box, 4) or min(box[2:]) < 1:
        yield f"facts: found placement {box}, expected left, top, width and height in pixels"


def _are_whole(values: Any, count: int) -> Any:
    return isinstance(values, list) and len(values) == count and all(type(value) is int for value in values)


def event_frame_problems(
    stored: NDArray[Any], rows: NDArray[np.int64], tables: Tables, spec: PrepareSpec
) -> Iterator[str]:
    """Yield what is wrong with event frames, whose values have to be counts, and those of the recording.

    Args:
        stored: Frames as stored, shape (B, T, C, H, W).
        rows: Their rows, consecutive, shape (B,).
        tables: All tables by HDF5 path.
        spec: The options of the cache.
    """
    flat = stored.reshape(len(rows), -1)
    if stored.dtype != np.uint8:
        is_right = np.isfinite(flat) if spec.representation == "voxel" else np.isfinite(flat) & ~np.signbit(flat)
        wrong = np.flatnonzero(~is_right.all(axis=1))
        if len(wrong):
            wanted = "finite values" if spec.representation == "voxel" else "finite counts of 0 or more"
            yield f"events/frames: row {rows[wrong[0]]} holds other values than numbers, expected {wanted}"
        return
    totals = flat.sum(axis=1, dtype=np.int64)
    start = tables["events/overflow_start"]
    for at in np.flatnonzero(start[rows + 1] > start[rows]).tolist():
        part = slice(int(start[rows[at]]), int(start[rows[at] + 1]))
        cells = tables["events/overflow_cell"][part]
        if (np.diff(cells) <= 0).any() or (flat[at, cells] != 255).any():
            yield f"events/overflow_cell: row {rows[at]} names other cells than those that hold 255, expected each once"
        totals[at] += int(tables["events/overflow_count"][part].sum(dtype=np.int64)) - 255 * len(cells)
    if spec.time_range == "whole":
        expected = (tables["events/num_kept"] - tables["events/num_outside_bins"])[rows]
        yield from _unequal_rows("events/frames", rows, totals, expected)


def _unequal_rows(
    name: str, rows: NDArray[np.int64], found: NDArray[np.int64], expected: NDArray[np.int64]
) -> Iterator[str]:
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        at = int(wrong[0])
        yield f"{name}: row {rows[at]} holds {found[at]} events, expected {expected[at]}, those kept and in a time bin"


def spike_problems(stored: NDArray[np.uint8], rows: NDArray[np.int64], spec: PrepareSpec) -> Iterator[str]:
    """Yield what is wrong with stored spike frames; arguments as `event_frame_problems`."""
    if spec.bake == "poisson" and stored.size and stored.max() > 1:
        row = rows[int(np.flatnonzero(stored.reshape(len(rows), -1).max(axis=1) > 1)[0])]
        yield f"images/spikes: row {row} holds {stored.max()}, expected 0 or 1"
