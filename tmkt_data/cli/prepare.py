"""Command `tmkt-data prepare`: its options, its reports, and how it is interrupted."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tmkt_data.cli.completion import complete_dataset
from tmkt_data.cli.console import SIZE, WORKERS, Stages, kept_when_stopped, megabytes, progress_bar, say
from tmkt_data.cli.dataset_options import open_sources, source_options, spec_of, spec_options
from tmkt_data.cli.paths import FILE, TARGET
from tmkt_data.cli.plan import SHARD_BYTES, shard_number
from tmkt_data.cli.prepare_report import fail_missing, fail_unreadable, print_next, report_cache, report_replaced
from tmkt_data.cli.reader_options import FIELDS, reader_options
from tmkt_data.cli.reporting import is_disk_full, put_json, show_as
from tmkt_data.errors import CacheError
from tmkt_data.spec import OPTIONS, PrepareSpec

if TYPE_CHECKING:
    from tmkt_data.cache.reader import CacheInfo
    from tmkt_data.datasets.catalogue import Catalogue
    from tmkt_data.prepare.build import Progress
    from tmkt_data.prepare.plan import PreparePlan
    from tmkt_data.prepare.plan_file import PlanFile
    from tmkt_data.prepare.shards import ShardedPlan


_OF_PLAN = ("out", "allow_unpaired", "unpack", "shards", "shard_size")
"""What a plan says, beside `OPTIONS`."""


@click.command()
@click.argument("name", required=False, shell_complete=complete_dataset)
@source_options
@click.option(
    "--out", type=TARGET, help="Cache to write, a file or a URL.  [default: a readable name in the cache directory]"
)
@spec_options
@reader_options
@WORKERS
@click.option("--skip-bad", is_flag=True, help="Skip unreadable files; the cache lists them.")
@click.option("--allow-unpaired", is_flag=True, help="Allow classes with recordings but no images.")
@click.option("--force", is_flag=True, help="Prepare again and replace the cache.")
@click.option("--shards", type=click.IntRange(1, 99999), help="Write this many shards and an index of them.")
@click.option("--shard-size", type=SIZE, help="Write shards of at most about this size, such as 1GB, if one is larger.")
@click.option("--plan", type=FILE, help="Plan of tmkt-data plan, in place of NAME: make one shard of it, or the index.")
@click.option("--shard", help="Shard to make, K/N from 1/N to N/N.  [default: the task of a SLURM array]")
@click.option("--finish", is_flag=True, help="Check that all shards are there, and write their index.")
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Make the shards on a Dask cluster: a scheduler's address or file, or local:N for N processes here.",
)
def prepare(name: str | None, root: Path | None, events: Path | None, images: Path | None, **options: Any) -> None:
    """Build the cache of a dataset: aligned frames of both sides, splits and twins, in one HDF5 file or in shards.

    NAME is one of tmkt-data datasets, or tonic:CLASS for a dataset class of tonic, whose files --root holds.

    Run the same command again to resume after an interruption; the result has the same bytes. With --plan, each of
    several machines makes one shard; with --dask, the workers of a cluster make all.
    """
    if options["dask"] is not None:
        from tmkt_data.prepare.cluster import scheduler_address

        # Before millions of sources are listed.
        options["dask"] = scheduler_address(options["dask"])
        if click.get_current_context().get_parameter_source("workers") is ParameterSource.DEFAULT:
            options["workers"] = 1
    if options["plan"] is not None:
        others = [name, root, events, images, *(options[key] for key in (*OPTIONS, *FIELDS, *_OF_PLAN))]
        if any(given is not None and given is not False for given in others):
            raise click.UsageError(
                "--plan says what is prepared; give only --shard, --finish, --dask, --workers, --skip-bad and --force "
                "with it"
            )
        _prepare_planned(options)
        return
    if name is None or options["shard"] is not None or options["finish"]:
        raise click.UsageError("give the NAME of a dataset; or --plan with --shard or --finish")
    spec = spec_of(name, options)
    with open_sources(name, (root, events, images), spec, options) as catalogue:
        _prepare(catalogue, spec, options)


def _prepare_planned(options: dict[str, Any]) -> None:
    from tmkt_data.prepare.blocks import UnreadableSourcesError
    from tmkt_data.prepare.plan_file import read_plan

    given = read_plan(options["plan"])
    _look_at_target(given.plan.whole, force=options["force"])
    name = given.plan.whole.catalogue.name
    if options["dask"] is not None:
        if options["shard"] is not None or options["finish"]:
            raise click.UsageError("--dask makes all shards and the index; omit --shard and --finish")
        _prepare_all(given.plan, options)
        return
    if options["finish"]:
        if options["shard"] is not None or options["force"]:
            raise click.UsageError("--finish writes the index only; omit --shard and --force")
        _finish(given, options)
        return
    shard = shard_number(options["shard"], len(given.plan))
    try:
        _prepare_shard(given, shard, options)
    except UnreadableSourcesError as unreadable:
        fail_unreadable(unreadable.problems, name)


def _prepare_shard(given: PlanFile, shard: int, options: dict[str, Any]) -> None:
    from tmkt_data.cache.build_folder import drop_left
    from tmkt_data.prepare.build import prepare_cache
    from tmkt_data.prepare.shards import require_shardable, shard_problem

    skip_bad, force = options["skip_bad"], options["force"]
    planned = given.plan.shard(shard)
    given.require_unchanged(shard)
    put_json({"path": planned.path, "shard": shard + 1, "num_shards": len(given.plan)})
    if not force:
        require_shardable(given.plan)
        if shard_problem(given.plan, shard, skip_bad=skip_bad) is None:
            drop_left(planned.build_folder, planned.build_key)
            say(f"shard {shard + 1}/{len(given.plan)} is there: {planned.path}, nothing to do")
            _leave_target(planned, given.plan.names()[shard])
            return
    _run(planned, prepare_cache(planned, workers=options["workers"], skip_bad=skip_bad, fresh=force))
    _leave_target(planned, given.plan.names()[shard])


def _finish(given: PlanFile, options: dict[str, Any]) -> None:
    from tmkt_data.prepare.build import finish_shards
    from tmkt_data.prepare.shards import missing_shards, require_shardable

    plan = given.plan
    require_shardable(plan)
    missing = dict(missing_shards(plan, skip_bad=options["skip_bad"]))
    if missing:
        fail_missing(missing, len(plan), str(given.path))
    finish_shards(plan)
    _report_left(plan)
    report_cache(plan.whole)
    print_next(plan.whole)
    _leave_target(plan.whole, *plan.names())


def _report_left(plan: ShardedPlan) -> None:
    for left in sorted(plan.shard(0).path.parent.glob("*.building")):
        say(f"note: {left} is of a task that was stopped on another machine; remove it once none is running")


def _prepare_all(plan: ShardedPlan, options: dict[str, Any]) -> None:
    """Make the shards that a plan lacks on a cluster, and the index."""
    from tmkt_data.prepare.blocks import UnreadableSourcesError

    name = plan.whole.catalogue.name
    try:
        _prepare_shards(plan, options)
    except UnreadableSourcesError as unreadable:
        fail_unreadable(unreadable.problems, name)
    if options["force"]:
        report_replaced(plan.whole.path, plan.names())
    print_next(plan.whole)
    _leave_target(plan.whole, *plan.names())


def _prepare(catalogue: Catalogue, spec: PrepareSpec, options: dict[str, Any]) -> None:
    from tmkt_data.prepare.blocks import UnreadableSourcesError
    from tmkt_data.prepare.build import prepare_cache
    from tmkt_data.prepare.plan import find_prepared, plan_prepare

    skip_bad, force, workers = options["skip_bad"], options["force"], options["workers"]
    plan = plan_prepare(catalogue, spec, options["out"])
    _look_at_target(plan, force=force)
    if options["dask"] is not None:
        # Workers run in other folders.
        plan = dataclasses.replace(plan, path=plan.path.absolute())
    sharded = _sharded(plan, options)
    try:
        if sharded is not None:
            _prepare_shards(sharded, options)
        elif not force and (prepared := find_prepared(plan, skip_bad=skip_bad)) is not None:
            _report_prepared(plan, prepared)
        else:
            _run(plan, prepare_cache(plan, workers=workers, skip_bad=skip_bad, fresh=force))
    except UnreadableSourcesError as unreadable:
        fail_unreadable(unreadable.problems, catalogue.name)
    if force:
        report_replaced(plan.path, () if sharded is None else sharded.names())
    print_next(plan)
    _leave_target(plan, *(() if sharded is None else sharded.names()))


def _look_at_target(plan: PreparePlan, *, force: bool) -> None:
    """Find out what a store holds of a cache that goes there, and show its URL from now on."""
    from tmkt_data.cache.build_folder import is_being_built
    from tmkt_data.files import is_refused

    if plan.target is not None:
        if plan.target.url.startswith("memory:"):
            say(f"warning: {plan.target.url} is memory of this process; the cache is gone when it ends")
        show_as(plan.target.folder, plan.target.url)
        try:
            if not force:
                plan.bring()
        except CacheError as damaged:
            if is_being_built(damaged) or is_disk_full(damaged) or is_refused(damaged):
                raise
            raise CacheError(f"{damaged} (--force replaces it)") from damaged


def _leave_target(plan: PreparePlan, *shards: str) -> None:
    """Remove what stood in for files of a store."""
    if plan.target is not None:
        plan.target.drop([*shards] if plan.drawn_over is not None else [*shards, plan.target.name])


def _sharded(plan: PreparePlan, options: dict[str, Any]) -> ShardedPlan | None:
    """Return the shards that were asked for, or that are there where nothing was asked for; None for one file."""
    from tmkt_data.prepare.shards import ShardedPlan, num_shards_there, num_shards_within

    shards, size, force = options["shards"], options["shard_size"], options["force"]
    if shards is not None and size is not None:
        raise click.UsageError("give --shards or --shard-size, not both")
    if options["dask"] is not None:
        there = None if force else num_shards_there(plan)
        return ShardedPlan(plan, shards or (size is None and there) or num_shards_within(plan, size or SHARD_BYTES))
    if size is not None:
        within = num_shards_within(plan, size)
        shards = within if within > 1 else None
    elif shards is None and not force:
        shards = num_shards_there(plan)
    return None if shards is None else ShardedPlan(plan, shards)


def _prepare_shards(plan: ShardedPlan, options: dict[str, Any]) -> None:
    from tmkt_data.prepare.build import prepare_shards
    from tmkt_data.prepare.shards import find_prepared_index, missing_shards, require_shardable

    skip_bad, force = options["skip_bad"], options["force"]
    missing = list(range(len(plan)))
    if not force:
        require_shardable(plan)
        found = dict(missing_shards(plan, skip_bad=skip_bad))
        if not found and (prepared := find_prepared_index(plan)) is not None:
            _report_prepared(plan.whole, prepared)
            return
        missing = list(found)
        for shard, problem in found.items() if plan.index is not None else ():
            say(f"making shard {shard + 1} of {len(plan)} again: {problem}")
    if options["dask"] is not None:
        from tmkt_data.prepare.cluster_build import ClusterBuild, prepare_on_cluster

        build = ClusterBuild(options["dask"], say, options["workers"], skip_bad, fresh=force, plan=options["plan"])
        # Closed at once when it is interrupted: it holds processes.
        with closing(prepare_on_cluster(plan, missing, build)) as steps:
            _run(plan.whole, steps)
        _report_left(plan)
        return
    local = prepare_shards(plan, missing, workers=options["workers"], skip_bad=skip_bad, fresh=force)
    _run(plan.whole, local)


def _report_prepared(plan: PreparePlan, prepared: CacheInfo) -> None:
    from tmkt_data.cache.build_folder import drop_left

    drop_left(plan.build_folder, plan.build_key)
    say(f"already prepared: {plan.path} ({megabytes(prepared.num_bytes)}), nothing to do")


def _run(plan: PreparePlan, steps: Iterator[Progress]) -> None:
    say(f"writing {plan.path}, about {megabytes(plan.num_bytes)}")
    started = time.perf_counter()
    suspicions: tuple[str, ...] = ()
    with kept_when_stopped(), progress_bar() as bar:
        stages = Stages(bar)
        for step in steps:
            stages.show(step.stage, step.done, step.total, resumed=step.resumed)
            suspicions += step.suspicions
    say(f"done in {time.perf_counter() - started:.1f} s")
    for line in suspicions:
        say(f"warning: {line}")
    report_cache(plan)
