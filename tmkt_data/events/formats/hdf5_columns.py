"""The columns of an HDF5 recording, read with h5py; only called in a process that may die, see `hdf5`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.worker import FREE_BYTES, MAX_RATIO
from tmkt_data.files import is_refused, open_hdf5

_GROUPS = ("events", "CD", "")
_NAMES = {
    "t": ("t", "ts", "timestamp", "timestamps"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "pol", "polarity", "polarities", "ps"),
}
_MOST_GROUPS = 256
_DEEPEST = 4
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises on damaged files, and on data that needs a missing filter."""

Columns = dict[str, NDArray[Any]]


class Part(NamedTuple):
    """A part of the columns.

    Attributes:
        start: First event.
        num_events: Number of events; more are read where the chunks of the file are larger.
    """

    start: int
    num_events: int


class Found(NamedTuple):
    """What `read_columns` finds.

    Attributes:
        columns: The columns, or the part of them.
        sensor_size: Size of the sensor, if the file declares one.
        origin: To be added to the times, in their unit.
        length: Number of events in the whole file.
    """

    columns: Columns
    sensor_size: SensorSize | None
    origin: int
    length: int


def read_columns(path: Path, keys: str | None, order: str | None = None, part: Part | None = None) -> Found:
    """Read the columns of a recording, or a part of them.

    Args:
        path: An HDF5 file.
        keys: As in `load_hdf5`.
        order: As `columns` in `load_hdf5`.
        part: The events to read; None reads all.

    Raises:
        EventError: As `load_hdf5`; for a part also columns of different length.
    """
    place = path.name
    try:
        with open_hdf5(h5py.File, path) as file:
            reader = _Reader(file, path.stat().st_size, place, part)
            reader.order = _parse_order(order, place)
            if keys is not None:
                columns, table = reader.by_keys(_parse_keys(keys, place))
                origin = 0
            else:
                columns, table, origin = reader.known()
            if order is not None and not reader.is_plain:
                raise EventError(
                    f"{place}: columns: found {order!r}, expected none for columns with names; leave it out (--columns)"
                )
            return Found(columns, reader.declared_size(table), origin, reader.length())
    except EventError:
        raise
    except _DAMAGE as broken:
        reason = (str(broken).splitlines() or [type(broken).__name__])[0][:100]
        if is_refused(broken):
            raise EventError(f"{path}: cannot be read ({reason}); check the file and its disk") from None
        raise EventError(f"{place}: cannot be read as HDF5 ({reason}); it is damaged, fetch it again") from None


def _parse_order(order: str | None, place: str) -> str | None:
    if order is not None and sorted(order) != sorted("txyp"):
        raise EventError(f"{place}: columns: found {order!r}, expected the letters of 'txyp' in some order")
    return order


