"""What `tmkt-data prepare` prints of a catalogue, of unreadable files, and of the cache that it wrote."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tmkt_data.cli.console import dataset_advice, fail, megabytes, say
from tmkt_data.cli.reporting import put_json, shown
from tmkt_data.errors import as_argument, counted

if TYPE_CHECKING:
    from tmkt_data.cache.reader import CacheInfo
    from tmkt_data.datasets.duplicates import Duplicates
    from tmkt_data.pairs.verdicts import Verdict
    from tmkt_data.prepare.plan import PreparePlan

_MAX_PROBLEMS = 10
_COUNTS = ("num_read", "num_no_event", "num_outside_sensor", "num_outside_bins")


def fail_unreadable(problems: dict[str, str], name: str) -> NoReturn:
    """Print which files cannot be read, by stage and sample id, and exit."""
    for line in list(problems.values())[:_MAX_PROBLEMS]:
        say(f"  {dataset_advice(line, name)}", err=True)
    more = f", the first {_MAX_PROBLEMS} above" if len(problems) > _MAX_PROBLEMS else ""
    fail(
        f"cannot read {counted(len(problems), 'file')}{more}; fix them and run again (finished work is kept), "
        "or exclude them with --skip-bad"
    )


def fail_missing(missing: dict[int, str], num_shards: int, plan: str) -> NoReturn:
    """Print which shards, counted from 0, have to be made, why and by which command, and exit."""
    for shard, problem in list(missing.items())[:_MAX_PROBLEMS]:
        say(f"  shard {shard + 1}/{num_shards}: {problem}", err=True)
        say(f"    tmkt-data prepare --plan {shlex.quote(plan)} --shard {shard + 1}/{num_shards}", err=True)
    more = f", the first {_MAX_PROBLEMS} above" if len(missing) > _MAX_PROBLEMS else ""
    fail(f"{len(missing)} of {counted(num_shards, 'shard')} have to be made{more}; make them, then run this again")


def duplicate_rows(found: Duplicates) -> list[tuple[str, str]]:
    """Return what is printed of samples of equal content."""
    if not found.repeated_recordings + found.repeated_images:
        return [("equal content", "none, no recording or image is a copy of another one")]
    here = f"{found.repeated_recordings} recordings and {found.repeated_images} images have the content of another one"
    rows = [
        ("equal content", f"{here}, {found.recordings} and {found.images} of val and test that of an earlier split")
    ]
    return rows + [("", example) for example in found.examples]


def _print_verdicts(path: Path, name: str, *, has_frames: bool) -> tuple[int, bool]:
    """Print the problems of a cache for training; return the number of errors, and whether all classes have images.

    Classes without recordings in the training split do not count.
    """
    from tmkt_data.cache.format import table_text
    from tmkt_data.cache.reader import Cache, read_cache_info, read_tables
    from tmkt_data.pairs.verdicts import (
        CONTRAST_TABLES,
        CacheTables,
        classes_without_images,
        contrast_verdicts,
        table_names,
        table_verdicts,
    )

    info = read_cache_info(path)
    tables = read_tables(path, ["class_names", *table_names("twin-disjoint"), *CONTRAST_TABLES])
    known = CacheTables(tables, table_text(tables["class_names"]), info.spec)
    verdicts = [*table_verdicts(known, "twin-disjoint"), *contrast_verdicts(tables, info)]
    if name == "folder" and has_frames:
        # Published datasets come with their pairing; `pairs` looks at the content of all.
        from tmkt_data.pairs.report import content_verdicts

        verdicts += content_verdicts(Cache(path))
    put_json({"verdicts": [dataclasses.asdict(verdict) for verdict in verdicts]})
    return print_verdicts(verdicts), not classes_without_images(known, "twin-disjoint")


def print_verdicts(verdicts: Sequence[Verdict]) -> int:
    """Print what speaks against training, errors on standard error, where `--quiet` shows them; return their number."""
    errors = [verdict.severity == "error" for verdict in verdicts]
    for verdict, is_error in zip(verdicts, errors, strict=True):
        say(f"{verdict.severity}: {verdict.text}", err=is_error)
    return sum(errors)


def report_cache(plan: PreparePlan) -> None:
    """Print what was written."""
    from tmkt_data.cache.format import FILTER_TABLES
    from tmkt_data.cache.reader import read_cache_info, read_tables
    from tmkt_data.datasets.splits import SplitCode

    info = read_cache_info(plan.path)
    say(f"wrote {plan.path}: {megabytes(info.num_bytes)}, digest {info.digest[:16]}")
    print_skipped(info)
    # Reads only these tables: all of them take as much memory as the rest of a large dataset.
    shown = (*_COUNTS, "num_inversions", *FILTER_TABLES, "split/twin-disjoint")
    tables = read_tables(plan.path, [f"events/{name}" for name in shown])
    print_event_counts(tables)
    num_train = int((tables["events/split/twin-disjoint"] == SplitCode.TRAIN).sum())
    if 2 * num_train < info.num_recordings:
        say(f"note: the train split has only {num_train} of {counted(info.num_recordings, 'recording')}")


def report_replaced(path: Path, kept: Collection[str]) -> None:
    """Remove the shards of the cache that a new one has replaced, and print which ones stay."""
    from tmkt_data.cache.remove import remove_replaced

    left = remove_replaced(path, kept)
    if left:
        say(
            f"note: not removed with the cache that was replaced, as in use or damaged: "
            f"{counted(len(left), 'shard')} ({left[0]}); remove by hand what nobody reads"
        )


def print_skipped(info: CacheInfo) -> None:
    """Print the unreadable files that a cache excludes."""
    for entry in info.skipped[:_MAX_PROBLEMS]:
        say(f"skipped: {dataset_advice(entry['why'], info.dataset)}")
    if len(info.skipped) > _MAX_PROBLEMS:
        say(f"skipped: {len(info.skipped) - _MAX_PROBLEMS} more unreadable files")


def print_event_counts(tables: Mapping[str, Any]) -> None:
    """Print how many events were read and how many were dropped."""
    from tmkt_data.cache.format import FILTER_TABLES

    total = {name: int(tables[f"events/{name}"].sum()) for name in _COUNTS}
    others = f"{total['num_no_event']:,} words of other kinds or streams, " if total["num_no_event"] else ""
    say(
        f"events: {total['num_read']:,} read, {others}{total['num_outside_sensor']:,} outside the sensor, "
        f"{total['num_outside_bins']:,} outside the bins; {int((tables['events/num_inversions'] > 0).sum())} "
        "recordings sorted by time"
    )
    filtered = {name: int(tables[f"events/{name}"].sum()) for name in FILTER_TABLES if f"events/{name}" in tables}
    if filtered:
        words = {
            "num_hot_pixels": "of hot pixels",
            "num_refractory_us": "refractory",
            "num_background_us": "background",
        }
        rows = [f"{count:,} {words[name]}" for name, count in filtered.items() if count]
        say(f"filtered: {', '.join(rows) or 'nothing'}")


def print_next(plan: PreparePlan) -> None:
    """Print the problems of a cache for training, and the commands to look at it and to train.

    Exits with 1 if it looks wrong: in a script, training must not follow. The cache stays.
    """
    from tmkt_data.cache.reader import read_cache_info
    from tmkt_data.datasets.registry import dataset_info, default_spec

    path, name, spec = plan.path, plan.catalogue.name, plan.spec
    num_errors, has_images = _print_verdicts(path, name, has_frames=plan.target is None)
    quoted = shlex.quote(as_argument(shown(str(path))))
    changed = spec.written_differences(default_spec(name))
    settings = "".join(f" --set data.prepare.{key}={text}" for key, text in changed.items())
    settings += "" if has_images else " --set method.name=event-only"
    train = f"tmkt-train recipe {dataset_info(name).recipe} --cache {quoted}{settings}"
    info = read_cache_info(path)
    put_json({"path": path, "dataset": name, "bytes": info.num_bytes, "digest": info.digest})
    put_json({"train": None if num_errors else train})
    put_json({"recordings": info.num_recordings, "images": info.num_images, "skipped": list(info.skipped)})
    say(f"preview: tmkt-data preview {quoted}")
    if num_errors:
        say(f"check:   tmkt-data pairs {quoted}")
        fail(
            f"{path} is complete, but results on it would be wrong ({counted(num_errors, 'error')} above); "
            "fix the dataset, then prepare again"
        )
    say(f"train:   {train}")
