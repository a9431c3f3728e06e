"""Recordings in HDF5: DSEC, Prophesee, plain columns, MATLAB 7.3, and any other layout that the caller describes.

The HDF5 library crashes or hangs on some damaged files, so it runs in a process of its own, which may die without harm.
That process opens nothing but the file, and reads no more than a small multiple of its size.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.formats.clock import WORD_RANGE, Clock
from tmkt_data.events.formats.columns import decode_columns
from tmkt_data.events.formats.matlab import matlab_events
from tmkt_data.files import read_bytes
from tmkt_data.spec import TimeUnit

MAGIC = b"\x89HDF\r\n\x1a\n"
USER_BLOCK_BYTES = 512
"""Where HDF5 begins in a MATLAB 7.3 file."""
TIME_LIMIT_S = 10.0
BYTES_PER_S = 5e6
"""A read may take `TIME_LIMIT_S` plus the time of the file at this rate, a twentieth of the usual one."""
MAX_PART_BYTES = 256 << 20
"""Reading a part may take the time of this many bytes at most."""
_MATLAB = b"MATLAB 7.3"
_PACKAGES = str(Path(__file__).parents[3])
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tmkt_data.events.formats.hdf5_worker import serve; serve()"
)


def is_hdf5(data: bytes) -> bool:
    """Return whether a file starts as HDF5, or as MATLAB 7.3, which is HDF5 after 512 bytes of text."""
    return data.startswith(MAGIC) or data[USER_BLOCK_BYTES:].startswith(MAGIC)


def load_hdf5(
    path: Path,
    *,
    sensor_size: SensorSize | None = None,
    keys: str | None = None,
    unit: TimeUnit | None = None,
) -> Events:
    """Read a recording from an HDF5 file.

    Layouts known without `keys`: columns t, x, y and p (or usual other names) in a group `events` (DSEC, with
    `t_offset` added) or at the root (also MATLAB 7.3), and Prophesee's table `CD/events`. Nothing else is guessed.

    Args:
        path: The file.
        sensor_size: Size of the sensor; events outside are dropped. None takes what the file declares, if it does.
        keys: Paths of the columns, such as `"t=raw/ts,x=raw/x,y=raw/y,p=raw/pol"`, or `"table=raw/events"` for one
            table with fields.
        unit: Unit of the times; integers are microseconds by default.

    Returns:
        The validated record. Polarity may be bool, 0 and 1, or -1 and 1. The variables of a MATLAB 7.3 file are read as
        those of MATLAB 5, see `decode_matlab`.

    Raises:
        EventError: No HDF5 file, a damaged one, one that links to other files or claims far more than its size, a
            filter that is not installed, or columns that are missing or hold no events.

    Source: Gehrig et al., DSEC, RA-L 2021; Prophesee Metavision, HDF5 event file format.
    """
    is_matlab = _is_matlab(path)
    return _events(_WORKER.read(path, keys, None), sensor_size, unit, path.name, is_matlab, Clock(WORD_RANGE))


def hdf5_pieces(
    path: Path, num_events: int, *, sensor_size: SensorSize | None, keys: str | None, unit: TimeUnit | None
) -> Iterator[Events]:
    """Read a recording in pieces of about `num_events`; arguments and errors as `load_hdf5`."""
    is_matlab, clock = _is_matlab(path), Clock(WORD_RANGE)
    start = 0
    while True:
        answer = _WORKER.read(path, keys, (start, num_events))
        num_read = min(map(len, answer.columns.values()))
        yield _events(answer, sensor_size, unit, path.name, is_matlab, clock)
        start += num_read
        if start >= answer.length or not num_read:
            return


def _is_matlab(path: Path) -> bool:
    start = read_bytes(path, limit=USER_BLOCK_BYTES + len(MAGIC))
    if not is_hdf5(start):
        raise EventError(f"{path.name}: no HDF5 file; fetch it again")
    return start.startswith(_MATLAB)


def _events(
    answer: _Answer, sensor_size: SensorSize | None, unit: TimeUnit | None, place: str, is_matlab: bool, clock: Clock
) -> Events:
    columns = answer.columns
    if is_matlab and set(columns) == {"t", "x", "y", "p"}:
        named = {"ts": columns["t"], **columns}
        return matlab_events(named, sensor_size=sensor_size, unit=unit, clock=clock, place=place)
    return decode_columns(
        columns, sensor_size=sensor_size or answer.size, unit=unit, origin=answer.origin, clock=clock, place=place
    )


class _Answer(NamedTuple):
    """What the process read, see `hdf5_columns.Found`."""

    columns: dict[str, NDArray[Any]]
    size: SensorSize | None
    origin: int
    length: int


class _Worker:
    """The process that reads; started when it is first needed, and again where it has died."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._inherited: subprocess.Popen[bytes] | None = None
        self._alone = threading.Lock()

    def read(self, path: Path, keys: str | None, part: tuple[int, int] | None) -> _Answer:
        num_bytes = path.stat().st_size
        limit = TIME_LIMIT_S + (num_bytes if part is None else min(num_bytes, MAX_PART_BYTES)) / BYTES_PER_S
        with self._alone:
            child = self._start()
            timer = threading.Timer(limit, child.kill)
            timer.start()
            try:
                return self._ask(child, [str(path.absolute()), keys, part])
            except (EOFError, OSError, ValueError):
                self.stop()
                raise EventError(
                    f"{path.name}: the HDF5 library crashed or did not finish within {limit:.0f} s; the file is "
                    "damaged, fetch it again"
                ) from None
            except BaseException as stopped:
                # The rest of an answer read halfway would be taken for the answer to the next question.
                if not isinstance(stopped, EventError):
                    self.stop()
                raise
            finally:
                timer.cancel()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.stop()
            # Isolated (-I): otherwise modules would first be looked for in the current folder, among foreign files.
            paths = [*(path for path in sys.path if path), _PACKAGES]
            command = [sys.executable, "-I", "-c", _START, json.dumps(paths)]
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        return self._child

    def _ask(self, child: subprocess.Popen[bytes], question: list[Any]) -> _Answer:
        assert child.stdin is not None and child.stdout is not None  # noqa: PT018 - both are pipes
        child.stdin.write(json.dumps(question).encode() + b"\n")
        child.stdin.flush()
        answer = json.loads(child.stdout.readline())
        if isinstance(answer, dict):
            raise EventError(answer["error"])
        about, size, origin, length = answer
        columns = {name: _receive(child.stdout, dtype, count) for name, dtype, count in about}
        return _Answer(columns, SensorSize(*size) if size else None, origin, length)

    def forget(self) -> None:
        """Leave the process to its parent: after a fork it is not ours to ask, kill or wait for."""
        self._inherited, self._child = self._child, None
        self._alone = threading.Lock()

    def stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            with contextlib.suppress(OSError):
                child.communicate()


def _receive(stream: IO[bytes], dtype: str, count: int) -> NDArray[Any]:
    data = stream.read(count * np.dtype(dtype).itemsize)
    if len(data) < count * np.dtype(dtype).itemsize:
        raise EOFError
    return np.frombuffer(data, dtype)


_WORKER = _Worker()
atexit.register(_WORKER.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_WORKER.forget)
