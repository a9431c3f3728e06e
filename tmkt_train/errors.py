"""The errors of training; every message is one line: *place: found, expected; what to do*."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tmkt_data.errors import TmktError, as_argument


class RecipeError(TmktError):
    """A recipe that cannot be found, read or validated.

    `problems` are all mistakes, one line each, `file: key.path: found ..., expected ...`.

    Example:
        >>> print(RecipeError(["a.toml: seed: found -1, expected 0 or more", "a.toml: name: found nothing"]))
        a.toml: seed: found -1, expected 0 or more
        a.toml: name: found nothing
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class MissingPackageError(TmktError, ImportError):
    """A package of the extra `train` is not installed."""


class RunError(TmktError):
    """A run that cannot start, resume, or be read."""


class NonFiniteError(RunError):
    """Training produced a loss or a weight that is NaN or infinite; the checkpoint before it is kept."""


class RunInterruptedError(RunError):
    """The run was asked to stop and has written what it needs to resume.

    Attributes:
        run: Folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        super().__init__(f"{run}: stopped before the end; resume it with: {command('tmkt-train', 'resume', run)}")


class OtherRankError(RunError):
    """What the first of several ranks raises and tells the user; raised on the others, which end without a word."""


_TRAIN_PACKAGES = ("torch", "spikingjelly", "pydantic", "scipy", "matplotlib", "jinja2")


@cache
def require_train_packages() -> None:
    """Check that what `pip install 'tmkt[train]'` brings is there; imports none of it.

    Raises:
        MissingPackageError: It is not; `pip install tmkt` alone installs `tmkt_data`.
    """
    missing = [name for name in _TRAIN_PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"tmkt_train: found no {' and no '.join(missing)}; install what training needs with: "
            "pip install 'tmkt[train]'"
        )


def command(*words: str | Path) -> str:
    """Return a command line, quoted for a POSIX shell.

    Example:
        >>> command("tmkt-train", "resume", Path("my runs/a"))
        "tmkt-train resume 'my runs/a'"
        >>> command("tmkt-train", "resume", Path("-a"))
        'tmkt-train resume ./-a'
    """
    return shlex.join(as_argument(word) if isinstance(word, Path) else word for word in words)


def unfinished(run: Path) -> RunError:
    """Return the error of a run that has no result yet."""
    again = command("tmkt-train", "resume", run)
    return RunError(f"{run}: not finished, expected a result; resume it with: {again}")
