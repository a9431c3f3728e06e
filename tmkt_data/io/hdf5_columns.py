"""The columns of an HDF5 recording, by `h5py`; to be called in a process that may die, see `hdf5`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events import SensorSize

MAX_RATIO = 200
"""Largest size of the columns over that of the file, beside `FREE_BYTES`."""
FREE_BYTES = 1 << 20
_GROUPS = ("events", "CD", "")
_NAMES = {
    "t": ("t", "ts", "timestamp", "timestamps"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "pol", "polarity", "polarities", "ps"),
}
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises on damaged files, and on data that needs a filter it does not have."""

Columns = Mapping[str, NDArray[Any]]


def read_columns(path: Path, keys: str | None) -> tuple[Columns, SensorSize | None]:
    """Read the columns of a recording, and the size of the sensor where the file declares one.

    Args:
        path: An HDF5 file.
        keys: As in `load_hdf5`.

    Raises:
        EventError: As `load_hdf5`.
    """
    place = path.name
    try:
        with h5py.File(path, "r") as file:
            reader = _Reader(file, path.stat().st_size, place)
            if keys is not None:
                columns, table = reader.by_keys(_parse_keys(keys, place))
            else:
                columns, table = reader.known()
            return columns, reader.declared_size(table)
    except EventError:
        raise
    except _DAMAGE as broken:
        reason = (str(broken).splitlines() or [type(broken).__name__])[0][:100]
        raise EventError(f"{place}: cannot be read as HDF5 ({reason}); it is damaged, fetch it again") from None


