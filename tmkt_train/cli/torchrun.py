"""What torchrun tells a process about the ranks that it started, and which command they may run; loads no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeVar

from tmkt_train.errors import NonFiniteError, OtherRankError, RunError

Value = TypeVar("Value")

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_COMMANDS = ("recipe", "train", "resume")


class Launch(NamedTuple):
    """The number of a rank, from 0, how many there are, and its number among those of this machine."""

    rank: int
    num_ranks: int
    local_rank: int


def launched() -> Launch | None:
    """Read what torchrun has set; None for a process on its own.

    Raises:
        RunError: Some of the variables are missing, or are no numbers that belong together.
    """
    given = [name for name in _NEEDED[:2] if os.environ.get(name)]
    if not given or os.environ.get("WORLD_SIZE") == "1":
        return None
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if missing:
        raise RunError(
            f"environment: found {' and '.join(given)} without {' and '.join(missing)}, expected all of "
            f"{', '.join(_NEEDED)}; start with torchrun, or unset {' and '.join(given)}"
        )
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    texts = [os.environ.get(name) or os.environ["RANK"] for name in names]
    if not all(text.isascii() and text.isdecimal() for text in texts) or int(texts[0]) >= int(texts[1]):
        found = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
        raise RunError(f"environment: found {found}, expected a rank from 0 below the number of ranks; use torchrun")
    return Launch(*map(int, texts))


def is_first() -> bool:
    """Return whether this process speaks for all: the first rank, or a process on its own."""
    launch = launched()
    return launch is None or launch.rank == 0


def is_told_by_first(error: RunError) -> bool:
    """Return whether the first rank raises an error, too, so that this one need not tell it."""
    return not is_first() and isinstance(error, (OtherRankError, NonFiniteError))


def join(launch: Launch, name: str | None) -> AbstractContextManager[None]:
    """Return the context in which a command runs as one of several ranks.

    Raises:
        RunError: The command runs in one process only.
    """
    if name not in _COMMANDS:
        raise RunError(
            f"{name}: started as one of {launch.num_ranks} ranks, expected one process; start it without torchrun"
        )
    from tmkt_train.training.ranks import joined

    return joined(*launch)


def together(make: Callable[[], Value]) -> Value:
    """Call a function on every rank, see `training.ranks.together`."""
    if launched() is None:
        return make()
    from tmkt_train.training import ranks

    return ranks.together(make)


def on_first(make: Callable[[], Value]) -> Value:
    """Call a function on the first rank, see `training.ranks.on_first`."""
    if launched() is None:
        return make()
    from tmkt_train.training import ranks

    return ranks.on_first(make)