def _parse_keys(text: str, place: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    keys = {name.strip(): path.strip() for name, _, path in pairs}
    if len(keys) != len(pairs) or set(keys) not in ({"t", "x", "y", "p"}, {"table"}) or not all(keys.values()):
        raise EventError(
            f"{place}: keys: found {text[:80]!r}, expected t=PATH,x=PATH,y=PATH,p=PATH or table=PATH (--keys)"
        )
    return keys


class _Reader:
    """Read datasets of one file within a budget of bytes."""

    def __init__(self, file: h5py.File, num_bytes: int, place: str, part: Part | None) -> None:
        self._file, self._place, self._part = file, place, part
        self._num_bytes = num_bytes
        self._left = MAX_RATIO * num_bytes + FREE_BYTES
        self._lengths: dict[str, int] = {}
        self.order: str | None = None
        """Order of the columns of a table without names."""
        self.is_plain = False
        """Whether the events were read from such a table."""

    def by_keys(self, keys: Mapping[str, str]) -> tuple[Columns, str]:
        if "table" in keys:
            return self._table(keys["table"]), keys["table"]
        return self._columns(keys), ""

    def known(self) -> tuple[Columns, str, int]:
        if self._is_dataset("CD/events"):
            return self._table("CD/events"), "CD/events", 0
        for group in _GROUPS:
            prefix = f"{group}/" if group else ""
            found = {
                letter: [name for name in names if self._is_dataset(prefix + name)] for letter, names in _NAMES.items()
            }
            if all(len(names) == 1 for names in found.values()):
                columns = self._columns({letter: prefix + names[0] for letter, names in found.items()})
                return columns, "", self._offset(columns["t"])
        tables = self._plain_tables()
        if len(tables) == 1:
            return self._table(tables[0]), tables[0], 0
        if tables:
            raise EventError(
                f"{self._place}: found {len(tables)} tables of four columns ({', '.join(map(ascii, tables[:4]))}), "
                f"expected one; give its path, keys={f'table={tables[0]}'!a} (--keys)"
            )
        held = ", ".join(sorted(map(ascii, self._file))[:6]) or "nothing"
        raise EventError(
            f"{self._place}: found {held}, expected events/t, x, y and p, or CD/events; give their paths, "
            "keys='t=PATH,x=PATH,y=PATH,p=PATH' (--keys)"
        )

    def _plain_tables(self) -> list[str]:
        """Return the paths of all tables of four columns without names, of which v2e writes one and MVSEC two."""
        found: list[str] = []
        groups = [""]
        while groups and len(groups) < _MOST_GROUPS:
            group = groups.pop()
            for name in sorted(self._file[group or "/"].keys()):
                path = f"{group}/{name}".strip("/")
                link = self._file.get(path, getlink=True)
                at = self._file[path] if isinstance(link, h5py.HardLink) else None
                if isinstance(at, h5py.Group) and path.count("/") < _DEEPEST:
                    groups.append(path)
                elif isinstance(at, h5py.Dataset) and _is_plain(at):
                    found.append(path)
        return sorted(found)

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

    def length(self) -> int:
        """Return the number of events in the file, according to the columns that were read."""
        if self._part is not None and len(set(self._lengths.values())) > 1:
            about = ", ".join(f"{path} {length:,}" for path, length in self._lengths.items())
            raise EventError(f"{self._place}: columns of different length ({about}); it is damaged, fetch it again")
        return max(self._lengths.values(), default=0)

    def _offset(self, times: NDArray[Any]) -> int:
        """Return DSEC's `t_offset`; 0 without one."""
        if not self._is_dataset("t_offset"):
            return 0
        found = self._dataset("t_offset")
        if found.size != 1 or found.dtype.kind not in "iu" or times.dtype.kind not in "iu":
            raise EventError(f"{self._place}: t_offset is {found.dtype} of {found.size}, expected one whole number")
        start = int(np.asarray(found[()]).reshape(-1)[0])
        largest = max(abs(int(times.min())), abs(int(times.max()))) if len(times) else 0
        if abs(start) + largest >= 2**62:
            raise EventError(f"{self._place}: t_offset is {start}, which moves times beyond 2**61; it is damaged")
        return start

    def _is_dataset(self, path: str) -> bool:
        """Return whether a path leads to a dataset of this file; a link out of the file is an error."""
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

    def _read(self, path: str, found: Any, step: int, axis: int) -> NDArray[Any]:
        """Read a column or table, or the requested part of it along an axis."""
        if found.attrs.get("MATLAB_empty", 0):
            # In place of an empty variable MATLAB stores its sizes.
            self._lengths[path] = 0
            return np.empty(0, found.dtype)
        self._lengths[path] = found.shape[axis] if found.shape else found.size
        rows = self._rows(found, step, axis)
        try:
            return np.asarray(found[rows])
        except OSError as broken:
            _add_filters(self._place, broken)
        try:
            return np.asarray(found[rows])
        except OSError as broken:
            if not _lacks_filter(broken):
                raise
            raise EventError(
                f"{self._place}: {path} is compressed with a filter that neither HDF5 nor hdf5plugin has, such as "
                "Prophesee's ECF; convert it without the filter, or take the .raw file"
            ) from None

    def _rows(self, found: Any, step: int, axis: int) -> Any:
        """Return the index of the requested part, rounded up to whole steps."""
        if self._part is None or not found.shape:
            return ()
        count = -(-self._part.num_events // step) * step
        index: list[Any] = [slice(None)] * found.ndim
        index[axis] = slice(self._part.start, self._part.start + count)
        return tuple(index)

    def _columns(self, paths: Mapping[str, str]) -> Columns:
        found = {name: self._dataset(path) for name, path in paths.items()}
        for name, column in found.items():
            if column.dtype.names is not None or max(column.shape, default=1) != column.size:
                raise EventError(
                    f"{self._place}: {paths[name]} has shape {column.shape}, expected one column; check --keys"
                )
        step = max(map(_rows_unpacked_at_once, found.values()))
        return {
            name: self._read(paths[name], column, step, _long_axis(column)).reshape(-1)
            for name, column in found.items()
        }

    def _table(self, path: str) -> Columns:
        found = self._dataset(path)
        if _is_plain(found):
            return self._plain_table(path, found)
        if found.dtype.names is None or found.ndim != 1:
            raise EventError(f"{self._place}: {path} is no table with fields, expected x, y, p and t; check --keys")
        values = self._read(path, found, _rows_unpacked_at_once(found), 0)
        return {name: values[name] for name in found.dtype.names}

    def _plain_table(self, path: str, found: Any) -> Columns:
        if self.order is None:
            raise EventError(
                f"{self._place}: {path} has four columns without names; give their order, columns='txyp' or the like "
                "(--columns txyp)"
            )
        self.is_plain = True
        values = self._read(path, found, int(found.chunks[0]) if found.chunks else 1, 0)
        return {letter: values[:, at] for at, letter in enumerate(self.order)}


def _is_plain(found: Any) -> bool:
    return bool(found.dtype.names is None and found.ndim == 2 and found.shape[1] == 4)


def _long_axis(found: Any) -> int:
    return max(range(found.ndim), key=lambda axis: found.shape[axis])


def _rows_unpacked_at_once(found: Any) -> int:
    """Return the length of a chunk; a part should not split one, which would be unpacked twice."""
    return int(found.chunks[_long_axis(found)]) if found.chunks else 1


def _add_filters(place: str, broken: OSError) -> None:
    """Load the usual compression filters, if a missing one was the reason of the error."""
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