def _parse_keys(text: str, place: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    keys = {name.strip(): path.strip() for name, _, path in pairs}
    if len(keys) != len(pairs) or set(keys) not in ({"t", "x", "y", "p"}, {"table"}) or not all(keys.values()):
        raise EventError(
            f"{place}: keys: found {text[:80]!r}, expected t=PATH,x=PATH,y=PATH,p=PATH or table=PATH (--keys)"
        )
    return keys


class _Reader:
    """Reads datasets of one file, none beyond the budget."""

    def __init__(self, file: h5py.File, num_bytes: int, place: str) -> None:
        self._file, self._place = file, place
        self._num_bytes = num_bytes
        self._left = MAX_RATIO * num_bytes + FREE_BYTES

    def by_keys(self, keys: Mapping[str, str]) -> tuple[Columns, str]:
        if "table" in keys:
            return self._table(keys["table"]), keys["table"]
        return {name: self._column(path) for name, path in keys.items()}, ""

    def known(self) -> tuple[Columns, str]:
        if self._is_dataset("CD/events"):
            return self._table("CD/events"), "CD/events"
        for group in _GROUPS:
            prefix = f"{group}/" if group else ""
            found = {
                letter: [name for name in names if self._is_dataset(prefix + name)] for letter, names in _NAMES.items()
            }
            if all(len(names) == 1 for names in found.values()):
                columns = {letter: self._column(prefix + names[0]) for letter, names in found.items()}
                return self._with_offset(columns), ""
        held = ", ".join(sorted(map(ascii, self._file))[:6]) or "nothing"
        raise EventError(
            f"{self._place}: found {held}, expected events/t, x, y and p, or CD/events; say where they are, "
            "keys='t=PATH,x=PATH,y=PATH,p=PATH' (--keys)"
        )

    def declared_size(self, table: str) -> SensorSize | None:
        """Return the size in Prophesee's attribute `geometry` of a table or the file, such as `640x480`."""
        for holder in (self._file[table] if table else self._file, self._file):
            text = holder.attrs.get("geometry")
            text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
            width, cross, height = text.partition("x") if isinstance(text, str) else ("", "", "")
            sides = [int(side) for side in (width, height) if side.isascii() and side.isdigit() and len(side) < 6]
            if cross and len(sides) == 2 and all(1 <= side <= 65536 for side in sides):
                return SensorSize(*sides)
        return None

    def _with_offset(self, columns: dict[str, NDArray[Any]]) -> Columns:
        if not self._is_dataset("t_offset"):
            return columns
        offset = self._column("t_offset")
        if offset.size != 1 or offset.dtype.kind not in "iu" or columns["t"].dtype.kind not in "iu":
            raise EventError(f"{self._place}: t_offset is {offset.dtype} of {offset.size}, expected one whole number")
        start = int(offset[0])
        times = columns["t"]
        largest = max(abs(int(times.min())), abs(int(times.max()))) if len(times) else 0
        if abs(start) + largest >= 2**62:
            raise EventError(f"{self._place}: t_offset is {start}, which moves times beyond 2**61; it is damaged")
        return columns | {"t": times.astype(np.int64) + start}

    def _is_dataset(self, path: str) -> bool:
        """Whether a path leads to a dataset in this file; a link out of it is an error, wherever it stands."""
        at: Any = self._file
        for part in path.split("/"):
            if not isinstance(at, h5py.Group) or part not in at.keys():  # noqa: SIM118 - `in at` would follow links
                return False
            link = at.get(part, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise EventError(
                    f"{self._place}: {path} is a link to elsewhere, which is never followed; copy the data here"
                )
            at = at[part]
        return isinstance(at, h5py.Dataset)

    def _dataset(self, path: str) -> Any:
        path = path.strip("/")
        if not self._is_dataset(path):
            raise EventError(f"{self._place}: no dataset {path[:80]!r}, expected one; check --keys")
        found = self._file[path]
        if found.is_virtual or found.external:
            raise EventError(
                f"{self._place}: {path} is kept in other files, which are never read; copy it into this one"
            )
        kinds = [found.dtype[name] for name in found.dtype.names or ()] or [found.dtype]
        if any(kind.kind not in "biuf" or kind.subdtype is not None for kind in kinds):
            raise EventError(f"{self._place}: {path} holds {found.dtype}, expected numbers; check --keys")
        cells = max(math.prod(found.shape), math.prod(found.chunks or (0,)))
        needed = cells * found.dtype.itemsize
        self._left -= needed
        if self._left < 0:
            raise EventError(
                f"{self._place}: {path} claims {needed:,} bytes in a file of {self._num_bytes:,}; it looks like a bomb"
            )
        return found

    def _read(self, path: str) -> NDArray[Any]:
        found = self._dataset(path)
        if found.attrs.get("MATLAB_empty", 0):
            # MATLAB stores the sizes of an empty variable in its place.
            return np.empty(0, found.dtype)
        try:
            return np.asarray(found[()])
        except OSError as broken:
            _add_filters(self._place, broken)
        try:
            return np.asarray(found[()])
        except OSError as broken:
            if not _lacks_filter(broken):
                raise
            raise EventError(
                f"{self._place}: {path} is compressed with a filter that neither HDF5 nor hdf5plugin has, such as "
                "Prophesee's ECF; write it anew without, or take the .raw file"
            ) from None

    def _column(self, path: str) -> NDArray[Any]:
        values = self._read(path)
        if values.dtype.names is not None or max(values.shape, default=1) != values.size:
            raise EventError(f"{self._place}: {path} has shape {values.shape}, expected one column; check --keys")
        return values.reshape(-1)

    def _table(self, path: str) -> Columns:
        values = self._read(path)
        if values.dtype.names is None or values.ndim != 1:
            raise EventError(f"{self._place}: {path} is no table with fields, expected x, y, p and t; check --keys")
        return {name: values[name] for name in values.dtype.names}


def _add_filters(place: str, broken: OSError) -> None:
    """Load the usual compression filters, where that is what was missing."""
    if not _lacks_filter(broken):
        raise broken
    try:
        import hdf5plugin  # noqa: F401 - importing it adds its filters to HDF5
    except ImportError:
        raise EventError(
            f"{place}: is compressed with a filter that HDF5 lacks; install it with: pip install 'tmkt[hdf5]'"
        ) from None


def _lacks_filter(broken: OSError) -> bool:
    text = str(broken).lower()
    return "filter" in text or "plugin" in text
