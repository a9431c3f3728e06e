"""Console output of both command lines: one-line errors, rows of text, sizes, a progress bar."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tmkt_data.cli.pipes import readers_may_leave
from tmkt_data.cli.reporting import add_output_options, advice_on_disks, is_quiet, shown
from tmkt_data.cli.start import STOPPED
from tmkt_data.errors import SpecError, TmktError, printable
from tmkt_data.spec import OPTIONS

if TYPE_CHECKING:
    from rich.text import Text

_LEAST_TIMED_S = 0.5
"""Seconds before which a rate would be noise."""
_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(kb|mb|gb|tb)", re.ASCII)
_LONG_NAME = re.compile(r"[^\s/\\]{61,}")
_READER_OPTION = re.compile(r" \(--(columns|unit|orientation|keys|chip|stream)\b([^)]*)\)|--(keys)\b")
"""How readers name options that only `events` and `convert` have."""
_READER_ADVICE = re.compile(
    r"; give (?:their order, columns|their paths, keys|its path, keys|chip)='[^']*'"
    r"(?: or (?:another|the like))?(?= \(--|$)"
)
"""What readers advise that no option of `prepare` can give for a dataset whose files are known."""
_PREPARE_OPTION = re.compile(
    rf"(?<!prepare )--(?=(?:{'|'.join(name.replace('_', '-') for name in OPTIONS)}|skip-bad|allow-unpaired)\b)"
)


class GuardedGroup(click.Group):
    """A command group that reports errors as one line and an exit code: 1 failed, 2 usage error, 130 interrupted.

    Its commands have `--json` and `--quiet`, and `examples` in their help.
    """

    def __init__(self, *args: Any, examples: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        self.examples = examples or {}
        super().__init__(*args, **kwargs)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command; see `click.Group.add_command`."""
        add_output_options(cmd)
        lines = self.examples.get(name or cmd.name or "", ())
        if lines and not cmd.epilog:
            cmd.epilog = "\b\n" + "\n".join([f"Example{'s' * (len(lines) > 1)}:", *(f"  {line}" for line in lines)])
        super().add_command(cmd, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with its whole first sentence; click cuts it at the width."""
        commands = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=1000)) for name, command in commands])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command; see `click.Group.main`."""
        if os.environ.get("NO_COLOR"):
            kwargs["color"] = False
        try:
            with readers_may_leave():
                return super().main(*args, **kwargs)
        except SpecError as problem:
            fail(printable(str(problem)), exit_code=2)
        except TmktError as problem:
            fail("\n".join(map(printable, _lines_of(problem))) + advice_on_disks(problem))
        except (OSError, MemoryError) as problem:
            if os.environ.get("TMKT_DEBUG"):
                raise
            fail(printable(system_problem(problem)))
        except Exception as problem:
            if os.environ.get("TMKT_DEBUG"):
                raise
            fail(
                f"internal error of tmkt ({type(problem).__name__}: {printable(str(problem))}); "
                "run again with TMKT_DEBUG=1 and report the traceback"
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit with 130 on an interrupt that the command does not handle."""
        _require_current_folder()
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo("stopped", err=True)
            sys.exit(STOPPED)
        except BrokenPipeError as problem:
            # Not of the output, see `readers_may_leave`; click would exit without a word.
            raise OSError(str(problem)) from problem


def _require_current_folder() -> None:
    """Refuse to work in a deleted folder: some libraries abort there, and paths fail after the work."""
    try:
        os.getcwd()  # noqa: PTH109 - nothing else is asked of it
    except FileNotFoundError:
        raise TmktError("current folder: deleted, expected one that exists; cd to another") from None


def system_problem(problem: OSError | MemoryError) -> str:
    """Say in one line what the system refused, and what to do.

    Example:
        >>> system_problem(PermissionError(errno.EACCES, "Permission denied", "locked/a.h5"))
        'locked/a.h5: cannot be used (Permission denied); check its permissions and those of its folder'
    """
    name = getattr(problem, "filename", None)
    if not isinstance(problem, OSError) or not isinstance(name, str | bytes | os.PathLike) or not problem.strerror:
        return f"{type(problem).__name__}: {problem}"
    advice = {
        errno.ENAMETOOLONG: "give a shorter one",
        errno.EACCES: "check its permissions and those of its folder",
        errno.EPERM: "check its permissions and those of its folder",
    }.get(problem.errno or 0, "check the path and its disk")
    return f"{os.fsdecode(name)}: cannot be used ({problem.strerror}); {advice}"


def _lines_of(problem: TmktError) -> tuple[str, ...]:
    """Return the lines of a multi-line error; a line break in a file name does not start a line."""
    for name in ("lines", "problems"):
        lines = getattr(problem, name, None)
        if isinstance(lines, tuple):
            return lines
    return (str(problem),)


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


class _Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes such as 1GB or 500MB, decimal as disks are sold."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002 - click
        if not isinstance(value, str):
            return value
        found = _SIZE.fullmatch(value.strip().lower())
        num_bytes = round(float(found[1]) * _UNITS[found[2]]) if found else 0
        if num_bytes < 1:
            option = param.opts[0] if param is not None else "size"
            raise SpecError(f"{option}: found {value!r}, expected a size such as 1GB or 500MB")
        return num_bytes


SENSOR = _Sensor()
SIZE = _Size()
WORKERS = click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=min(os.cpu_count() or 1, 64),
    show_default="cores",
    help="Threads.",
)


def pair_options(command: Any) -> Any:
    """Add the options that select pairs, named like the arguments of `PairedFrames`."""
    for option in (
        click.option(
            "--seed", default=0, type=click.IntRange(0, 2**63 - 1), show_default=True, help="Seed of the draws."
        ),
        click.option("--pairing", default="same-class", show_default=True, help="same-class | twin | none."),
        click.option("--protocol", default="twin-disjoint", show_default=True, help="twin-disjoint | kt-paper."),
        click.option("--split", default="train", show_default=True, help="train | val | test."),
    ):
        command = option(command)
    return command


def say(text: str, *, err: bool = False) -> None:
    """Print one line, on standard error if `err`; control characters are escaped."""
    click.echo(printable(shown(text)), err=err)


def say_notes(notes: Iterable[str]) -> None:
    """Print notes of a catalogue. Long names are shortened here alone: caches keep the notes, and their digest.

    Example:
        >>> say_notes([f"recordings: left out: a/{'n' * 200}.bin"])
        note: recordings: left out: a/nnnnnnnnnnnnnnnnnnnnnnnnnnnnn...nnnnnnnnnnnnnnnnnnnnnnnn.bin
    """
    for note in notes:
        say("note: " + _LONG_NAME.sub(lambda name: f"{name[0][:29]}...{name[0][-28:]}", printable(note)))


def fail(message: str, *, exit_code: int = 1) -> NoReturn:
    """Print an error and exit; the caller escapes line breaks that come from file names."""
    for line in f"error: {message}".split("\n"):
        say(line, err=True)
    sys.exit(exit_code)


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values as two columns."""
    for name, value in rows:
        say(f"  {name:<17} {value}")


def megabytes(num_bytes: int) -> str:
    """Return a size as text, in decimal MB or GB."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.2f} GB"


def dataset_advice(problem: str, dataset: str) -> str:
    """Replace the options that readers name by those of a dataset: keys of `tmkt.toml`, or an option of `prepare`.

    Example:
        >>> dataset_advice("x.npz: t is float64 without a unit; give unit='s' or another (--unit s)", "folder")
        "x.npz: t is float64 without a unit; give unit='s' or another (unit in tmkt.toml)"
    """

    def known(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        if dataset == "folder":
            return f" ({name} in tmkt.toml)" if found[1] else f"{name} in tmkt.toml"
        if found[3]:
            return f"whether the file is of {dataset}"
        return f" (prepare --time-unit{found[2]})" if name == "unit" else ""

    if dataset != "folder":
        problem = _READER_ADVICE.sub(f"; no file of {dataset}, fetch it again", problem)
    return _READER_OPTION.sub(known, problem)


def doctor_advice(text: str) -> str:
    """Say of options of `prepare` in a text that they are, as `doctor` does not have them.

    Example:
        >>> doctor_advice("where all do, give --sensor-size 34x34, else leave it out with --skip-bad")
        'where all do, give prepare --sensor-size 34x34, else leave it out with prepare --skip-bad'
    """
    return _PREPARE_OPTION.sub("prepare --", text)


@contextmanager
def kept_when_stopped() -> Iterator[None]:
    """Exit with `STOPPED` on an interrupt, and say that finished work is kept."""
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; finished work is kept, run the same command again to resume", err=True)
        sys.exit(STOPPED)


@contextmanager
def progress_bar(unit: str = "") -> Iterator[Any]:
    """Show a progress bar with rate and remaining time on standard error.

    The rate is that of the whole task, without what a field `resumed` says was done before; the time at the end is the
    time it took. Counts of the unit `bytes` are shown as kB, MB or GB.
    """
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            seconds = task.finished_time or task.elapsed or 0.0
            if seconds < _LEAST_TIMED_S:
                return Text("")
            rate = (task.completed - task.fields.get("resumed", 0)) / seconds
            shown = decimal(int(rate)) if unit == "bytes" else f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
            return Text(f"{shown}/s", style="progress.data.speed")

    class Time(TimeRemainingColumn):
        """Time left, at the end the time taken; nothing for what took no second."""

        def render(self, task: Any) -> Text:
            is_short = task.finished and (task.finished_time or 0.0) < 1
            if task.finished or "resumed" not in task.fields:
                return Text("") if is_short else super().render(task)
            # The window of `rich` would count other stages in between; the shown rate does not.
            num_done, left = task.completed - task.fields["resumed"], (task.total or 0) - task.completed
            minutes, seconds = divmod(round((task.elapsed or 0.0) / num_done * left) if num_done else 0, 60)
            text = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if num_done else "-:--:--"
            return Text(text, style="progress.remaining")

    counts = [DownloadColumn()] if unit == "bytes" else [MofNCompleteColumn(), *([TextColumn(unit)] if unit else [])]
    columns = (TextColumn("{task.description:<10}"), BarColumn(28), *counts, Rate())
    with Progress(*columns, Time(elapsed_when_finished=True), console=Console(stderr=True), disable=is_quiet()) as bar:
        yield bar


class Stages:
    """Bars of the stages of a work, which may alternate: the time of a stage is that spent in it.

    Args:
        bar: As `progress_bar` yields it; the time before the first step counts for its stage.
    """

    def __init__(self, bar: Any) -> None:
        self._bar, self._since = bar, bar.get_time()
        self._tasks: dict[str, Any] = {}
        self._spent: dict[str, float] = {}

    def show(self, stage: str, done: int, total: int, *, resumed: int) -> None:
        """Show how far a stage is. A step is heard of when it is done: the time since the last one was spent on it."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, completed=resumed, resumed=resumed)
        tasks = {task.id: task for task in self._bar.tasks}
        now = self._bar.get_time()
        self._spent[stage] = self._spent.get(stage, 0.0) + now - self._since
        for name, number in self._tasks.items():
            tasks[number].stop_time = None if name == stage else now
            tasks[number].start_time = now - self._spent[name]
        self._bar.update(self._tasks[stage], completed=done, resumed=resumed)
        self._since = self._bar.get_time()
