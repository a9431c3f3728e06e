"""Command `tmkt-data remove`: free the space of caches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tmkt_data.cli.completion import complete_cache
from tmkt_data.cli.console import fail, megabytes, say
from tmkt_data.cli.reporting import put_json
from tmkt_data.errors import CacheError, SpecError, counted, printable
from tmkt_data.storage.store_urls import checked_url, is_url

if TYPE_CHECKING:
    from tmkt_data.cache.reader import CacheInfo


@click.command()
@click.argument("target", metavar="NAME|FILE", shell_complete=complete_cache)
@click.option("--yes", is_flag=True, help="Remove without asking.")
def remove(target: str, yes: bool) -> None:
    """Remove one cache, or all caches of a dataset in the cache directory, with copies of those in object stores.

    Nothing but caches is removed, and none that is being built or read. `tmkt-data prepare` makes them again; what was
    copied from an object store is copied again by the next command that uses it.
    """
    from tmkt_data.cache.remove import remove_cache

    caches = _find(target)
    for cache in caches:
        say(f"  {cache.path} ({megabytes(cache.num_bytes)})")
    question = f"remove {counted(len(caches), 'cache')}, {megabytes(sum(cache.num_bytes for cache in caches))}?"
    if not yes and not click.confirm(question, err=True):
        fail("nothing was removed; answer y, or give --yes")
    removed: list[Path] = []
    problems: list[str] = []
    num_bytes = 0
    for cache in caches:
        try:
            num_bytes += remove_cache(cache.path)
            removed.append(cache.path)
        except CacheError as problem:
            problems.append(printable(str(problem)))
    put_json({"removed": removed, "bytes": num_bytes, "problems": problems})
    say(f"removed {counted(len(removed), 'cache')}, {megabytes(num_bytes)}")
    if problems:
        fail("\nerror: ".join(problems))


def _find(target: str) -> list[CacheInfo]:
    from tmkt_data.cache.fetched import find_copies
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.cache.reader import read_cache_info
    from tmkt_data.datasets.prepared import find_caches
    from tmkt_data.datasets.registry import dataset_info

    if is_url(target):
        raise SpecError(
            f"NAME|FILE: found the URL {checked_url(target)}, expected a dataset or a file; objects are removed with "
            "the tools of their store, and their copies here by the name of the dataset"
        )
    file = Path(target)
    if file.is_file() or file.suffix == ".h5":
        return [read_cache_info(file)]
    name = dataset_info(target).name
    found = [*find_caches(name), *find_copies(name)]
    if not found:
        raise CacheError(
            f"{cache_directory()}: no cache of {target}, expected one or more; `tmkt-data datasets` lists them"
        )
    return found
