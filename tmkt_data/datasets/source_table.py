"""Sources stored by column, in a tenth of the memory of separate objects, for datasets of millions."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from tmkt_data.sample_ids import decode_id, encode_id, normal_name

_CHUNK = 1 << 14


class Source(NamedTuple):
    """One recording or image on disk.

    Attributes:
        id: `"class/stem"`; a recording and an image with the same id are twins. Tables hold it in Unicode form C.
        label: Index of the class in the catalogue's `class_names`.
        file: Path of the file as text (`os.fspath`).
        num_bytes: Size in bytes.
        part: Published split, `"train"`, `"val"` or `"test"`; `""` if there is none.
        item: Index within a file of many samples (IDX, slices of a long recording); -1 for a file of its own.
        shift: Offset added to the columns and rows of this recording.
    """

    id: str
    label: int
    file: str
    num_bytes: int
    part: str = ""
    item: int = -1
    shift: tuple[int, int] = (0, 0)

    @property
    def path(self) -> Path:
        """Path of the file."""
        return Path(self.file)


class _Columns(NamedTuple):
    """One value per source, all of shape (N,) except `shift`.

    A file name is `before + middle + after`, where the middle is the end of the id; `names` holds the few distinct
    pairs of before and after.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int32]
    label: NDArray[np.int32]
    name: NDArray[np.int32]
    middle: NDArray[np.int32]
    num_bytes: NDArray[np.int64]
    part: NDArray[np.int8]
    item: NDArray[np.int64]
    shift: NDArray[np.int32]

    def rows(self, rows: slice | NDArray[Any]) -> _Columns:
        """Return the given rows of each column."""
        columns: Iterable[NDArray[Any]] = self
        return _Columns(*(column[rows] for column in columns))

    def compact(self) -> _Columns:
        """Return columns that store a constant value only once, such as `part` in most datasets."""
        columns: Iterable[NDArray[Any]] = self
        return _Columns(*map(_once, columns))


def _once(column: NDArray[Any]) -> NDArray[Any]:
    if not len(column) or (column != column[0]).any():
        return column
    return np.broadcast_to(column[:1].copy(), column.shape)


