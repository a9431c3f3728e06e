"""AEDAT 2.0 recordings of jAER: DVS128 and the DAVIS cameras. Words of eight bytes after a text header."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import OUTSIDE, DecoderReport, Events, SensorSize, validate_events
from tmkt_data.events.formats.clock import Clock
from tmkt_data.spec import AEDAT2_LAYOUTS, Aedat2Layout

MAGIC = b"#!AER-DAT"
VERSION = b"#!AER-DAT2.0"
BYTES_PER_WORD = 8
CHIPS: dict[str, SensorSize] = {
    "DVS128": SensorSize(128, 128),
    "DAVIS240": SensorSize(240, 180),
    "DAVIS346": SensorSize(346, 260),
}
_SEVERAL = ("multi", "stereo", "binocular")
"""Words in the names of jAER's chips with more than one sensor, such as MultiDAVIS346BCamera."""
_END = "#end of ascii header"
_MAX_HEADER = 4 << 20
CLOCK_RANGE_US = 1 << 32


class _Columns(NamedTuple):
    t: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    p: NDArray[np.bool_]
    num_dropped: dict[str, int]


def decode_aedat2(
    data: bytes,
    *,
    sensor_size: SensorSize | None = None,
    orientation: Aedat2Layout = "raw",
    chip: str | None = None,
    clock: Clock | None = None,
    place: str = "AEDAT 2.0 bytes",
) -> Events:
    r"""Decode an AEDAT 2.0 file.

    Args:
        data: The file.
        sensor_size: Size of the sensor; None takes that of the chip. Events outside are dropped.
        orientation: `raw`: addresses unchanged, polarity bit 1 is ON. `jaer`: x = W - 1 - x, y = H - 1 - y, and for
            DVS128 polarity bit 0 is ON. `cifar10dvs`, only DVS128: x = 127 - y, y = 127 - x, polarity bit 0 is ON.
        chip: `DVS128`, `DAVIS240` or `DAVIS346`; None takes the one that the header names, and DVS128 for `cifar10dvs`
            where it names none.
        clock: Clock of `CLOCK_RANGE_US` that earlier pieces of the file have advanced; updated. None: a new one.
        place: Prefix of error messages.

    Returns:
        The validated record. Sync events, frame and IMU words and external triggers are dropped and counted. Times are
        unwrapped where their 32 bits wrap.

    Raises:
        EventError: Another version, an unknown chip or one of several sensors, an orientation that the chip does not
            have, or the last word is cut off.

    Source: jAER's AEDAT 2.0 description; Li et al., 2017, as spikingjelly reads it (`cifar10dvs`).

    Example:
        >>> words = bytes.fromhex("0000090b000003e8")
        >>> decode_aedat2(b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n" + words).to_array().tolist()
        [(1000, 5, 9, True)]
    """
    if not data.startswith(VERSION):
        raise EventError(f"{place}: starts with {data[:12]!r}, expected {VERSION!r}; AEDAT 1.0 is not read")
    lines, start = _header(data)
    # Only this chip has the orientation, and files of CIFAR10-DVS do not all name it.
    name = _chip(chip, lines, place, default="DVS128" if orientation == "cifar10dvs" else None)
    if orientation not in AEDAT2_LAYOUTS or (orientation == "cifar10dvs" and name != "DVS128"):
        known = ", ".join(AEDAT2_LAYOUTS if name == "DVS128" else AEDAT2_LAYOUTS[:2])
        raise EventError(f"{place}: orientation: found {orientation!r}, expected one of {known} for {name}")
    num_words = whole_words(len(data) - start, place)
    words = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2)
    address = words[:, 0].astype(np.int64)
    clock = clock or Clock(CLOCK_RANGE_US)
    columns = (_dvs128 if name == "DVS128" else _davis)(address, clock.unwrap(words[:, 1].astype(np.int64)))
    size = CHIPS[name]
    x, y, p = _oriented(columns, name, size, orientation)
    inside = (x >= 0) & (y >= 0)
    dropped = columns.num_dropped | {OUTSIDE: int(np.count_nonzero(~inside))}
    return validate_events(
        columns.t[inside],
        x[inside],
        y[inside],
        p[inside],
        sensor_size=sensor_size or size,
        report=DecoderReport(place, num_words, dropped, clock.num_new_wraps),
    )


