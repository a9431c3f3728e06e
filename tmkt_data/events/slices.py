"""Recordings that hold many samples one after the other, and the CSV file beside each that lists them."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import EVENT_DTYPE, DecoderReport, EventArray, Events, Window, validate_events
from tmkt_data.events.formats.aedat4 import read_aedat4
from tmkt_data.events.read import load_events
from tmkt_data.files import decode_text, read_bytes

NUM_DRAWERS = 20
"""Number of samples of an N-Omniglot recording."""
MAX_ROWS = 10_000


class Slice(NamedTuple):
    """One sample of a recording.

    Attributes:
        number: First column of its row: the position in N-Omniglot, the class, 1 to 11, in DVS128 Gesture.
        start: First time, microseconds.
        end: End, exclusive.
    """

    number: int
    start: int
    end: int


def slices_path(path: Path) -> Path:
    """Return the path of the CSV file: `0709.csv` for `0709.aedat4`, `user01_led_labels.csv` for `user01_led.aedat`."""
    return path.with_suffix(".csv") if path.suffix == ".aedat4" else path.with_name(f"{path.stem}_labels.csv")


def read_slices(path: Path) -> list[Slice]:
    """Read a CSV file with a header and one row a sample: number, start and end.

    Raises:
        EventError: No rows or more than 10 000, a row without three integers, or a start that is not before its end.
    """
    text = decode_text(read_bytes(path), errors="replace")
    rows = [row for row in csv.reader(text.splitlines()[1:]) if row]
    if not 1 <= len(rows) <= MAX_ROWS:
        raise EventError(f"{path.name}: {len(rows)} rows, expected one for each sample; fetch it again")
    slices: list[Slice] = []
    for number, row in enumerate(rows, start=1):
        try:
            found = Slice(*(int(value) for value in row[:3]))
        except (TypeError, ValueError):
            raise EventError(
                f"{path.name}, row {number}: found {','.join(row)[:60]!r}, expected index, start and end in us"
            ) from None
        if not 0 <= found.start < found.end < 2**62:
            raise EventError(
                f"{path.name}, row {number}: from {found.start} to {found.end}, expected a start before its end"
            )
        slices.append(found)
    return slices


def require_drawers(slices: list[Slice], path: Path) -> list[Slice]:
    """Return the slices of an N-Omniglot recording.

    Raises:
        EventError: There are not 20 of them.
    """
    if len(slices) != NUM_DRAWERS:
        raise EventError(
            f"{path.name}: {len(slices)} rows, expected one for each of {NUM_DRAWERS} drawers; fetch it again"
        )
    return slices


class SliceReader:
    """Read the samples of long recordings; each file is decoded once for all of its samples.

    Args:
        window: Part of the sensor that is kept; events outside are dropped and counted.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._path: Path | None = None
        self._events: EventArray = np.empty(0, EVENT_DTYPE)
        self._slices: list[Slice] = []

    def read(self, path: Path, item: int) -> Events:
        """Read one sample.

        Args:
            path: The recording, with its CSV file beside it, see `slices_path`.
            item: Row of the sample in the CSV file, from 0.

        Returns:
            The record, with columns and rows counted from the corner of the window.

        Raises:
            EventError: A file that cannot be read, a row that does not exist, or a sample without events.
        """
        if path != self._path:
            self._path = None
            self._events, self._slices = _whole(path), read_slices(slices_path(path))
            if path.suffix == ".aedat4":
                require_drawers(self._slices, slices_path(path))
            self._path = path
        if item >= len(self._slices):
            raise EventError(f"{slices_path(path).name}: {len(self._slices)} rows, no row {item + 1}; fetch it again")
        _, start, end = self._slices[item]
        first, last = np.searchsorted(self._events["t"], [start, end], side="left")
        chosen = self._events[first:last]
        place = f"{path.name}, {'drawer' if path.suffix == '.aedat4' else 'row'} {item + 1}"
        if not len(chosen):
            raise EventError(
                f"{place}: no event from {start} to {end}, expected some; the csv is not of this recording"
            )
        return cut_window(chosen, self._window, place)


def slice_faults(path: Path) -> list[str]:
    """Return warnings about rows of the CSV file of a recording, one line a kind; its samples can still be read.

    Args:
        path: The recording, with its CSV file beside it, see `slices_path`.

    Returns:
        Rows that begin before the previous one ends; in N-Omniglot also rows whose start or end is no event's time.

    Raises:
        EventError: As `SliceReader.read`.
    """
    times, slices = _whole(path)["t"], read_slices(slices_path(path))
    place = slices_path(path).name
    overlapping = [row for row, (above, here) in enumerate(pairwise(slices), start=2) if here.start < above.end]
    faults = [f"{place}: {_rows(overlapping)} before the row above ends"] if overlapping else []
    if path.suffix == ".aedat4":
        exact = np.isin(np.array([(row.start, row.end) for row in slices]), times).all(axis=1)
        inexact = (np.flatnonzero(~exact) + 1).tolist()
        if inexact:
            faults.append(f"{place}: {_rows(inexact)} or ends at the time of no event; the next one is taken")
    return faults


def unread_streams(path: Path) -> list[str]:
    """Return warnings about event streams of an N-Omniglot recording that are not read; errors as `read_aedat4`."""
    others = read_aedat4(path).num_others if path.suffix == ".aedat4" else {}
    return [f"{path.name}: {count:,} events {reason} are not read" for reason, count in others.items()]


def _rows(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:5])) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
    return f"row {shown} begins" if len(rows) == 1 else f"each of rows {shown} begins"


def _whole(path: Path) -> EventArray:
    if path.suffix != ".aedat4":
        return load_events(path).to_array()
    events = read_aedat4(path).events
    if (events["t"][1:] < events["t"][:-1]).any():
        events = events[np.argsort(events["t"], kind="stable")]
    return events


def cut_window(events: NDArray[np.void], window: Window, place: str) -> Events:
    """Keep the events of a window, with coordinates counted from its corner; the others are counted as dropped."""
    x, y = events["x"].astype(np.int64) - window.x_first, events["y"].astype(np.int64) - window.y_first
    inside = (x >= 0) & (y >= 0) & (x < window.size.width) & (y < window.size.height)
    num_outside = int(len(inside) - np.count_nonzero(inside))
    return validate_events(
        events["t"][inside],
        x[inside],
        y[inside],
        events["p"][inside],
        sensor_size=window.size,
        report=DecoderReport(place, len(events), {"outside the window": num_outside}),
    )
