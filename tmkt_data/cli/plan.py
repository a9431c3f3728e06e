"""Command `tmkt-data plan`, and which shard of a plan a task makes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tmkt_data.cli.completion import complete_dataset
from tmkt_data.cli.console import SIZE, megabytes, say
from tmkt_data.cli.dataset_options import open_sources, source_options, spec_of, spec_options
from tmkt_data.cli.paths import FILE, TARGET
from tmkt_data.cli.reader_options import reader_options
from tmkt_data.cli.reporting import put_json, show_as
from tmkt_data.errors import SpecError, counted

SHARD_BYTES = 10**9
"""Size of a shard where nothing else is asked for."""


@click.command()
@click.argument("name", shell_complete=complete_dataset)
@source_options
@click.option("--out", type=FILE, required=True, help="Plan to write, on a disk that every task sees.")
@click.option(
    "--cache",
    type=TARGET,
    help="Cache that the plan is of, a file or a URL.  [default: a readable name in the cache directory]",
)
@spec_options
@reader_options
@click.option("--allow-unpaired", is_flag=True, help="Allow classes with recordings but no images.")
@click.option("--shards", type=click.IntRange(1, 99999), help="Number of shards.")
@click.option("--shard-size", type=SIZE, help="Size of a shard in place of their number.  [default: 1GB]")
def plan(name: str, root: Path | None, events: Path | None, images: Path | None, **options: Any) -> None:
    """List the sources of a dataset once, for tasks that make one shard each with tmkt-data prepare --plan.

    The tasks need the sources and the folder of the cache under the same paths, on any file system that they share.
    """
    from tmkt_data.prepare.drawn_splits import refuse_early
    from tmkt_data.prepare.plan import plan_prepare
    from tmkt_data.prepare.plan_file import write_plan
    from tmkt_data.prepare.shards import num_shards_within

    if options["shards"] is not None and options["shard_size"] is not None:
        raise click.UsageError("give --shards or --shard-size, not both")
    spec = spec_of(name, options)
    with open_sources(name, (root, events, images), spec, options) as catalogue:
        whole = plan_prepare(catalogue, spec, options["cache"])
        refuse_early(whole.catalogue, spec)
        num_shards = options["shards"] or num_shards_within(whole, options["shard_size"] or SHARD_BYTES)
        cache = whole.path.absolute() if whole.target is None else options["cache"]
        written = write_plan(options["out"], catalogue, spec, cache, num_shards)
    if whole.target is not None:
        show_as(whole.target.folder, whole.target.url)
        whole.target.drop(())
    put_json({"plan": options["out"], "path": written.whole.path, "num_shards": num_shards, "bytes": whole.num_bytes})
    command = f"tmkt-data prepare --plan {shlex.quote(str(options['out']))}"
    say(
        f"wrote {options['out']}: {counted(num_shards, 'shard')} of {written.whole.path}, "
        f"about {megabytes(whole.num_bytes)}"
    )
    say(f"each:   {command} --shard 1/{num_shards}" + (f"  to {num_shards}/{num_shards}" if num_shards > 1 else ""))
    say(f"at last: {command} --finish")


def shard_number(given: str | None, num_shards: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return which shard of a plan to make, counted from 0.

    Args:
        given: `K/N` or `K`, K from 1 to N; None for the task of a SLURM array, whose tasks may be numbered from any
            number in any steps.
        num_shards: Number of shards of the plan.
        environment: Where the variables of SLURM are looked up.

    Raises:
        SpecError: Nothing says which shard, K or N is none of the plan, or the array is not one task a shard.

    Example:
        >>> shard_number("3/8", 8)
        2
    """
    if given is None:
        return _slurm_task(num_shards, environment)
    shard, slash, total = given.partition("/")
    numbers = [int(part) for part in (shard, total) if part.isascii() and part.isdigit() and len(part) <= 6]
    if len(numbers) != 1 + bool(slash):
        raise SpecError(f"--shard: found {given!r}, expected K/{num_shards}, K from 1 to {num_shards}")
    if slash and numbers[1] != num_shards:
        raise SpecError(f"--shard: found {given!r}, but the plan has {counted(num_shards, 'shard')}")
    if not 1 <= numbers[0] <= num_shards:
        raise SpecError(f"--shard: found {given!r}, expected 1/{num_shards} to {num_shards}/{num_shards}")
    return numbers[0] - 1


def _slurm_task(num_shards: int, environment: Mapping[str, str]) -> int:
    keys = ("ID", "MIN", "MAX", "COUNT")
    texts = [environment.get(f"SLURM_ARRAY_TASK_{key}", "") for key in keys]
    if not all(text.isascii() and text.isdigit() for text in texts):
        raise SpecError(f"--shard: not given, and no task of a SLURM array, expected K/{num_shards}")
    task, first, last, count = map(int, texts)
    given = environment.get("SLURM_ARRAY_TASK_STEP", "1")
    step = int(given) if given.isdigit() and int(given) else 1
    shard, rest = divmod(task - first, step)
    tasks = f"--shard: found task {task} of a SLURM array of {counted(count, 'task')} from {first} to {last}"
    if count != num_shards:
        # Some tasks of an array that are run again do not tell which shards they were.
        raise SpecError(f"{tasks}, but the plan has {counted(num_shards, 'shard')}; give --shard K/{num_shards}")
    if last != first + (count - 1) * step or rest or not 0 <= shard < num_shards:
        # SLURM says 1 as the step of a list such as 1,3,5.
        raise SpecError(
            f"{tasks}, expected a range such as {first}-{first + count - 1} that leaves none out; submit one, or give "
            f"--shard K/{num_shards}"
        )
    return shard
