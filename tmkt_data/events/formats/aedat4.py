"""AEDAT4 recordings, through the package `aedat`.

On some damaged headers that library aborts the process that it runs in, so it runs in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.events import EVENT_DTYPE, DecoderReport, EventArray, Events, SensorSize, validate_events
from tmkt_data.events.formats.worker import BYTES_PER_S, TIME_LIMIT_S, Answer, Worker
from tmkt_data.files import read_bytes

MAGIC = b"#!AER-DAT4.0\r\n"
OTHER_STREAM = "of event stream "
"""How reasons in `Events.num_dropped` begin for the events of another stream; its number follows."""
_MODULE = "tmkt_data.events.formats.aedat4_worker"
_WORKER = Worker(_MODULE, "AEDAT4")


class Aedat4Events(NamedTuple):
    """The events of an AEDAT4 file.

    Attributes:
        events: Shape (N,), `tmkt_data.EVENT_DTYPE`, in file order, with absolute microseconds; owned by the caller.
        sensor_size: Size that the stream declares.
        num_others: Number of events in other event streams, by the reason in `Events.num_dropped`.
    """

    events: EventArray
    sensor_size: SensorSize
    num_others: dict[str, int]


def num_of_other_streams(num_dropped: Mapping[str, int]) -> int:
    """Return the number of events of other streams among `Events.num_dropped`."""
    return sum(count for reason, count in num_dropped.items() if reason.startswith(OTHER_STREAM))


def load_aedat4(path: Path, sensor_size: SensorSize | None = None, stream: int | None = None) -> Events:
    """Read an event stream of an AEDAT4 file into the validated record.

    Args:
        path: The file.
        sensor_size: Size of the sensor; None takes the declared one. Events outside are dropped.
        stream: Number of the event stream; None takes the first one with events.

    Returns:
        The record; the events of other streams, such as those of a second camera, are counted as dropped.

    Raises:
        EventError: As `read_aedat4`; or the file has no event stream of that number.
    """
    return _validated(_read(path, stream), sensor_size, path.name)


def read_aedat4(path: Path) -> Aedat4Events:
    """Read all events of the first event stream with events of an AEDAT4 file.

    Raises:
        EventError: The file is missing, no AEDAT4, truncated, damaged, without events, or the package `aedat` is not
            installed.
    """
    answer = _read(path)
    size, num_others = _streams(answer)
    events = np.empty(len(answer.columns["t"]), EVENT_DTYPE)
    for name, column in answer.columns.items():
        events[name] = column
    return Aedat4Events(events, size, num_others)


def aedat4_pieces(
    path: Path, sensor_size: SensorSize | None, num_events: int, stream: int | None = None
) -> Iterator[Events]:
    """Read an event stream in pieces of about `num_events`; arguments and errors as `load_aedat4`."""
    _require_readable(path)
    # A process for this file only: the shared one has to answer others before the last piece is asked for.
    worker = Worker(_MODULE, "AEDAT4")
    for number, answer in enumerate(worker.ask_for_pieces(path, [num_events, stream], _limit_s(path))):
        yield _validated(answer, sensor_size, path.name, is_first=number == 0)


def _read(path: Path, stream: int | None = None) -> Answer:
    _require_readable(path)
    answer = _WORKER.ask(path, [None, stream], _limit_s(path))
    if not len(answer.columns["t"]):
        if stream is not None:
            raise EventError(
                f"{path.name}: no events in event stream {stream}, expected some; choose another (--stream)"
            )
        raise EventError(f"{path.name}: no event stream with events, expected one; fetch it again")
    return answer


def _limit_s(path: Path) -> float:
    return TIME_LIMIT_S + path.stat().st_size / BYTES_PER_S


def _streams(answer: Answer) -> tuple[SensorSize, dict[str, int]]:
    streams, chosen = answer.about
    size = next(SensorSize(width, height) for number, width, height, _ in streams if number == chosen)
    others = {f"{OTHER_STREAM}{number}": count for number, _, _, count in streams if count and number != chosen}
    return size, others


def _validated(answer: Answer, sensor_size: SensorSize | None, place: str, *, is_first: bool = True) -> Events:
    size, others = _streams(answer)
    others = others if is_first else {}
    report = DecoderReport(place, len(answer.columns["t"]) + sum(others.values()), others)
    t, x, y, p = (answer.columns[name] for name in "txyp")
    return validate_events(t, x, y, p, sensor_size=sensor_size or size, report=report)


def _require_readable(path: Path) -> None:
    """Refuse a file that is no AEDAT4 or ends within its header, and any without the package that reads it."""
    if find_spec("aedat") is None:
        raise EventError(f"{path.name}: AEDAT4 needs the package aedat; install it with: pip install 'tmkt[aedat4]'")
    data = read_bytes(path, limit=len(MAGIC) + 4)
    if not data.startswith(MAGIC):
        raise EventError(f"{path.name}: starts with {data[:12]!r}, expected an AEDAT4 file; fetch it again")
    header_bytes = int.from_bytes(data[len(MAGIC) :], "little")
    found = max(path.stat().st_size - len(MAGIC) - 4, 0)
    if not 8 <= header_bytes <= found:
        raise EventError(
            f"{path.name}: header of {header_bytes} bytes, found {found}; the file is truncated, fetch it again"
        )