def whole_words(num_bytes: int, place: str) -> int:
    """Return the number of words in `num_bytes` after the header.

    Raises:
        EventError: The last word is cut off.
    """
    num_words, rest = divmod(num_bytes, BYTES_PER_WORD)
    if rest:
        raise EventError(
            f"{place}: {rest} bytes left after {num_words} whole words of {BYTES_PER_WORD} bytes; the file is "
            "truncated, fetch it again"
        )
    return num_words


def read_header(data: bytes) -> tuple[int, bytes]:
    """Return the size of the header, and a header with an explicit end to put before a piece of the file."""
    lines, start = _header(data)
    is_ended = bool(lines) and lines[-1].startswith(_END)
    return start, data[:start] if is_ended else data[:start] + _END.encode() + b"\n"


def _header(data: bytes) -> tuple[list[str], int]:
    """Return the lines of the header in lower case, and where the data starts.

    Newer files mark the end of the header, and may have non-ASCII lines before it. In older ones the data starts at the
    first line that is no ASCII text or does not start with a number sign.
    """
    lines: list[str] = []
    at, is_text = 0, False
    while data.startswith(b"#", at):
        end = data.find(b"\n", at)
        line = data[at:end]
        if end < 0 or not (is_text or _is_text(line)):
            is_text = end >= 0 and _ends_later(data, at)
            if not is_text:
                break
        at = end + 1
        lines.append(line.decode("ascii", "replace").strip().lower())
        if lines[-1].startswith(_END):
            break
    return lines, at


def _is_text(line: bytes) -> bool:
    return line.isascii() and line.rstrip(b"\r").replace(b"\t", b" ").decode("ascii").isprintable()


def _ends_later(data: bytes, at: int) -> bool:
    """Whether only lines with a number sign lie between `at` and the line that ends the header."""
    last = at + _MAX_HEADER
    while data.startswith(b"#", at) and (end := data.find(b"\n", at, last)) >= 0:
        if data[at:end].lower().startswith(_END.encode()):
            return True
        at = end + 1
    return False


def _chip(given: str | None, lines: list[str], place: str, default: str | None) -> str:
    stated = _stated_chip(lines)
    if stated and _is_of_several(stated):
        raise EventError(
            f"{place}: chip: found {stated!r}, several sensors in one file, expected one; save the events of each "
            "sensor in a file of its own"
        )
    named = given or stated or default
    found = next((name for name in CHIPS if named and name.lower() in named.lower()), None)
    if found is None:
        what = f"{named.strip()!r}" if named else "no line # AEChip"
        raise EventError(
            f"{place}: chip: found {what}, expected {', '.join(CHIPS)}; give chip='DVS128' or another (--chip DVS128)"
        )
    return found


def _stated_chip(lines: list[str]) -> str | None:
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("# aechip:")), None)


def _is_of_several(chip: str) -> bool:
    return any(word in chip.rpartition(".")[2] for word in _SEVERAL)


def has_several_sensors(data: bytes) -> bool:
    """Return whether the start of a file names a chip of several sensors, which is not read."""
    return data.startswith(VERSION) and _is_of_several(_stated_chip(_header(data)[0]) or "")


def _dvs128(address: NDArray[np.int64], t: NDArray[np.int64]) -> _Columns:
    is_sync = (address >> 15) & 1 == 1
    a, num = address[~is_sync], int(np.count_nonzero(is_sync))
    return _Columns(t[~is_sync], (a >> 1) & 0x7F, (a >> 8) & 0x7F, (a & 1).astype(np.bool_), {"sync events": num})


def _davis(address: NDArray[np.int64], t: NDArray[np.int64]) -> _Columns:
    is_frame = (address >> 31) & 1 == 1
    is_trigger = ~is_frame & ((address >> 10) & 1 == 1)
    counts = {"frame and IMU words": is_frame, "external triggers": is_trigger}
    kept = ~(is_frame | is_trigger)
    a = address[kept]
    return _Columns(
        t[kept],
        (a >> 12) & 0x3FF,
        (a >> 22) & 0x1FF,
        ((a >> 11) & 1).astype(np.bool_),
        {name: int(np.count_nonzero(found)) for name, found in counts.items()},
    )


def _oriented(
    columns: _Columns, chip: str, size: SensorSize, orientation: Aedat2Layout
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    _, x, y, p, _ = columns
    match orientation:
        case "raw":
            return x, y, p
        case "jaer":
            return size.width - 1 - x, size.height - 1 - y, ~p if chip == "DVS128" else p
        case "cifar10dvs":
            return 127 - y, 127 - x, ~p
