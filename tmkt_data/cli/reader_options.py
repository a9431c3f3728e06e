"""Options that say what files of recordings leave open, the same in every command that reads some."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

import click

from tmkt_data.cli.console import SENSOR
from tmkt_data.errors import EventError, SpecError
from tmkt_data.spec import AEDAT2_LAYOUTS, ORIENTATIONS, TIME_UNITS, Orientation

if TYPE_CHECKING:
    from tmkt_data.datasets.catalogue import Catalogue

FIELDS = {"columns": "columns", "keys": "keys", "chip": "chip", "stream": "stream", "aedat2_layout": "orientation"}
"""Field of `Reading` by option."""
_CALLED = {"unit": "time-unit", "orientation": "aedat2-layout"}
_IN_ADVICE = re.compile(r"(?<=\(--)(unit|orientation)\b")


def reader_options(function: Any) -> Any:
    """Add the options of `FIELDS`."""
    options = [
        click.option("--columns", metavar="ORDER", help="Column order of a plain array or HDF5 table, such as xytp."),
        click.option("--keys", help="Paths of HDF5 columns: t=PATH,x=PATH,y=PATH,p=PATH; or table=PATH."),
        click.option("--chip", help="Camera of AEDAT 2.0 without one: DVS128 | DAVIS240 | DAVIS346."),
        click.option("--stream", type=int, help="Number of the event stream of AEDAT4.  [default: first with events]"),
        click.option("--aedat2-layout", metavar="|".join(AEDAT2_LAYOUTS), help="Of AEDAT 2.0.  [default: raw]"),
    ]  # fmt: skip
    return _added(options, function)


def file_options(function: Any) -> Any:
    """Add the options of commands that read single files, named as those of `prepare`."""
    options = [
        click.option("--sensor-size", "--sensor", type=SENSOR, help="Sensor; events outside are dropped."),
        click.option("--time-unit", "--unit", metavar="|".join(TIME_UNITS), help="Unit of times, if left open."),
        click.option("--orientation", metavar="NAME", help=f"One of {', '.join(ORIENTATIONS)}, as in prepare."),
    ]  # fmt: skip
    return _added(options, reader_options(function))


def _added(options: list[Any], function: Any) -> Any:
    for option in reversed(options):
        function = option(function)
    return function


def split_options(given: dict[str, Any]) -> tuple[dict[str, Any], Orientation]:
    """Return the arguments of `load_events` that `file_options` gave, and how the events are turned.

    Raises:
        SpecError: There is no such orientation, or the layout of AEDAT 2.0 is given twice.
    """
    reading = {FIELDS[name]: given[name] for name in FIELDS}
    turn: Any = given["orientation"] or "as-is"
    # Before there were two options, --orientation was that of AEDAT 2.0.
    if turn in AEDAT2_LAYOUTS:
        if given["aedat2_layout"] is not None:
            raise SpecError(f"--orientation: found {turn!r} beside --aedat2-layout, expected one of them; omit it")
        reading["orientation"], turn = turn, "as-is"
    if turn not in get_args(Orientation):
        raise SpecError(
            f"--orientation: found {turn!r}, expected one of {', '.join(ORIENTATIONS)}; for AEDAT 2.0 see "
            "--aedat2-layout"
        )
    reading |= {"sensor_size": given["sensor_size"], "unit": given["time_unit"]}
    return {name: value for name, value in reading.items() if value is not None}, turn


@contextmanager
def own_words() -> Iterator[None]:
    """Name options in errors of readers as they are called here; readers name them as their arguments are."""
    try:
        yield
    except EventError as problem:
        said = _IN_ADVICE.sub(lambda found: _CALLED[found[1]], str(problem))
        if said == str(problem):
            raise
        raise EventError(said) from None


def require_own_files(name: str, options: Mapping[str, Any]) -> None:
    """Check the options of `reader_options` before a dataset is looked for.

    Raises:
        SpecError: One is given for a dataset whose files are known, or has a value that does not exist.
    """
    for field, value in options.items():
        option = f"--{field.replace('_', '-')}"
        if field not in FIELDS or value is None:
            continue
        if name != "folder":
            raise SpecError(f"{option}: found {value!r}, but the format of {name} is known; omit {option}")
        if field == "aedat2_layout" and value not in AEDAT2_LAYOUTS:
            raise SpecError(f"{option}: found {value!r}, expected one of {', '.join(AEDAT2_LAYOUTS)}")
        if field == "stream" and value < 0:
            raise SpecError(f"{option}: found {value}, expected the number of an event stream, 0 or more")


def read_as_given(catalogue: Catalogue, options: Mapping[str, Any]) -> Catalogue:
    """Return a catalogue whose recordings are read as the options say that were given."""
    given = {field: options[name] for name, field in FIELDS.items() if options[name] is not None}
    return dataclasses.replace(catalogue, reading=catalogue.reading._replace(**given))
