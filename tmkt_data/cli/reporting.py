"""`--json` and `--quiet` of every command: what a command found as one record, and its text silenced."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import click

from tmkt_data.errors import NO_SPACE, StoreError, TmktError

_RECORD = "tmkt.record"
_shown: dict[str, str] = {}
_QUIET = "tmkt.quiet"


def show_as(folder: Path, url: str) -> None:
    """Show the files of a folder as those of a URL, whose place it takes, until the process ends."""
    _shown[str(folder)] = url


def shown(text: str) -> str:
    """Return a text as it is shown, see `show_as`."""
    for folder, url in _shown.items():
        text = text.replace(folder, url)
    return text


def is_disk_full(problem: BaseException | None) -> bool:
    """Return whether an error is that of a full disk of this machine."""
    if isinstance(problem, StoreError):
        return False
    while problem is not None:
        if isinstance(problem, OSError) and problem.errno in NO_SPACE:
            return True
        problem = problem.__cause__
    return False


def advice_on_disks(problem: TmktError) -> str:
    """Return what else helps where a disk is full on which files lie that are shown as those of a URL.

    They are shown as what they are from then on.
    """
    if not _shown or not is_disk_full(problem):
        return ""
    _shown.clear()
    if "TMPDIR" in str(problem):
        # Who copies a member of an archive says it, too.
        return ""
    return "; or set TMPDIR to a folder of a larger disk, as what goes to a store is built there"


class CacheUrl(str):
    """The URL of a cache, which a command gets as the path of a local copy."""

    __slots__ = ()


def _local(value: Any) -> Any:
    if not isinstance(value, CacheUrl):
        return value
    from tmkt_data.cache.fetched import local_copy

    return local_copy(str(value), lambda text: click.echo(text, err=True))


def put_json(found: Mapping[str, Any]) -> None:
    """Add to what `--json` prints when the command ends; paths become texts."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta.setdefault(_RECORD, {}).update(found)


def is_quiet() -> bool:
    """Return whether the command in progress has `--quiet`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_QUIET))


def add_output_options(command: click.Command) -> None:
    """Give a command `--json` and `--quiet`; one that prints JSON of its own has `--quiet` alone added."""
    names = {parameter.name for parameter in command.params}
    if "quiet" in names or command.callback is None:
        return
    prints_own = "as_json" in names
    if not prints_own:
        command.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print JSON."))
    command.params.append(click.Option(["--quiet", "quiet"], is_flag=True, help="Print errors only, no progress."))
    command.callback = _reporting(command.callback, prints_own=prints_own)


def _plain(value: object) -> object:
    # Numbers and arrays of NumPy know how to become those of Python.
    to_list = getattr(value, "tolist", None)
    return shown(str(value)) if to_list is None else to_list()


def _reporting(callback: Callable[..., Any], *, prints_own: bool) -> Callable[..., Any]:
    @functools.wraps(callback)
    def run(*args: Any, quiet: bool, as_json: bool = False, **given: Any) -> None:
        context = click.get_current_context()
        context.meta[_QUIET] = quiet
        if prints_own:
            given["as_json"] = as_json
        is_asked_for = prints_own and (as_json or given.get("as_csv", False))
        try:
            with ExitStack() as silenced:
                if (quiet and not is_asked_for) or (as_json and not prints_own):
                    null = silenced.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                    silenced.enter_context(redirect_stdout(null))
                callback(*args, **{name: _local(value) for name, value in given.items()})
        finally:
            # Also of a command that ends with an exit code of its own, such as 1 for what is incomplete.
            if as_json and not prints_own and _RECORD in context.meta:
                click.echo(json.dumps(context.meta[_RECORD], indent=2, default=_plain))

    return run
