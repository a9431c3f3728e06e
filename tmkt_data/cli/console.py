"""What both command lines share: errors as one line, rows of text, sizes, a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tmkt_data.errors import SpecError, TmktError, printable

if TYPE_CHECKING:
    from rich.text import Text


STOPPED = 130
"""Exit code of a command that was interrupted: 128 + SIGINT, as shells have it."""


class GuardedGroup(click.Group):
    """A command group that turns every error into one line and an exit code: 1 failed, 2 wrong usage, 130 stopped."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command; see `click.Group.main`."""
        try:
            return super().main(*args, **kwargs)
        except SpecError as problem:
            fail(printable(str(problem)), exit_code=2)
        except TmktError as problem:
            fail("\n".join(map(printable, _lines_of(problem))))
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(1)
        except (OSError, MemoryError) as problem:
            if os.environ.get("TMKT_DEBUG"):
                raise
            fail(printable(f"{type(problem).__name__}: {problem}"))
        except Exception as problem:
            if os.environ.get("TMKT_DEBUG"):
                raise
            fail(
                f"this is a fault of tmkt, not yours ({type(problem).__name__}: {printable(str(problem))}); "
                "run again with TMKT_DEBUG=1 and report what it prints"
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; end with 130 where it is stopped and does not say so itself."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo("stopped", err=True)
            sys.exit(STOPPED)


def _lines_of(problem: TmktError) -> tuple[str, ...]:
    """Return the lines of an error that was built of several; a line break in a file's name makes no line."""
    for name in ("lines", "problems"):
        lines = getattr(problem, name, None)
        if isinstance(lines, tuple):
            return lines
    return (str(problem),)


class _File(click.Path):
    """A file; click itself would answer a folder with its usage."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        if isinstance(path, Path) and path.is_dir():
            raise TmktError(f"{path}: a folder, expected a file; name one file in it")
        return path


class _Sensor(click.ParamType):  # type: ignore[type-arg]
    """Width and height such as 240x180."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002 - click
        from tmkt_data.events.events import SensorSize

        if not isinstance(value, str):
            return value
        width, cross, height = value.lower().partition("x")
        sides = [int(side) for side in (width, height) if side.isascii() and side.isdigit() and len(side) <= 5]
        if not cross or len(sides) != 2 or not all(1 <= side <= 65536 for side in sides):
            option = param.opts[0] if param is not None else "sensor"
            raise SpecError(f"{option}: found {value!r}, expected width and height such as 240x180, 1 to 65536 each")
        return SensorSize(*sides)


FILE = _File(path_type=Path)
SENSOR = _Sensor()


def say(text: str, *, err: bool = False) -> None:
    """Print a line, on standard error if asked to; what a file's name may hold cannot forge another line."""
    click.echo(printable(text), err=err)


def fail(message: str, *, exit_code: int = 1) -> NoReturn:
    """Print an error and end the process; the caller has escaped line breaks that are none of its own."""
    for line in f"error: {message}".split("\n"):
        say(line, err=True)
    sys.exit(exit_code)


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values as two columns."""
    for name, value in rows:
        say(f"  {name:<17} {value}")


def megabytes(num_bytes: int) -> str:
    """Return a size as text, in MB or GB of a thousand steps."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.2f} GB"


@contextmanager
def progress_bar(unit: str = "") -> Iterator[Any]:
    """Show a progress bar with rate and time left on standard error while the block runs."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f}/s" if speed else "-/s", style="progress.data.speed")

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(28),
        MofNCompleteColumn(),
        TextColumn(unit),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar
