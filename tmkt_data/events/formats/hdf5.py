"""Recordings in HDF5: DSEC, Prophesee, plain columns, MATLAB 7.3, and any other layout that the caller describes.

The HDF5 library crashes or hangs on some damaged files, so it runs in a process of its own, which may die without harm.
That process opens nothing but the file, and reads no more than a small multiple of its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.formats.clock import WORD_RANGE, Clock
from tmkt_data.events.formats.columns import decode_columns
from tmkt_data.events.formats.matlab import matlab_events
from tmkt_data.events.formats.worker import BYTES_PER_S, TIME_LIMIT_S, Answer, Worker
from tmkt_data.files import read_bytes
from tmkt_data.spec import TimeUnit

MAGIC = b"\x89HDF\r\n\x1a\n"
USER_BLOCK_BYTES = 512
"""Where HDF5 begins in a MATLAB 7.3 file."""
MAX_PART_BYTES = 256 << 20
"""Reading a part may take the time of this many bytes at most."""
_MATLAB = b"MATLAB 7.3"
_WORKER = Worker("tmkt_data.events.formats.hdf5_worker", "HDF5")


def is_hdf5(data: bytes) -> bool:
    """Return whether a file starts as HDF5, or as MATLAB 7.3, which is HDF5 after 512 bytes of text."""
    return data.startswith(MAGIC) or data[USER_BLOCK_BYTES:].startswith(MAGIC)


def load_hdf5(
    path: Path,
    *,
    sensor_size: SensorSize | None = None,
    keys: str | None = None,
    unit: TimeUnit | None = None,
    columns: str | None = None,
) -> Events:
    """Read a recording from an HDF5 file.

    Layouts known without `keys`: columns t, x, y and p (or usual other names) in a group `events` (DSEC, with
    `t_offset` added) or at the root (also MATLAB 7.3); Prophesee's table `CD/events`; and, where the order of its
    columns is given, a table of shape (N, 4), such as those of v2e and MVSEC. Nothing else is guessed.

    Args:
        path: The file.
        sensor_size: Size of the sensor; events outside are dropped. None takes what the file declares, if it does.
        keys: Paths of the columns, such as `"t=raw/ts,x=raw/x,y=raw/y,p=raw/pol"`, or `"table=raw/events"` for one
            table with fields or of shape (N, 4).
        unit: Unit of the times; integers are microseconds by default.
        columns: Order of the columns of a table of shape (N, 4), such as `txyp`; it is never guessed.

    Returns:
        The validated record. Polarity may be bool, 0 and 1, or -1 and 1. The variables of a MATLAB 7.3 file are read as
        those of MATLAB 5, see `decode_matlab`.

    Raises:
        EventError: No HDF5 file, a damaged one, one that links to other files or claims far more than its size, a
            filter that is not installed, or columns that are missing or hold no events.

    Source: Gehrig et al., DSEC, RA-L 2021; Prophesee Metavision, HDF5 event file format.
    """
    is_matlab = _is_matlab(path)
    return _events(_ask(path, keys, columns, None), sensor_size, unit, path.name, is_matlab, Clock(WORD_RANGE))


def hdf5_pieces(
    path: Path,
    num_events: int,
    *,
    sensor_size: SensorSize | None,
    keys: str | None,
    unit: TimeUnit | None,
    columns: str | None = None,
) -> Iterator[Events]:
    """Read a recording in pieces of about `num_events`; arguments and errors as `load_hdf5`."""
    is_matlab, clock = _is_matlab(path), Clock(WORD_RANGE)
    start = 0
    while True:
        answer = _ask(path, keys, columns, (start, num_events))
        num_read = min(map(len, answer.columns.values()))
        yield _events(answer, sensor_size, unit, path.name, is_matlab, clock)
        start += num_read
        if start >= answer.about[2] or not num_read:
            return


def _is_matlab(path: Path) -> bool:
    start = read_bytes(path, limit=USER_BLOCK_BYTES + len(MAGIC))
    if not is_hdf5(start):
        raise EventError(f"{path.name}: no HDF5 file; fetch it again")
    return start.startswith(_MATLAB)


def _events(
    answer: Answer, sensor_size: SensorSize | None, unit: TimeUnit | None, place: str, is_matlab: bool, clock: Clock
) -> Events:
    columns = answer.columns
    declared, origin, _ = answer.about
    if is_matlab and set(columns) == {"t", "x", "y", "p"}:
        named = {"ts": columns["t"], **columns}
        return matlab_events(named, sensor_size=sensor_size, unit=unit, clock=clock, place=place)
    return decode_columns(
        columns,
        sensor_size=sensor_size or (SensorSize(*declared) if declared else None),
        unit=unit,
        origin=origin,
        clock=clock,
        place=place,
    )


def _ask(path: Path, keys: str | None, order: str | None, part: tuple[int, int] | None) -> Answer:
    num_bytes = path.stat().st_size
    limit_s = TIME_LIMIT_S + (num_bytes if part is None else min(num_bytes, MAX_PART_BYTES)) / BYTES_PER_S
    return _WORKER.ask(path, [keys, order, part], limit_s)
