"""Commands `tmkt-data events` and `tmkt-data convert`: summarize a recording, convert its format."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tmkt_data.cli.console import fail, megabytes, print_rows, say, system_problem
from tmkt_data.cli.paths import FILE
from tmkt_data.cli.reader_options import file_options, own_words, split_options
from tmkt_data.cli.reporting import put_json
from tmkt_data.errors import EventError, TmktError, printable
from tmkt_data.spec import EventFormat

if TYPE_CHECKING:
    from tmkt_data.events.events import Events
    from tmkt_data.events.summary import RecordingSummary

_TITLES: dict[EventFormat, str] = {
    "atis": "ATIS",
    "aedat2": "AEDAT 2.0",
    "aedat3": "AEDAT 3.1",
    "aedat4": "AEDAT4",
    "dat": "Prophesee .dat",
    "evt": "Prophesee .raw (EVT)",
    "es": "Event Stream",
    "npy": "NumPy .npy",
    "npz": "NumPy .npz",
    "mat": "MATLAB .mat",
    "hdf5": "HDF5",
}
Pieces = Callable[[], "Iterator[Events]"]
_HEADER_BYTES = 1 << 16


class _Look(NamedTuple):
    """What `events` prints of a file."""

    file: Path
    format: EventFormat
    summary: RecordingSummary
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        named = {"file": str(self.file), "format": self.format}
        return named | dataclasses.asdict(self.summary) | {"warnings": self.warnings}


def _pieces(file: Path, given: dict[str, Any]) -> Pieces:
    """Return a function that iterates over the events of a file, in pieces if it is large; turned as prepare does."""
    from tmkt_data.events.filters import orient_events

    reading, orientation = split_options(given)
    pieces = _as_stored(file, reading)
    if orientation == "as-is":
        return pieces
    # Pieces of an ATIS file come with the largest sensor that the format can hold.
    is_sized = "sensor_size" in reading or _format_of(file) != "atis"

    def turned() -> Iterator[Events]:
        for events in pieces():
            if events.sensor_size is None or not is_sized:
                raise EventError(
                    f"{file.name}: declares no sensor, expected one to apply --orientation to; give --sensor-size"
                )
            yield orient_events(events, orientation)

    return turned


def _format_of(file: Path) -> EventFormat:
    from tmkt_data.events.read import recognize
    from tmkt_data.files import read_bytes

    return recognize(read_bytes(file, limit=_HEADER_BYTES), file)


def _as_stored(file: Path, given: dict[str, Any]) -> Pieces:
    from tmkt_data.events.read import Reading, check_reading, load_events
    from tmkt_data.events.stream import is_large, is_large_but_whole, read_pieces
    from tmkt_data.files import read_bytes

    if is_large(file):
        check_reading(read_bytes(file, limit=_HEADER_BYTES), file, Reading(**given))
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
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@file_options
@click.option("--out", type=FILE, help="PNG to write: all events, and frames of ten time bins; of one file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def events(files: tuple[Path, ...], out: Path | None, as_json: bool, **given: Any) -> None:
    """Summarize recordings: format, events, time, rate, polarity, extent, hot pixels; exits with 1 if one fails."""
    if out is not None and len(files) > 1:
        raise click.UsageError(f"--out draws one recording, found {len(files)} files; name one of them")
    looks: list[_Look] = []
    problems: list[str] = []
    for number, file in enumerate(files):
        try:
            with own_words():
                looks.append(_look(file, out, given))
        except (EventError, OSError) as problem:
            problems.append(printable(system_problem(problem) if isinstance(problem, OSError) else str(problem)))
            continue
        if not as_json:
            _print_look(looks[-1], out, is_next=number > 0)
    if as_json and (looks or len(files) > 1):
        found = [look.to_dict() for look in looks]
        # The fields of a single file also stand alone, as they did when the command took one.
        only = found[0] if len(files) == 1 else {}
        click.echo(json.dumps(only | {"recordings": found, "problems": problems}, indent=2))
    if problems:
        fail("\nerror: ".join(problems))


def _look(file: Path, out: Path | None, given: dict[str, Any]) -> _Look:
    from tmkt_data.events.plausibility import summary_warnings
    from tmkt_data.events.read import takes_unit
    from tmkt_data.events.summary import summarize_pieces

    pieces = _pieces(file, given)
    summary = summarize_pieces(pieces, place=file.name)
    is_unit_open = given["time_unit"] is None and takes_unit(file)
    if out is not None:
        from tmkt_data.preview.contact_sheet import write_preview
        from tmkt_data.preview.recording_sheet import draw_pieces

        write_preview(out, draw_pieces(pieces, file.name))
    return _Look(file, _format_of(file), summary, summary_warnings(summary, is_unit_open=is_unit_open))


def _print_look(look: _Look, out: Path | None, *, is_next: bool) -> None:
    from tmkt_data.events.summary import summary_rows

    if is_next:
        click.echo()
    print_rows([("file", str(look.file)), ("format", _TITLES[look.format]), *summary_rows(look.summary)])
    print_rows([("tenths of time", " ".join(f"{count:,}" for count in look.summary.events_per_step))])
    if out is not None:
        print_rows([("picture", str(out))])
    for line in look.warnings:
        say(f"warning: {line}")


@click.command()
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@file_options
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
def convert(source: Path, target: Path, force: bool, **given: Any) -> None:
    """Convert a recording to .bin, .npz or .aedat4, by the suffix of TARGET."""
    from tmkt_data.events.summary import RecordingFacts, dropped_text
    from tmkt_data.events.write import write_pieces

    if target.exists() and not force:
        raise TmktError(f"{target}: already exists; give --force to replace it, or another name")
    with own_words():
        pieces = _pieces(source, given)
    facts = RecordingFacts()

    def counted() -> Iterator[Events]:
        nonlocal facts
        facts = RecordingFacts()
        for record in pieces():
            facts.add(record)
            yield record

    with own_words():
        write_pieces(target, counted)
    put_json({"path": target, "bytes": target.stat().st_size, "events": facts.num_kept, "read": facts.num_read})
    print_rows([("events", f"{facts.num_kept:,}"), ("written", f"{target}, {target.stat().st_size:,} bytes")])
    if facts.num_dropped:
        click.echo(f"note: {dropped_text(facts.num_dropped)} of {facts.num_read:,} events were dropped")
    if facts.num_inversions:
        click.echo(f"note: timestamps decreased {facts.num_inversions:,} times; the events are written sorted by time")