class SourceTable(Sequence[Source]):
    """A sequence of sources, each created on access. A slice shares the columns of the whole.

    Created by `SourceTable.of` and `TableBuilder`.
    """

    def __init__(
        self, ids: NDArray[np.uint8], columns: _Columns, names: Sequence[tuple[str, str]], parts: Sequence[str]
    ) -> None:
        """Store the ids, concatenated in UTF-8, and the columns."""
        for column in (ids, *columns):
            column.flags.writeable = False
        self._ids, self._columns, self._names, self._parts = ids, columns, names, parts

    @classmethod
    def of(cls, sources: Iterable[Source]) -> SourceTable:
        """Return a table of sources, in the given order."""
        if isinstance(sources, SourceTable):
            return sources
        builder = TableBuilder()
        builder.extend(sources)
        return builder.table()

    def __reduce__(self) -> tuple[type[SourceTable], tuple[Any, ...]]:
        # Goes through `__init__`, since unpickled arrays are writable.
        return SourceTable, (self._ids, self._columns, self._names, self._parts)

    def __len__(self) -> int:
        return len(self._columns.start)

    @overload
    def __getitem__(self, at: int) -> Source: ...
    @overload
    def __getitem__(self, at: slice) -> SourceTable: ...
    def __getitem__(self, at: int | slice) -> Source | SourceTable:
        if isinstance(at, slice):
            return self._with(self._columns.rows(at))
        number = range(len(self))[at]
        return next(iter(self[number : number + 1]))

    def __iter__(self) -> Iterator[Source]:
        ids, parts, names = self._ids, self._parts, self._names
        for first in range(0, len(self), _CHUNK):
            rows = zip(*(column[first : first + _CHUNK].tolist() for column in self._columns), strict=True)
            for start, length, label, name, middle, num_bytes, part, item, shift in rows:
                sample = ids[start : start + length].tobytes()
                before, after = names[name]
                file = before + decode_id(sample[length - middle :]) + after
                yield Source(decode_id(sample), label, file, num_bytes, parts[part], item, (shift[0], shift[1]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SourceTable | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(ours == theirs for ours, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def with_labels(self, labels: NDArray[Any]) -> SourceTable:
        """Return the same sources with other classes, shape (N,)."""
        return self._with(self._columns._replace(label=labels.astype(np.int32)))

    def take(self, rows: NDArray[Any]) -> SourceTable:
        """Return the sources of the given rows, indices or a mask."""
        return self._with(self._columns.rows(rows).compact())

    def below(self, folder: Path) -> SourceTable:
        """Return the same sources with their relative paths below a folder."""
        names = [(os.path.join(folder, before), after) for before, after in self._names]  # noqa: PTH118 - a part of a name
        return SourceTable(self._ids, self._columns, names, self._parts)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the table as plain arrays by name, without text of Python; see `from_arrays`."""
        text = json.dumps({"names": list(self._names), "parts": list(self._parts)}).encode()
        return {"ids": self._ids, "text": np.frombuffer(text, np.uint8), **self._columns._asdict()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> SourceTable:
        """Return the table of arrays of `to_arrays`.

        Raises:
            KeyError: An array is missing.
            ValueError: The texts are damaged.
        """
        text = json.loads(arrays["text"].tobytes())
        columns = _Columns(*(arrays[name] for name in _Columns._fields)).compact()
        return cls(arrays["ids"], columns, [(before, after) for before, after in text["names"]], text["parts"])

    def _with(self, columns: _Columns) -> SourceTable:
        return SourceTable(self._ids, columns, self._names, self._parts)

    @property
    def ids(self) -> NDArray[np.bytes_]:
        """Ids in UTF-8, shape (N,), as wide as the longest and at least 1; owned by the caller."""
        start, length = self._columns.start, self._columns.length
        width = max(1, int(length.max(initial=0)))
        table = np.zeros((len(self), width), np.uint8)
        places = np.arange(width)
        for first in range(0, len(self), _CHUNK):
            inside = places < length[first : first + _CHUNK, None]
            # Each id is followed by another id or the end.
            at = np.minimum(start[first : first + _CHUNK, None] + places, max(0, len(self._ids) - 1))
            table[first : first + _CHUNK] = np.where(inside, self._ids[at], 0) if len(self._ids) else 0
        return table.reshape(-1).view(f"S{width}")

    @property
    def labels(self) -> NDArray[np.int32]:
        """Label of each source, shape (N,), int32, read-only."""
        return self._columns.label

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Size of the file of each source, shape (N,), int64 bytes, read-only."""
        return self._columns.num_bytes

    @property
    def items(self) -> NDArray[np.int64]:
        """Index of each source within a file of many, shape (N,), int64, read-only; -1 for a file of its own."""
        return self._columns.item

    @property
    def parts(self) -> NDArray[np.str_]:
        """Published split of each source, shape (N,), text."""
        return np.array(self._parts or [""])[self._columns.part]


class TableBuilder:
    """Collects sources for a table, without using more memory than the table."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._columns = tuple(array(code) for code in "qiiiiqbqi")
        self._names: dict[tuple[str, str], int] = {}
        self._parts: dict[str, int] = {}

    def append(self, source: Source) -> None:
        """Add a source; `extend` is faster for many."""
        self.extend((source,))

    def extend(self, sources: Iterable[Source]) -> None:
        """Add sources, in the given order."""
        ids, names, parts = self._ids, self._names, self._parts
        start, length, label, name, middle, num_bytes, part, item, shift = self._columns
        for source in sources:
            name_there = normal_name(source.id)
            sample = encode_id(name_there)
            before, common, after = _cut(source.file, name_there)
            start.append(len(ids))
            length.append(len(sample))
            label.append(source.label)
            name.append(names.setdefault((before, after), len(names)))
            middle.append(len(sample) if common == len(name_there) else _width_of_end(name_there, common))
            num_bytes.append(source.num_bytes)
            part.append(parts.setdefault(source.part, len(parts)))
            item.append(source.item)
            shift.extend(source.shift)
            ids += sample

    def table(self) -> SourceTable:
        """Return the sources in insertion order; the builder must not be used afterwards."""
        columns: list[NDArray[Any]] = [np.frombuffer(column, column.typecode) for column in self._columns]
        columns[-1] = columns[-1].reshape(-1, 2)
        ids = np.frombuffer(self._ids, np.uint8)
        return SourceTable(ids, _Columns(*columns).compact(), list(self._names), list(self._parts))

    def sorted_table(self) -> SourceTable:
        """Return the sources sorted bytewise by id; the sort is stable."""
        table = self.table()
        ids = table.ids
        if (ids[1:] >= ids[:-1]).all():
            return table
        return table.take(np.argsort(ids, kind="stable"))


NO_SOURCES = SourceTable.of(())


def sorted_sources(sources: Iterable[Source]) -> SourceTable:
    """Return sources sorted bytewise by id."""
    builder = TableBuilder()
    builder.extend(sources)
    return builder.sorted_table()


def _cut(file: str, sample: str) -> tuple[str, int, str]:
    """Find the longest end of an id that precedes the suffix of a file; return before, its length and after."""
    end = file.rfind(".")
    if end <= file.rfind("/"):
        end = len(file)
    if file.endswith(sample, 0, end):
        common = len(sample)
    else:
        least = min(end, len(sample))
        common = next((n for n in range(least) if file[end - n - 1] != sample[-n - 1]), least)
    return file[: end - common], common, file[end:]


def _width_of_end(sample: str, count: int) -> int:
    return len(encode_id(sample[len(sample) - count :]))
