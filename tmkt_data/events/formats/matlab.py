"""MATLAB 5 files with the columns of a recording: variables `x`, `y`, `ts` and `p` or `pol`, as in CEP-DVS and ASL-DVS.

SciPy's decoder is not used, as it reads past its buffer on damaged files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import DecoderReport, Events, SensorSize, validate_events
from tmkt_data.events.formats.clock import WORD_RANGE, Clock, unwrap_words
from tmkt_data.events.formats.columns import microseconds, time_step_us
from tmkt_data.spec import TimeUnit

MAGIC = b"MATLAB 5.0 MAT-file"
_COLUMNS = ("x", "y", "ts", "p")
_OTHER_P = "pol"
_HEADER_BYTES = 128
_MAX_BYTES = 256 * 2**20
"""Limit of the file, and of its inflated elements together."""

_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)
"""Classes of numeric arrays, double to uint64, not of text, cells, structs and objects."""


class _Element(NamedTuple):
    kind: int
    data: memoryview


def decode_matlab(
    data: bytes,
    *,
    sensor_size: SensorSize | None = None,
    unit: TimeUnit | None = None,
    place: str = "MATLAB bytes",
) -> Events:
    """Decode a MATLAB 5 file with the variables `x`, `y`, `ts` and `p` or `pol`, all of one length.

    Only these variables are read, and only as real numbers. Polarities -1 and 0 are OFF, 1 is ON.

    Args:
        data: The whole file.
        sensor_size: Size of the sensor; events outside are dropped and counted. None: nothing is dropped.
        unit: Unit of the times, which may then have fractions; None takes whole microseconds (inferred: CEP-DVS does
            not say).
        place: Prefix of error messages, such as a file name.

    Returns:
        The validated record.

    Raises:
        EventError: No such file, a variable that is missing or no column of integers, or no events.

    Source: MathWorks, MAT-File Format, level 5.
    """
    if len(data) > _MAX_BYTES:
        raise EventError(f"{place}: {len(data):,} bytes, expected a recording of at most {_MAX_BYTES:,}")
    found = read_variables(data, (*_COLUMNS, _OTHER_P), place)
    if "p" in found and _OTHER_P in found:
        raise EventError(f"{place}: variables p and {_OTHER_P}, expected one of them; clear the other")
    if _OTHER_P in found:
        found["p"] = found.pop(_OTHER_P)
    missing = [name for name in _COLUMNS if name not in found]
    if missing:
        raise EventError(f"{place}: variables {', '.join(missing)} are missing, expected {', '.join(_COLUMNS)}")
    return matlab_events(found, sensor_size=sensor_size, unit=unit, place=place)


def matlab_events(
    found: Mapping[str, NDArray[np.generic]],
    *,
    sensor_size: SensorSize | None,
    unit: TimeUnit | None,
    place: str,
    clock: Clock | None = None,
) -> Events:
    """Turn the variables `x`, `y`, `ts` and `p` of a MATLAB file of any version into events, see `decode_matlab`.

    Times that are stored as integers of 32 bits are unwrapped; `clock` is as in `decode_columns`.
    """
    clock = clock or Clock(WORD_RANGE)
    found = {**found, "ts": unwrap_words(found["ts"], clock)}
    columns = {name: _whole_numbers(found[name], name, place) for name in ("x", "y", "p")}
    ts = found["ts"] if unit is not None else _whole_numbers(found["ts"], "ts", place)
    lengths = {name: len(columns.get(name, ts)) for name in _COLUMNS}
    if len(set(lengths.values())) > 1:
        raise EventError(f"{place}: columns of different length, {lengths}; the file is damaged, fetch it again")
    if not len(columns["p"]):
        raise EventError(f"{place}: no events, expected one or more; leave the file out")
    if columns["p"].min() < -1 or columns["p"].max() > 1:
        span = f"{columns['p'].min()} to {columns['p'].max()}"
        raise EventError(f"{place}: polarities run from {span}, expected -1, 0 or 1; check which variable is p")
    return validate_events(
        microseconds(ts, unit, place), columns["x"], columns["y"], columns["p"] == 1,
        sensor_size=sensor_size,
        report=DecoderReport(place, num_wraps=clock.num_new_wraps, time_step_us=time_step_us(ts, unit)),
    )  # fmt: skip


def read_variables(data: bytes, names: tuple[str, ...], place: str) -> dict[str, NDArray[np.generic]]:
    """Read arrays of real numbers by name, each flattened in file order; other variables are skipped.

    Raises:
        EventError: The bytes are no MATLAB 5 file, truncated or damaged, or a named variable is no array of numbers.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if not data.startswith(MAGIC) or len(data) < _HEADER_BYTES or order is None:
        raise EventError(f"{place}: no whole header of a MATLAB 5 file; it is damaged, fetch it again")
    found: dict[str, NDArray[np.generic]] = {}
    budget = _MAX_BYTES
    for element in _elements(memoryview(data)[_HEADER_BYTES:], order, place):
        if element.kind == _COMPRESSED:
            inflated = _inflate(element.data, budget, place)
            budget -= len(inflated)
            element = next(_elements(memoryview(inflated), order, place), element)
        if element.kind == _MATRIX:
            variable = _read_matrix(element.data, names, order, place)
            if variable is not None:
                found[variable[0]] = variable[1]
    return found


