"""What is stored in a cache beside its frames: its header and its tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.build_folder import CacheContent
from tmkt_data.cache.format import FORMAT, FORMAT_VERSION, Table, table_text, text_table
from tmkt_data.cache.side_rows import SideRows
from tmkt_data.datasets.duplicates import SideContents
from tmkt_data.datasets.recording_reader import canvas_of
from tmkt_data.datasets.source_table import SourceTable
from tmkt_data.datasets.splits import PROTOCOLS
from tmkt_data.datasets.suspicions import RecordingTimes, suspicions
from tmkt_data.errors import CacheError
from tmkt_data.prepare.blocks import fact_tables
from tmkt_data.prepare.drawn_splits import split_sides
from tmkt_data.prepare.plan import PreparePlan
from tmkt_data.sample_ids import rows_of

_OVERFLOW = ("overflow_cell", "overflow_count")


class Rows(Protocol):
    """What is known of each source of a side: `SideRows` of the blocks of a build, or `ShardRows` of shards."""

    is_kept: NDArray[np.bool_]
    pieces: dict[str, list[NDArray[Any]]]

    def kept_column(self, name: str) -> NDArray[Any]:
        """Return one value of every source that is in the cache."""


class _Side(NamedTuple):
    """One side of a cache.

    Attributes:
        name: `"events"` or `"images"`.
        sources: All of its sources.
        rows: What is known of them.
    """

    name: str
    sources: SourceTable
    rows: Rows

    @property
    def kept(self) -> SourceTable:
        """The sources that are in the cache."""
        return self.sources if self.rows.is_kept.all() else self.sources.take(self.rows.is_kept)

    def left_out(self) -> Iterator[dict[str, Any]]:
        """Yield what the header says of the sources that are not in the cache."""
        reasons = [why for table in self.rows.pieces["why"] for why in table_text(table)]
        for at, why in zip(np.flatnonzero(~self.rows.is_kept).tolist(), reasons, strict=True):
            source = self.sources[at]
            yield {"side": self.name, "id": source.id, "bytes": source.num_bytes, "why": why}


def describe_cache(plan: PreparePlan, event_rows: SideRows, image_rows: SideRows) -> CacheContent:
    """Return the header and the tables of a cache.

    Args:
        plan: What was to be written.
        event_rows: What its blocks hold of the recordings.
        image_rows: What its blocks hold of the images.

    Raises:
        CacheError: A source has changed since its block was filled.
        CatalogueError: Samples of equal content are in different splits, and that is to be refused.
    """
    _require_unchanged(plan, "events", plan.catalogue.recordings, event_rows)
    _require_unchanged(plan, "images", plan.catalogue.images, image_rows)
    return describe(plan, event_rows, image_rows)


def describe(plan: PreparePlan, event_rows: Rows, image_rows: Rows) -> CacheContent:
    """Return the header and the tables of a cache whose sources are known to be unchanged, as `describe_cache`."""
    events = _Side("events", plan.catalogue.recordings, event_rows)
    images = _Side("images", plan.catalogue.images, image_rows)
    return _header(plan, [*events.left_out(), *images.left_out()]), _tables(plan, events, images)


def suspicions_of(plan: PreparePlan, event_rows: SideRows) -> tuple[str, ...]:
    """Return what looks wrong with the recordings, see `suspicions`; arguments as `describe_cache`."""
    names = ("t_first_us", "t_last_us", "num_kept", "largest_bin", "polarities", "num_other_streams")
    first, last, *others = (event_rows.kept_column(name) for name in names)
    times = RecordingTimes(last - first, *others)
    return suspicions(_Side("events", plan.catalogue.recordings, event_rows).kept, times, plan.catalogue, plan.spec)


def _require_unchanged(plan: PreparePlan, side: str, sources: SourceTable, rows: SideRows) -> None:
    now = [block.signatures() for block in plan.blocks if block.place.side == side]
    changed = np.flatnonzero(rows.column("signature") != np.concatenate(now))
    if len(changed):
        path = sources[int(changed[0])].path
        raise CacheError(f"{path}: was changed while the cache was prepared; run it again")


def _tables(plan: PreparePlan, events: _Side, images: _Side) -> Iterator[tuple[str, Table]]:
    """Yield all tables, sorted by name; each is made when it is asked for."""
    identities = _identity_tables(plan, events, images)
    tables: dict[str, Callable[[], Table]] = {"class_names": lambda: text_table(plan.catalogue.class_names)}
    tables |= {name: partial(identities.pop, name) for name in identities}
    for side in (events, images):
        tables |= {
            f"{side.name}/{name}": partial(side.rows.kept_column, name) for name in fact_tables(side.name, plan.spec)
        }
    tables |= {f"events/{name}": partial(np.concatenate, events.rows.pieces[name]) for name in _OVERFLOW}
    tables["events/overflow_start"] = lambda: _starts(events.rows.kept_column("overflow_length"))
    for name in sorted(tables):
        yield name, tables[name]()


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of some parts begins that follow each other, and where the last one ends."""
    return np.concatenate([np.zeros(1, "<i8"), np.cumsum(lengths, dtype="<i8")])


def _identity_tables(plan: PreparePlan, events: _Side, images: _Side) -> dict[str, Table]:
    recordings, pictures = events.kept, images.kept
    event_ids, image_ids = recordings.ids, pictures.ids
    tables: dict[str, Table] = {
        "events/id": event_ids,
        "images/id": image_ids,
        "events/label": recordings.labels.astype("<i4"),
        "images/label": pictures.labels.astype("<i4"),
        "events/twin": rows_of(event_ids, image_ids).astype("<i8"),
    }
    contents = [
        SideContents(
            side_ids,
            side.rows.kept_column("source_bytes"),
            side.rows.kept_column("source_xxh3"),
            np.zeros(len(side_ids), np.uint8),
        )
        for side, side_ids in ((events, event_ids), (images, image_ids))
    ]
    for protocol in PROTOCOLS:
        codes = split_sides(plan.catalogue, plan.spec, protocol, recordings, contents, plan.drawn_over)
        tables[f"events/split/{protocol}"], tables[f"images/split/{protocol}"] = codes
    return tables


def own_version() -> str:
    """Return the version of the installed tmkt, or `"unknown"`."""
    try:
        return version("tmkt")
    except PackageNotFoundError:
        # The packages are imported from a checkout that nobody installed.
        return "unknown"


def _header(plan: PreparePlan, skipped: list[dict[str, Any]]) -> dict[str, str]:
    catalogue, window = plan.catalogue, plan.catalogue.window
    canvas, placement = canvas_of(catalogue, plan.spec)
    facts = {
        "sensor_size": list(canvas),
        "placement": list(placement),
        "motion": catalogue.motion,
        "split_layout": catalogue.split_layout,
        "expected": catalogue.expected,
        "reading": catalogue.reading.to_dict(),
        "window": None if window is None else [window.x_first, window.y_first, *window.size],
        "is_centered": catalogue.is_centered,
    }
    if catalogue.recorded_with:
        facts["recorded_with"] = json.loads(catalogue.recorded_with)
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "dataset": catalogue.name,
        "spec": plan.spec.to_json(),
        "facts": json.dumps(facts, sort_keys=True),
        "notes": json.dumps([*catalogue.notes, *catalogue.unmatched_notes()]),
        "skipped": json.dumps(skipped),
        "tool_version": own_version(),
        "plan": plan.key,
    }
