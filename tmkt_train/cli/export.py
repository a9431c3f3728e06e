"""The command `tmkt-train export`."""

from __future__ import annotations

from pathlib import Path

import click

from tmkt_data.cli.reporting import put_json
from tmkt_train.cli.display import RUN

_HERE = ""
"""Value of an option without one: a name in the run folder."""


@click.command()
@RUN
@click.option(
    "--safetensors",
    is_flag=False,
    flag_value=_HERE,
    metavar="[DIR]",
    help="Write weights and a model card to a new folder.  [default DIR: safetensors in the run]",
)
@click.option(
    "--nir", "graph", type=click.Path(path_type=Path, dir_okay=False), help="Write its event stream as a graph."
)
def export(run: Path, safetensors: str | None, graph: Path | None) -> None:
    """Export a finished run for use elsewhere.

    --safetensors writes its weights, its recipe and a model card. tmkt_train.load_run and tmkt-train predict take that
    folder as they take a run. --nir writes a file of the Neuromorphic Intermediate Representation, for other frameworks
    and for neuromorphic chips.
    """
    if safetensors is None and graph is None:
        raise click.UsageError("found no format, expected --safetensors or --nir FILE")
    files: list[Path] = []
    if safetensors is not None:
        from tmkt_train.export.weights import export_weights

        files = export_weights(run, Path(safetensors) if safetensors else run / "safetensors")
        click.echo(f"weights: {files[0]}")
        click.echo(f"model card: {files[-1]}; enter the license of the data before you publish it")
    if graph is not None:
        from tmkt_train.export.graph import export_graph

        click.echo(f"graph: {graph}, {export_graph(run, graph)} nodes")
        files = [*files, graph]
    put_json({"files": list(files)})