def _elements(data: memoryview, order: str, place: str) -> Iterator[_Element]:
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise EventError(
                f"{place}: {len(data) - at} bytes left, expected an element of 8 or more; the file is truncated"
            )
        word, size = (int(value) for value in np.frombuffer(data[at : at + 8], f"{order}u4"))
        if word >> 16:  # A small element: kind and size in one word, data in the next.
            kind, size, start, step = word & 0xFFFF, word >> 16, at + 4, 8
            if size > 4:
                raise EventError(f"{place}: a small element of {size} bytes, expected at most 4; it is damaged")
        else:
            kind, start = word, at + 8
            # Compressed elements have no padding between them.
            step = 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data):
            raise EventError(f"{place}: an element of {size} bytes, found {len(data) - start}; the file is truncated")
        yield _Element(kind, data[start : start + size])
        at += step


def _inflate(data: memoryview, budget: int, place: str) -> bytes:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, budget + 1)
    except zlib.error as broken:
        raise EventError(f"{place}: a compressed element is damaged ({broken}); fetch it again") from broken
    if len(inflated) > budget:
        raise EventError(f"{place}: more than {_MAX_BYTES:,} bytes once inflated; it is no recording")
    return inflated


def _read_matrix(
    data: memoryview, names: tuple[str, ...], order: str, place: str
) -> tuple[str, NDArray[np.generic]] | None:
    parts = _elements(data, order, place)
    flags, dims, name = (next(parts, None) for _ in range(3))
    if flags is None or dims is None or name is None or len(flags.data) < 4 or len(dims.data) % 4:
        raise EventError(f"{place}: a variable without flags, dimensions and name; it is damaged, fetch it again")
    label = bytes(name.data).decode("ascii", errors="replace")
    if label not in names:
        return None
    word = int(np.frombuffer(flags.data[:4], f"{order}u4")[0])
    values = next(parts, None)
    is_complex = bool(word & 0x0800)
    if word & 0xFF not in _NUMERIC_CLASSES or is_complex or values is None or values.kind not in _STORED:
        raise EventError(f"{place}: variable {label} is no array of real numbers; the file is of another dataset")
    dtype = np.dtype(order + _STORED[values.kind])
    shape = [int(length) for length in np.frombuffer(dims.data, f"{order}i4")]
    count = 1
    for length in shape:
        count *= max(length, -1)
    if min(shape, default=-1) < 0 or count * dtype.itemsize != len(values.data):
        raise EventError(
            f"{place}: variable {label} is {' x '.join(map(str, shape))} with {len(values.data)} bytes of "
            f"{dtype.itemsize} each; it is damaged, fetch it again"
        )
    return label, np.frombuffer(values.data, dtype)


def _whole_numbers(values: NDArray[np.generic], name: str, place: str) -> NDArray[np.int64]:
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        what = "give their unit, unit='s' or another (--unit s)" if name == "ts" else "check which variable it is"
        raise EventError(f"{place}: variable {name} has fractions, expected whole numbers; {what}")
    if len(values) and not -(2.0**62) < float(values.min()) <= float(values.max()) < 2.0**62:
        raise EventError(f"{place}: variable {name} runs to {float(values.max()):g}, expected less than 2**62")
    return values.astype(np.int64)
