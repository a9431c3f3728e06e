"""AEDAT4 recordings of DAVIS cameras, and the slices of one that hold a sample each, as in N-Omniglot."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events import EVENT_DTYPE, EventArray, Events, SensorSize, Window, validate_events
from tmkt_data.io.files import read_bytes

MAGIC = b"#!AER-DAT4.0\r\n"
NUM_DRAWERS = 20


def load_aedat4(path: Path, sensor_size: SensorSize | None = None) -> Events:
    """Read the first event stream of an AEDAT4 file into the validated record.

    Args:
        path: The file.
        sensor_size: Size of the sensor; None takes the one that the stream declares. Events outside are dropped.

    Raises:
        EventError: As `read_aedat4`.
    """
    events, declared = read_aedat4(path)
    columns = (np.ascontiguousarray(events[name]) for name in "txyp")
    return validate_events(*columns, sensor_size=sensor_size or declared, place=path.name)


def read_aedat4(path: Path) -> tuple[EventArray, SensorSize]:
    """Read all events of the first event stream of an AEDAT4 file, in file order and file time.

    Returns:
        Events, shape (N,), `tmkt_data.EVENT_DTYPE`, with absolute microseconds, owned by the caller; and the size of
        the sensor that the stream declares.

    Raises:
        EventError: The file is missing, no AEDAT4, cut off, without events, or the package `aedat` is not installed.
    """
    try:
        import aedat
    except ImportError as missing:
        raise EventError(
            f"{path.name}: AEDAT4 needs the package aedat; install it with: pip install 'tmkt[aedat4]'"
        ) from missing
    _check_start(path)
    try:
        decoder = aedat.Decoder(str(path))
        about = {n: stream for n, stream in sorted(decoder.id_to_stream().items()) if stream["type"] == "events"}
        first = next(iter(about), None)
        packets = [packet["events"] for packet in decoder if first is not None and packet["stream_id"] == first]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as broken:
        # aedat raises RuntimeError and others on damaged files, and panics, which are no Exception, on some.
        raise EventError(f"{path.name}: no readable AEDAT4 file ({broken}); fetch it again") from broken
    if first is None or not packets:
        raise EventError(f"{path.name}: no event stream with events, expected one; fetch it again")
    events = np.empty(sum(len(packet) for packet in packets), EVENT_DTYPE)
    for name, column in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        events[name] = np.concatenate([packet[column] for packet in packets])
    return events, SensorSize(about[first]["width"], about[first]["height"])


def _check_start(path: Path) -> None:
    """Refuse what is no AEDAT4 file, or ends within its header.

    Raises:
        EventError: Such a file.
    """
    data = read_bytes(path, limit=len(MAGIC) + 4)
    if not data.startswith(MAGIC):
        raise EventError(f"{path.name}: starts with {data[:12]!r}, expected an AEDAT4 file; fetch it again")
    header_bytes = int.from_bytes(data[len(MAGIC) :], "little")
    found = max(path.stat().st_size - len(MAGIC) - 4, 0)
    if not 8 <= header_bytes <= found:
        raise EventError(
            f"{path.name}: header of {header_bytes} bytes, found {found}; the file is truncated, fetch it again"
        )


def read_slices(path: Path) -> list[tuple[int, int]]:
    """Read where the samples of a recording begin and end: the csv beside an N-Omniglot recording.

    Returns:
        First time and end, absolute microseconds, of each of the 20 drawers; the end is exclusive.

    Raises:
        EventError: Not 20 rows, or a row without two whole numbers in the second and third column.
    """
    text = read_bytes(path).decode("utf-8-sig", errors="replace")
    rows = [row for row in csv.reader(text.splitlines()[1:]) if row]
    if len(rows) != NUM_DRAWERS:
        raise EventError(
            f"{path.name}: {len(rows)} rows, expected one for each of {NUM_DRAWERS} drawers; fetch it again"
        )
    slices: list[tuple[int, int]] = []
    for number, row in enumerate(rows, start=1):
        try:
            start, end = int(row[1]), int(row[2])
        except (IndexError, ValueError):
            raise EventError(
                f"{path.name}, row {number}: found {','.join(row)[:60]!r}, expected index, start and end in us"
            ) from None
        if not 0 <= start < end:
            raise EventError(f"{path.name}, row {number}: from {start} to {end}, expected a start before its end")
        slices.append((start, end))
    return slices


class DrawerReader:
    """Reads the samples of AEDAT4 recordings that hold one after the other; decodes a file once for all its samples.

    Args:
        window: Part of the sensor that is kept; events outside are dropped and counted.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._path: Path | None = None
        self._events: EventArray = np.empty(0, EVENT_DTYPE)
        self._slices: list[tuple[int, int]] = []

    def read(self, path: Path, drawer: int) -> Events:
        """Read one sample.

        Args:
            path: The `.aedat4` file; its `.csv` lies beside it.
            drawer: Position of the sample, 0 to 19.

        Returns:
            The record, with columns and rows counted from the window's first.

        Raises:
            EventError: A file that cannot be read, or a sample without events.
        """
        if path != self._path:
            self._path = None
            (events, _), slices = read_aedat4(path), read_slices(path.with_suffix(".csv"))
            if (events["t"][1:] < events["t"][:-1]).any():
                events = events[np.argsort(events["t"], kind="stable")]
            self._path, self._events, self._slices = path, events, slices
        start, end = self._slices[drawer]
        first, last = np.searchsorted(self._events["t"], [start, end], side="left")
        chosen = self._events[first:last]
        place = f"{path.name}, drawer {drawer + 1}"
        if not len(chosen):
            raise EventError(f"{place}: no event from {start} to {end}, expected some; the csv is of another recording")
        return cut_window(chosen, self._window, place)


def cut_window(events: NDArray[np.void], window: Window, place: str) -> Events:
    """Keep what lies in a window, counted from its corner; the record says how many events were dropped."""
    x, y = events["x"].astype(np.int64) - window.x_first, events["y"].astype(np.int64) - window.y_first
    inside = (x >= 0) & (y >= 0) & (x < window.size.width) & (y < window.size.height)
    num_outside = int(len(inside) - np.count_nonzero(inside))
    return validate_events(
        events["t"][inside],
        x[inside],
        y[inside],
        events["p"][inside],
        sensor_size=window.size,
        num_read=len(events),
        num_dropped={"outside the window": num_outside} if num_outside else {},
        place=place,
    )
