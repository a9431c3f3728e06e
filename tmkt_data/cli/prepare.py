"""The command `tmkt-data prepare`: its options, what it says before and after, and how it stops."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.console import FILE, SENSOR, STOPPED, fail, megabytes, progress_bar, say

if TYPE_CHECKING:
    from tmkt_data.cache.reader import CacheInfo
    from tmkt_data.datasets.catalogue import Catalogue
    from tmkt_data.prepare.plan import PreparePlan
    from tmkt_data.spec import PrepareSpec

_ANY = click.Path(path_type=Path)
_MAX_PROBLEMS = 10


def _spec_options(function: Any) -> Any:
    options = [
        click.option("--time-bins", type=int, help="Time bins of a recording, T.  [default: 10]"),
        click.option("--size", type=int, help="Height and width of a frame.  [default: 48; 34 for digits, nmnist]"),
        click.option("--resize", help="sum: keeps every event | bilinear: as KT | area: density.  [default: sum]"),
        click.option("--bin-rule", help="exact: every event in one bin | tonic | spikingjelly.  [default: exact]"),
        click.option("--canvas", help="fixed | tight: extent of the recording.  [default: fixed; ncaltech101: tight]"),
        click.option("--representation", help="counts: OFF and ON | voxel: signed, one channel.  [default: counts]"),
        click.option("--image-channel", help="value of HSV | luminance | blue.  [default: value]"),
        click.option("--image-decode", help="full | scaled: JPEGs by halves.  [default: full; ncaltech101: scaled]"),
        click.option("--class-set", help="all | objects: without background.  [default: all]"),
        click.option("--split-seed", type=int, help="Seed of drawn splits.  [default: 0]"),
        click.option("--val-share", type=float, help="Share of val in drawn splits.  [default: 0.1]"),
        click.option("--test-share", type=float, help="Share of test.  [default: the set's own test part, else 0.1]"),
        click.option("--sensor-size", type=SENSOR, metavar="WxH", help="Of the sensor, where the set's is wrong."),
        click.option("--time-unit", help="Of arrays and MATLAB files: s | ms | us | ns."),
        click.option("--shift-x", type=int, help="Added to every column, before the turn; -1 where they count from 1."),
        click.option("--shift-y", type=int, help="Added to every row."),
        click.option("--orientation", help="flip-x | flip-y | rotate-90 | -180 | -270 | transpose.  [default: as-is]"),
        click.option("--polarity", help="inverted: OFF is ON.  [default: as-is]"),
        click.option("--time-offset-us", type=int, help="Added to every time.  [default: 0]"),
        click.option("--hot-pixels", type=float, help="Drop pixels this many times over the 99th percentile.  [off]"),
        click.option("--refractory-us", type=int, help="Drop what follows its pixel's last event sooner.  [off]"),
        click.option("--background-us", type=int, help="Drop events without a neighbor within this time.  [off]"),
        click.option("--bake", help="Store spike frames too: none | repeat | poisson.  [default: none]"),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("name")
@click.option("--root", type=_ANY, help="Folder, its parent, or archive that holds both sides.")
@click.option("--events", type=_ANY, help="Folder or archive of the recordings, where it lies elsewhere.")
@click.option("--images", type=_ANY, help="Folder or archive of the images, where it lies elsewhere.")
@click.option("--out", type=FILE, help="Cache to write.  [default: a readable name in the cache directory]")
@_spec_options
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=min(os.cpu_count() or 1, 64),
    show_default="cores",
    help="Threads.",
)
@click.option("--skip-bad", is_flag=True, help="Leave unreadable files out; the cache names them.")
@click.option("--allow-unpaired", is_flag=True, help="Go on where a class has recordings and no image.")
@click.option("--force", is_flag=True, help="Prepare again and replace the cache.")
def prepare(
    name: str,
    root: Path | None,
    events: Path | None,
    images: Path | None,
    out: Path | None,
    workers: int,
    skip_bad: bool,
    allow_unpaired: bool,
    force: bool,
    **choices: Any,
) -> None:
    """Build the cache of a dataset: aligned frames of both sides, splits and twins, in one HDF5 file.

    Interrupted at any point and run again, it goes on, and ends with the same bytes.
    """
    from tmkt_data.datasets.registry import open_catalogue
    from tmkt_data.prepare.blocks import UnreadableSourcesError
    from tmkt_data.prepare.plan import cache_directory, find_prepared, plan_prepare
    from tmkt_data.sources.locate import Locations, find_sources

    spec = _spec(name, choices)
    if name == "digits":
        if events is not None or images is not None:
            raise click.UsageError("digits is made by tmkt itself; leave --events and --images out")
        catalogue = open_catalogue(name, _write_digits(root))
    elif name == "caltech101-twins":
        if events is not None:
            raise click.UsageError("caltech101-twins makes its recordings itself; leave --events out")
        events = _write_twins(root, images)
        catalogue = open_catalogue(name, root, events, images, spec.class_set)
    else:
        given, unpack_to = Locations(root, events, images), cache_directory() / "sources"
        catalogue = find_sources(name, given, spec.class_set, unpack_to=unpack_to, say=say).catalogue
    _report_catalogue(catalogue)
    if not allow_unpaired:
        _require_images(catalogue)
    plan = plan_prepare(catalogue, spec, out)
    prepared = None if force else find_prepared(plan, skip_bad=skip_bad)
    if prepared is not None:
        say(f"already prepared: {plan.path} ({megabytes(prepared.num_bytes)}), nothing to do")
        _print_next(plan.path, name, spec)
        return
    try:
        _run(plan, workers, skip_bad=skip_bad, fresh=force)
    except UnreadableSourcesError as unreadable:
        _fail_unreadable(unreadable.problems)
    _report_cache(plan)
    _print_next(plan.path, name, spec)


def _spec(name: str, choices: dict[str, Any]) -> PrepareSpec:
    import dataclasses

    from tmkt_data.datasets.registry import default_spec

    return dataclasses.replace(
        default_spec(name), **{key: value for key, value in choices.items() if value is not None}
    )


def _write_digits(root: Path | None) -> Path:
    from tmkt_data.datasets.digits_source import write_digits
    from tmkt_data.datasets.registry import MADE_IN
    from tmkt_data.prepare.plan import cache_directory

    folder = root if root is not None else cache_directory() / MADE_IN["digits"]
    total = 1797
    with _kept_when_stopped(), progress_bar() as bar:
        task = bar.add_task("simulate", total=total)
        for done in write_digits(folder):
            bar.update(task, completed=done)
    return folder


def _write_twins(root: Path | None, images: Path | None) -> Path:
    from tmkt_data.datasets.caltech_twins import list_photographs
    from tmkt_data.datasets.caltech_twins_source import twins_folder, write_twins
    from tmkt_data.datasets.registry import MADE_IN
    from tmkt_data.prepare.plan import cache_directory

    _, photographs, _ = list_photographs(root, images)
    folder = twins_folder(photographs, cache_directory() / MADE_IN["caltech101-twins"])
    say(f"simulating a recording of each of {len(photographs)} photographs: {folder}")
    with _kept_when_stopped(), progress_bar() as bar:
        task = bar.add_task("simulate", total=len(photographs))
        for done in write_twins(photographs, folder):
            bar.update(task, completed=done)
    return folder


def _report_catalogue(catalogue: Catalogue) -> None:
    say(
        f"{catalogue.name}: {len(catalogue.recordings)} recordings, {len(catalogue.images)} images, "
        f"{catalogue.num_twins} twins, {len(catalogue.class_names)} classes"
    )
    for note in (*catalogue.notes, *catalogue.unmatched_notes()):
        say(f"note: {note}")


def _require_images(catalogue: Catalogue) -> None:
    from tmkt_data.datasets.catalogue import some
    from tmkt_data.errors import CatalogueError

    unpaired = catalogue.unpaired_classes()
    if unpaired:
        raise CatalogueError(
            f"{catalogue.name}: {len(unpaired)} classes have recordings and no image ({some(unpaired)}), expected "
            "images of every class; add them, or go on for event-only training with --allow-unpaired"
        )


def _run(plan: PreparePlan, workers: int, *, skip_bad: bool, fresh: bool) -> None:
    from tmkt_data.prepare.build import prepare_cache

    say(f"writing {plan.path}, about {megabytes(plan.num_bytes)}")
    started = time.perf_counter()
    with _kept_when_stopped(), progress_bar() as bar:
        tasks: dict[str, Any] = {}
        for step in prepare_cache(plan, workers=workers, skip_bad=skip_bad, fresh=fresh):
            if step.stage not in tasks:
                tasks[step.stage] = bar.add_task(step.stage, total=step.total, completed=step.resumed)
            bar.update(tasks[step.stage], completed=step.done)
    say(f"done in {time.perf_counter() - started:.1f} s")


@contextmanager
def _kept_when_stopped() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; what is finished is kept, the same command goes on from there", err=True)
        sys.exit(STOPPED)


def _fail_unreadable(problems: dict[str, str]) -> None:
    for line in list(problems.values())[:_MAX_PROBLEMS]:
        say(f"  {line}", err=True)
    more = f", the first {_MAX_PROBLEMS} above" if len(problems) > _MAX_PROBLEMS else ""
    fail(
        f"{len(problems)} files cannot be read{more}; mend them and run again (what is finished is kept), "
        "or leave them out with --skip-bad"
    )


def _report_cache(plan: PreparePlan) -> None:
    from tmkt_data.cache.format import FILTER_TABLES
    from tmkt_data.cache.reader import read_cache_info, read_tables
    from tmkt_data.datasets.splits import SplitCode

    info = read_cache_info(plan.path)
    say(f"wrote {plan.path}: {megabytes(info.num_bytes)}, digest {info.digest[:16]}")
    print_skipped(info)
    # Not all of the tables, which take as much memory as all the rest of a large set.
    shown = (*_COUNTS, "num_inversions", *FILTER_TABLES, "split/twin-disjoint")
    tables = read_tables(plan.path, [f"events/{name}" for name in shown])
    print_event_counts(tables)
    num_train = int((tables["events/split/twin-disjoint"] == SplitCode.TRAIN).sum())
    if 2 * num_train < info.num_recordings:
        say(f"note: only {num_train} of {info.num_recordings} recordings are in the train split")


def print_skipped(info: CacheInfo) -> None:
    """Print which unreadable files a cache was made without."""
    for entry in info.skipped[:_MAX_PROBLEMS]:
        say(f"left out: {entry['why']}")
    if len(info.skipped) > _MAX_PROBLEMS:
        say(f"left out: {len(info.skipped) - _MAX_PROBLEMS} more unreadable files")


def print_event_counts(tables: dict[str, Any]) -> None:
    """Print how many events a cache was made of and how many were left out."""
    from tmkt_data.cache.format import FILTER_TABLES

    total = {name: int(tables[f"events/{name}"].sum()) for name in _COUNTS}
    others = f"{total['num_no_event']:,} words of other kinds, " if total["num_no_event"] else ""
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


_COUNTS = ("num_read", "num_no_event", "num_outside_sensor", "num_outside_bins")


def _print_next(path: Path, name: str, spec: PrepareSpec) -> None:
    from tmkt_data.datasets.registry import dataset_info, default_spec

    quoted = shlex.quote(str(path))
    chosen = spec.differences(default_spec(name))
    texts = {key: f"{value[0]}x{value[1]}" if key == "sensor_size" else value for key, (value, _) in chosen.items()}
    settings = "".join(f" --set data.prepare.{key}={value}" for key, value in texts.items())
    say(f"look at it:  tmkt-data preview {quoted}")
    say(f"train on it: tmkt-train recipe {dataset_info(name).recipe} --cache {quoted}{settings}")
