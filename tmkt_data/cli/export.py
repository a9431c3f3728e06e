"""The command `tmkt-data export`."""

from __future__ import annotations

from pathlib import Path

import click

from tmkt_data.cli.console import progress_bar, say
from tmkt_data.cli.paths import CACHE, LocalPath
from tmkt_data.cli.reporting import put_json


@click.command()
@click.argument("file", type=CACHE)
@click.argument("out", type=LocalPath(path_type=Path, file_okay=False))
@click.option("--format", "export_format", default="webdataset", show_default=True, help="webdataset | parquet.")
@click.option("--protocol", default="twin-disjoint", show_default=True, help="twin-disjoint | kt-paper.")
@click.option("--shard-mb", type=click.IntRange(1, 100_000), default=256, show_default=True, help="Size of a file.")
def export(file: Path, out: Path, export_format: str, protocol: str, shard_mb: int) -> None:
    """Export a cache to files that other loaders stream.

    webdataset writes tar files, parquet writes files for Hugging Face datasets, with Croissant metadata. OUT is a new
    folder; its README.md is written last.
    """
    from tmkt_data.export.export import export_cache

    with progress_bar(unit="samples") as bar:
        task = bar.add_task("export", total=None)
        steps = export_cache(file, out, export_format, protocol=protocol, shard_bytes=shard_mb * 1_000_000)  # type: ignore[arg-type]
        for done, total in steps:
            bar.update(task, completed=done, total=total)
    put_json({"folder": out, "format": export_format, "start": out / "README.md"})
    say(f"wrote {out}; start with {out / 'README.md'}")
