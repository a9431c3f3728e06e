"""The scenarios: whole commands, what they start from, and what they have to leave."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

State = dict[str, str]
"""Digest of what each file of a scenario means, by its name in the folder of outputs."""


def _nothing(*_: Path) -> None:
    pass


def digest_of_bytes(out: Path) -> State:
    """Return the SHA-256 of every file below a folder whose name does not begin with a dot."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(out).parts)
    }


@dataclass(frozen=True)
class Scenario:
    """A command that is hit by faults.

    Attributes:
        name: Its name.
        command: Returns the words of the command, given the folder of inputs and that of outputs; the first one is
            `tmkt-data` or `tmkt-train`.
        inputs: Writes the folder of inputs, once.
        before: Writes what is in the folder of outputs before the command, given both folders.
        finished: Returns the files with final names and a digest of what each means. After a fault each has to be what
            it was before, or what an undisturbed run leaves; after a run that says that it is done, or is run again,
            all have to be there.
        unfinished: Names, or their beginnings, of what a fault may leave in the folder of outputs, and only a run
            that is done removes.
        set_up: Called once in the process that runs the commands, such as to make blocks small.
        variables: Environment variables by name, given the folder of inputs and that of outputs.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    inputs: Callable[[Path], object] = _nothing
    before: Callable[[Path, Path], object] = _nothing
    finished: Callable[[Path], State] = digest_of_bytes
    unfinished: tuple[str, ...] = ()
    set_up: Callable[[], None] = _nothing
    variables: Callable[[Path, Path], dict[str, str]] = field(default=lambda _, out: {"TMKT_CACHES": str(out)})
