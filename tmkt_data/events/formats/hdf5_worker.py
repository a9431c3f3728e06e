"""The process that reads HDF5 files for `hdf5`: one line of JSON in, one line of JSON and the columns out."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.formats.hdf5_columns import FREE_BYTES, MAX_RATIO, Part, read_columns

_SPARE_BYTES = 1 << 30
_PART_BYTES = 2 << 30
"""Limit of the columns of a part."""


def serve() -> None:
    """Answer questions until the input ends."""
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        path, keys, part = json.loads(line)
        _limit_memory(Path(path), 1 << 40 if part is None else _PART_BYTES)
        try:
            found = read_columns(Path(path), keys, None if part is None else Part(*part))
        except EventError as refused:
            out.write(json.dumps({"error": str(refused)}).encode() + b"\n")
        else:
            plain = {name: np.ascontiguousarray(column) for name, column in found.columns.items()}
            about = [(name, column.dtype.str, len(column)) for name, column in plain.items()]
            out.write(json.dumps([about, found.sensor_size, found.origin, found.length]).encode() + b"\n")
            for column in plain.values():
                out.write(column.data)
        out.flush()


def _limit_memory(path: Path, largest: int) -> None:
    """Limit the memory of this process to what the columns may need, where the system supports it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        needed = 3 * min(MAX_RATIO * path.stat().st_size + FREE_BYTES, largest)
        limit = pages * os.sysconf("SC_PAGE_SIZE") + needed + _SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
