"""The command `tmkt-data prepare`: its options, what it says before and after, and how it stops."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from tmkt_data.cli.console import FILE, SENSOR, STOPPED, fail, megabytes, progress_bar, say
from tmkt_data.datasets.info import DatasetInfo
from tmkt_data.spec import DEFAULTS, KINDS, OPTIONS, PrepareSpec

if TYPE_CHECKING:
    from tmkt_data.cache.reader import CacheInfo
    from tmkt_data.datasets.catalogue import Catalogue
    from tmkt_data.prepare.plan import PreparePlan

_ANY = click.Path(path_type=Path)
_MAX_PROBLEMS = 10


_KINDS = {int: int, float: float, tuple[int, int]: SENSOR}
_BY_DATASET = {field.name for field in dataclasses.fields(DatasetInfo)} & set(OPTIONS)


def _spec_options(function: Any) -> Any:
    """Add an option for each field of `PrepareSpec`."""
    for name, option in reversed(OPTIONS.items()):
        choices = "|".join(get_args(KINDS[name])) if KINDS[name] not in _KINDS else ""
        text = option.text if len(choices) < 40 else f"{option.text} One of {choices.replace('|', ', ')}."
        default = option.absent or str(DEFAULTS[name]) + (" or the dataset's" if name in _BY_DATASET else "")
        limits = f"; {option.low} to {option.high}" if option.low > -(10**6) and option.high < 10**6 else ""
        function = click.option(
            f"--{name.replace('_', '-')}",
            type=_KINDS.get(KINDS[name], str),
            metavar=(choices if len(choices) < 40 else "NAME") or None,
            help=f"{text}  [default: {default}{limits}]",
        )(function)
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
def prepare(name: str, root: Path | None, events: Path | None, images: Path | None, **options: Any) -> None:
    """Build the cache of a dataset: aligned frames of both sides, splits and twins, in one HDF5 file.

    Stopped at any point, the same command resumes and ends with the same bytes.
    """
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.datasets.registry import open_catalogue
    from tmkt_data.prepare.blocks import UnreadableSourcesError
    from tmkt_data.prepare.plan import find_prepared, plan_prepare
    from tmkt_data.sources.locate import Locations, find_sources

    spec = _spec(name, options)
    skip_bad, force = options["skip_bad"], options["force"]
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
    if not options["allow_unpaired"]:
        _require_images(catalogue)
    plan = plan_prepare(catalogue, spec, options["out"])
    prepared = None if force else find_prepared(plan, skip_bad=skip_bad)
    if prepared is not None:
        say(f"already prepared: {plan.path} ({megabytes(prepared.num_bytes)}), nothing to do")
        _print_next(plan.path, name, spec)
        return
    try:
        _run(plan, options["workers"], skip_bad=skip_bad, fresh=force)
    except UnreadableSourcesError as unreadable:
        _fail_unreadable(unreadable.problems)
    _report_cache(plan)
    _print_next(plan.path, name, spec)


def _spec(name: str, options: dict[str, Any]) -> PrepareSpec:
    from tmkt_data.datasets.registry import default_spec

    given = {key: options[key] for key in OPTIONS if options[key] is not None}
    return dataclasses.replace(default_spec(name), **given)


def _write_digits(root: Path | None) -> Path:
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.datasets.digits_source import write_digits
    from tmkt_data.datasets.registry import MADE_IN

    folder = root if root is not None else cache_directory() / MADE_IN["digits"]
    total = 1797
    with _kept_when_stopped(), progress_bar() as bar:
        task = bar.add_task("simulate", total=total)
        for done in write_digits(folder):
            bar.update(task, completed=done)
    return folder


def _write_twins(root: Path | None, images: Path | None) -> Path:
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.datasets.caltech_twins import list_photographs
    from tmkt_data.datasets.caltech_twins_source import twins_folder, write_twins
    from tmkt_data.datasets.registry import MADE_IN

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
    changed = spec.written_differences(default_spec(name))
    settings = "".join(f" --set data.prepare.{key}={text}" for key, text in changed.items())
    say(f"look at it:  tmkt-data preview {quoted}")
    say(f"train on it: tmkt-train recipe {dataset_info(name).recipe} --cache {quoted}{settings}")
