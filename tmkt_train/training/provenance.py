"""When, where and by which command a run was started, and the commit of the code around it."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import tmkt_train
from tmkt_train.errors import command

_TIMEOUT_S = 5


def describe_start() -> dict[str, str]:
    """Return what does not change a result, but says where it came from; nothing of it is compared or hashed.

    Returns:
        `date` in ISO 8601 with the offset of the local time, `host`, `command`; `commit` of the working directory and
        `tmkt_commit` of the checkout that tmkt runs from, where they are in git: 12 digits, `-dirty` with changes.
    """
    package = Path(tmkt_train.__file__).resolve().parents[1]
    # In site-packages, git would find the repository of whoever made the environment.
    commits = {"commit": _commit(Path.cwd()), "tmkt_commit": _commit(package) if (package / ".git").exists() else ""}
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": platform.node(),
        "command": command(*_program(Path(sys.argv[0])), *sys.argv[1:]),
        **{name: found for name, found in commits.items() if found},
    }


def _program(path: Path) -> list[str]:
    return ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]


def _commit(folder: Path) -> str:
    """Return the commit that a folder is at; "" outside of git."""
    words = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
