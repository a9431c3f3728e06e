"""The folder that an export writes."""

from __future__ import annotations

from pathlib import Path

from tmkt_data.errors import TmktError


def make_new_folder(out: Path, error: type[TmktError]) -> None:
    """Make a folder, with its parents; one that is there and empty will do.

    Raises:
        TmktError: Of class `error`: it is not empty, or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        is_empty = next(out.iterdir(), None) is None
    except OSError as broken:
        raise error(f"{out}: cannot be made ({broken.strerror or broken}), expected a folder to write") from None
    if not is_empty:
        raise error(f"{out}: not empty, expected a new folder; delete it, or give another")
