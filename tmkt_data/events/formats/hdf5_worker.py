"""What the process does that reads HDF5 files for `hdf5`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tmkt_data.events.formats.hdf5_columns import Part, read_columns
from tmkt_data.events.formats.worker import Answer, limit_memory, serve_answers

_PART_BYTES = 2 << 30
"""Limit of the columns of a part."""


def serve() -> None:
    """Answer questions until the input ends."""
    serve_answers(_answers)


def _answers(path: Path, question: list[Any]) -> Iterator[Answer]:
    keys, order, part = question
    limit_memory(path, 1 << 40 if part is None else _PART_BYTES)
    found = read_columns(path, keys, order, None if part is None else Part(*part))
    yield Answer(found.columns, [found.sensor_size, found.origin, found.length])
