"""Commands `tmkt-data events` and `tmkt-data convert`: summarize a recording, convert its format."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.console import FILE, SENSOR, megabytes, print_rows, say
from tmkt_data.cli.reporting import put_json
from tmkt_data.errors import TmktError

if TYPE_CHECKING:
    from tmkt_data.events.events import Events


def _read_options(function: Any) -> Any:
    options = [
        click.option("--sensor", "sensor_size", type=SENSOR, metavar="WxH", help="Sensor; events outside are dropped."),
        click.option("--columns", metavar="ORDER", help="Column order of a plain array or HDF5 table, such as xytp."),
        click.option("--unit", help="Time unit of NumPy, HDF5 and MATLAB files: s | ms | us | ns."),
        click.option("--orientation", help="AEDAT 2.0: raw | jaer | cifar10dvs.  [default: raw]"),
        click.option("--keys", help="Paths of HDF5 columns: t=PATH,x=PATH,y=PATH,p=PATH."),
        click.option("--chip", help="Camera of AEDAT 2.0 without one: DVS128 | DAVIS240 | DAVIS346."),
        click.option("--stream", type=int, help="Number of the event stream of AEDAT4.  [default: first with events]"),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _reading(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `load_events` given on the command line."""
    return {name: value for name, value in given.items() if value is not None}


def _pieces(file: Path, given: dict[str, Any]) -> Callable[[], Iterator[Events]]:
    """Return a function that iterates over the events of a file, in pieces if it is large."""
    from tmkt_data.events.read import Reading, check_reading, load_events
    from tmkt_data.events.stream import is_large, is_large_but_whole, read_pieces
    from tmkt_data.files import read_bytes

    if is_large(file):
        check_reading(read_bytes(file, limit=1 << 16), file, Reading(**given))
        return lambda: read_pieces(file, Reading(**given))
    if is_large_but_whole(file):
        say(
            f"note: {file.name} is decoded at once, which takes several times its {megabytes(file.stat().st_size)} of "
            "memory; convert it to .npz with tmkt-data convert to read it in pieces",
            err=True,
        )
    record = load_events(file, **given)
    return lambda: iter((record,))


@click.command()
@click.argument("file", type=FILE)
@_read_options
@click.option("--out", type=FILE, help="PNG to write: all events, and frames of ten time bins.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def events(file: Path, out: Path | None, as_json: bool, **given: Any) -> None:
    """Summarize a recording: events, time, rate, polarity, extent, hot pixels."""
    from tmkt_data.events.plausibility import summary_warnings
    from tmkt_data.events.read import takes_unit
    from tmkt_data.events.summary import summarize_pieces, summary_rows

    pieces = _pieces(file, _reading(given))
    summary = summarize_pieces(pieces, place=file.name)
    warnings = summary_warnings(summary, is_unit_open=given["unit"] is None and takes_unit(file))
    if out is not None:
        from tmkt_data.preview.contact_sheet import write_preview
        from tmkt_data.preview.recording_sheet import draw_pieces

        write_preview(out, draw_pieces(pieces, file.name))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(summary) | {"warnings": warnings}, indent=2))
        return
    print_rows(summary_rows(summary))
    print_rows([("tenths of time", " ".join(f"{count:,}" for count in summary.events_per_step))])
    if out is not None:
        print_rows([("picture", str(out))])
    for line in warnings:
        say(f"warning: {line}")


@click.command()
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@_read_options
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
def convert(source: Path, target: Path, force: bool, **given: Any) -> None:
    """Convert a recording to .bin, .npz or .aedat4, by the suffix of TARGET."""
    from tmkt_data.events.summary import RecordingFacts, dropped_text
    from tmkt_data.events.write import write_pieces

    if target.exists() and not force:
        raise TmktError(f"{target}: already exists; give --force to replace it, or another name")
    pieces = _pieces(source, _reading(given))
    facts = RecordingFacts()

    def counted() -> Iterator[Events]:
        nonlocal facts
        facts = RecordingFacts()
        for record in pieces():
            facts.add(record)
            yield record

    write_pieces(target, counted)
    put_json({"path": target, "bytes": target.stat().st_size, "events": facts.num_kept, "read": facts.num_read})
    print_rows([("events", f"{facts.num_kept:,}"), ("written", f"{target}, {target.stat().st_size:,} bytes")])
    if facts.num_dropped:
        click.echo(f"note: {dropped_text(facts.num_dropped)} of {facts.num_read:,} events were dropped")
    if facts.num_inversions:
        click.echo(f"note: timestamps decreased {facts.num_inversions:,} times; the events are written sorted by time")
