"""A plan as a file, so that the tasks of a batch system list no sources and cut the same shards."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.source_table import SourceTable
from tmkt_data.errors import CacheError, counted
from tmkt_data.events.events import SensorSize, Window
from tmkt_data.events.read import Reading
from tmkt_data.files import read_bytes, write_bytes
from tmkt_data.images.frames import Placement
from tmkt_data.prepare.blocks import source_signatures
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.prepare.shards import ShardedPlan
from tmkt_data.spec import PrepareSpec

_FORMAT = "tmkt-plan 1"
_SIDES = ("events", "images")


class PlanFile:
    """A plan that was read from a file.

    Attributes:
        path: The file.
        plan: The plan.
    """

    def __init__(self, path: Path, plan: ShardedPlan, signatures: dict[str, NDArray[np.uint64]]) -> None:
        self.path, self.plan, self._signatures = path, plan, signatures

    def require_unchanged(self, shard: int) -> None:
        """Check that the sources of a shard, counted from 0, are those that were listed.

        Raises:
            CacheError: One was changed since.
            CatalogueError: One is gone.
        """
        catalogue, rows = self.plan.shard(shard).catalogue, self.plan.rows(shard)
        for side, sources in zip(_SIDES, (catalogue.recordings, catalogue.images), strict=True):
            known = self._signatures[side][rows[side]]
            changed = np.flatnonzero(_signatures(side, sources, catalogue) != known)
            if len(changed):
                num = f"{counted(len(changed), 'file')} of shard {shard + 1}/{len(self.plan)}"
                raise CacheError(
                    f"{sources[int(changed[0])].path}: was changed since {self.path} was written ({num}); "
                    "make the plan again with tmkt-data plan"
                )


def write_plan(path: Path, catalogue: Catalogue, spec: PrepareSpec, cache: Path | str, num_shards: int) -> ShardedPlan:
    """Write a plan; the same sources give the same bytes.

    Args:
        path: The file; replaced where it exists.
        catalogue: The samples, as they were found.
        spec: The options.
        cache: The index to be written, an absolute path, or a URL as text.
        num_shards: Number of shards.

    Returns:
        The plan.

    Raises:
        CacheError: The file cannot be written.
        CatalogueError: A source is gone; or as `plan_prepare`.
    """
    absolute = _absolute(catalogue)
    plan = ShardedPlan(plan_prepare(absolute, spec, cache), num_shards)
    header = {
        "format": _FORMAT,
        "key": plan.whole.key,
        "num_shards": num_shards,
        "cache": str(cache),
        "spec": spec.to_dict(),
        "catalogue": _to_dict(absolute),
    }
    arrays: dict[str, NDArray[Any]] = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    for side, sources in zip(_SIDES, (absolute.recordings, absolute.images), strict=True):
        arrays[f"{side}/signature"] = _signatures(side, sources, absolute)
        arrays |= {f"{side}/{name}": values for name, values in sources.to_arrays().items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getbuffer(), error=CacheError)
    return plan


def read_plan(path: Path) -> PlanFile:
    """Read a plan.

    Raises:
        CacheError: The file is missing, damaged, no plan, or of a version whose caches differ.
    """
    data = read_bytes(path, error=CacheError)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop("header").tobytes())
        if header["format"] != _FORMAT:
            raise CacheError(f"{path}: plan of format {header['format']!r}, expected {_FORMAT!r}; make the plan again")
        catalogue, signatures = _from_dict(header["catalogue"], arrays), {s: arrays[f"{s}/signature"] for s in _SIDES}
        spec = PrepareSpec.from_dict(header["spec"])
    except (ValueError, KeyError, TypeError, EOFError, OSError, IndexError, zipfile.BadZipFile) as broken:
        raise CacheError(
            f"{path}: not a plan, or a damaged one ({str(broken).splitlines()[0] if str(broken) else broken!r}); "
            "make it again with tmkt-data plan"
        ) from broken
    whole = plan_prepare(catalogue, spec, header["cache"])
    if whole.key != header["key"]:
        raise CacheError(f"{path}: a plan of another version of tmkt; make it again with tmkt-data plan")
    return PlanFile(path, ShardedPlan(whole, header["num_shards"]), signatures)


def _absolute(catalogue: Catalogue) -> Catalogue:
    here = Path.cwd()
    tables = {side: getattr(catalogue, side).below(here) for side in ("recordings", "images")}
    return dataclasses.replace(catalogue, **tables)


def _signatures(side: str, sources: SourceTable, catalogue: Catalogue) -> NDArray[np.uint64]:
    # Paths are absolute: tasks may run in any folder.
    return source_signatures(sources, catalogue.kind if side == "events" else "files", here=Path("/"))


def _to_dict(catalogue: Catalogue) -> dict[str, Any]:
    # What the publishers declare has become notes when the sources were listed.
    window = catalogue.window
    return {
        "name": catalogue.name,
        "class_names": catalogue.class_names,
        "sensor_size": catalogue.sensor_size,
        "placement": catalogue.placement,
        "motion": catalogue.motion,
        "split_layout": catalogue.split_layout,
        "kind": catalogue.kind,
        "reading": catalogue.reading._asdict(),
        "window": None if window is None else [window.x_first, window.y_first, *window.size],
        "expected": catalogue.expected,
        "is_centered": catalogue.is_centered,
        "notes": catalogue.notes,
        "recorded_with": catalogue.recorded_with,
    }


def _from_dict(values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Catalogue:
    window, reading = values["window"], dict(values["reading"])
    if reading["sensor_size"] is not None:
        reading["sensor_size"] = SensorSize(*reading["sensor_size"])
    tables = {side: SourceTable.from_arrays(dict(_of_side(side, arrays))) for side in _SIDES}
    return Catalogue(
        **values
        | {
            "class_names": tuple(values["class_names"]),
            "sensor_size": SensorSize(*values["sensor_size"]),
            "placement": Placement(*values["placement"]),
            "reading": Reading(**reading),
            "window": None if window is None else Window(window[0], window[1], SensorSize(*window[2:])),
            "notes": tuple(values["notes"]),
            "recordings": tables["events"],
            "images": tables["images"],
        }
    )


def _of_side(side: str, arrays: dict[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, values in arrays.items():
        if name.startswith(f"{side}/") and name != f"{side}/signature":
            yield name.removeprefix(f"{side}/"), values
