"""The preloaded library of `shim.c`: compile it, arm it in this process, read the calls that it recorded."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("shim.c")
_RECORD = struct.Struct("=IIQQIIQ")


class Op(IntEnum):
    """What a call does, as `shim.c` numbers it."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    OPEN = 9
    READ = 10
    SYNC_ALL = 11


class Action(IntEnum):
    """What becomes of the call that is hit, as `shim.c` numbers it."""

    COUNT = 0
    KILL_BEFORE = 1
    KILL_MIDWAY = 2
    ERROR_ONCE = 3
    ERROR_FROM = 4
    KILL_AFTER = 5


class Call(NamedTuple):
    """One recorded call; numbers begin at 1."""

    op: Op
    number: int
    inode: int
    offset: int
    path: str
    other: str
    data: bytes


def missing() -> str:
    """Return why the library cannot be used here, "" where it can."""
    if sys.platform != "linux":
        return f"the shim is for Linux, not {sys.platform}"
    return "" if shutil.which("cc") else "no C compiler (cc) for the shim"


def library() -> Path:
    """Compile the library, unless that has been done, and return its path."""
    name = f"tmkt-faults-{os.getuid()}-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    path = Path(tempfile.gettempdir()) / name
    if not path.exists():
        made = path.with_name(f"{name}.{os.getpid()}")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl", "-lpthread"], check=True)
        made.replace(path)
    return path


def is_loaded() -> bool:
    """Return whether this process was started with the library."""
    return hasattr(ctypes.CDLL(None), "tmkt_fault_arm")


def arm(folder: Path, action: Action, at: int, *, error: int = 0, reads: bool = False, log: Path | None = None) -> None:
    """Count the calls of this process below a folder from now on, and let call `at` fail."""
    name = b"" if log is None else os.fsencode(log)
    ctypes.CDLL(None).tmkt_fault_arm(
        os.fsencode(folder.resolve()), int(action), error, ctypes.c_long(at), int(reads), name
    )


def read_log(path: Path) -> Iterator[Call]:
    """Yield the calls of a log; one that a killed process did not finish is left out."""
    data, at = path.read_bytes(), 0
    while at + _RECORD.size <= len(data):
        op, number, inode, offset, path_bytes, other_bytes, data_bytes = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        end = at + path_bytes + other_bytes + data_bytes
        if end > len(data):
            return
        names = data[at : at + path_bytes + other_bytes]
        yield Call(
            *(Op(op), number, inode, offset),
            os.fsdecode(names[:path_bytes]),
            os.fsdecode(names[path_bytes:]),
            data[end - data_bytes : end],
        )
        at = end
