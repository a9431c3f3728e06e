"""Caches whose content was changed, with right checksums and digests: only what they mean is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tmkt_data.cache.digests import PieceDigests
from tmkt_data.cache.format import FrameArray
from tmkt_data.cache.reader import Cache
from tmkt_data.cache.writer import FramesFile, seal, write_tables
from tmkt_data.files import checksum

Arrays = dict[str, np.ndarray[Any, Any]]


class Content(NamedTuple):
    """The header of a cache, its tables and its frames by name."""

    header: dict[str, str]
    tables: Arrays
    frames: Arrays


Change = Callable[[Content], object]


def write_altered(path: Path, out: Path, change: Change) -> Path:
    """Write a cache anew after `change` had its content, which it changes in place."""
    cache = Cache(path)
    header, tables = dict(cache.header), {name: table.copy() for name, table in cache.tables.items()}
    frames = {name: stored.rows(np.arange(stored.shape[0])) for name, stored in cache.arrays.items()}
    checksums = {f"{name}_xxh3" for name in frames}
    change(Content(header, tables, frames))
    for name in checksums:
        tables[name] = np.array([checksum(row) for row in frames[name.removesuffix("_xxh3")]], "<u8")
    file = FramesFile(out, [FrameArray(name, rows.shape, rows.dtype) for name, rows in frames.items()])
    for name, rows in frames.items():
        file.write(name, 0, rows)
    file.close()
    seal(out, write_tables(out, header, sorted(tables.items())), PieceDigests())
    return out
