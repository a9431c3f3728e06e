"""Commands that messages tell the reader to type, quoted for a shell."""

from __future__ import annotations

import shlex
from pathlib import Path


def command(*words: str | Path) -> str:
    """Return the words as one line that a POSIX shell takes apart again.

    Example:
        >>> command("tmkt-train", "resume", Path("my runs/a"))
        "tmkt-train resume 'my runs/a'"
    """
    return shlex.join(str(word) for word in words)
