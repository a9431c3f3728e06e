"""AEDAT 3.1 recordings of cAER, such as DVS128 Gesture: packets of events after a text header."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError, printable
from tmkt_data.events.events import DecoderReport, Events, SensorSize, validate_events

VERSION = b"#!AER-DAT3.1"
END = b"#!END-HEADER\r\n"
_HEAD = struct.Struct("<hhiiiiii")
PACKET_HEAD_BYTES = _HEAD.size
_POLARITY = 1
_EVENT = np.dtype([("data", "<u4"), ("t", "<i4")])


class _Packet(NamedTuple):
    kind: int
    event_size: int
    overflow: int
    capacity: int
    number: int
    body: int


def decode_aedat3(
    data: bytes, *, sensor_size: SensorSize | None = None, num_before: int = 0, place: str = "AEDAT 3.1 bytes"
) -> Events:
    r"""Decode an AEDAT 3.1 file.

    Args:
        data: The file.
        sensor_size: Size of the sensor, which the format does not declare; events outside are dropped.
        num_before: Bytes of earlier packets of the file that `data` leaves out; only for error messages.
        place: Prefix of error messages.

    Returns:
        The validated record of all polarity packets. Events that the camera marked invalid are dropped and counted;
        packets of other types are skipped.

    Raises:
        EventError: Another version, packed packets (Serial-TS), a header without an end, or a packet that is truncated
            or inconsistent.

    Source: iniVation's AEDAT 3.1 description.

    Example:
        >>> head = "0100 0000 08000000 04000000 00000000 01000000 01000000 01000000"
        >>> packet = bytes.fromhex(head + "27000a00 e8030000")
        >>> decode_aedat3(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + packet).to_array().tolist()
        [(1000, 5, 9, True)]
    """
    if not data.startswith(VERSION):
        raise EventError(f"{place}: starts with {data[:12]!r}, expected {VERSION!r}; other versions are not read")
    end = data.find(END)
    if end < 0:
        raise EventError(f"{place}: no line {END.strip().decode()} in the header; the file is truncated")
    require_raw(data[:end], place)
    packets = [packet for packet in _packets(data, end + len(END), num_before, place) if packet.kind == _POLARITY]
    columns = [_events(data, packet) for packet in packets]
    num_read = sum(packet.number for packet in packets)
    t = np.concatenate([np.empty(0, np.int64), *(t for t, _ in columns)])
    packed = np.concatenate([np.empty(0, np.uint32), *(packed for _, packed in columns)])
    return validate_events(
        t,
        ((packed >> 17) & 0x7FFF).astype(np.uint16),
        ((packed >> 2) & 0x7FFF).astype(np.uint16),
        ((packed >> 1) & 1).astype(np.bool_),
        sensor_size=sensor_size,
        report=DecoderReport(place, num_read, {"marked invalid": num_read - len(t)}),
    )


def require_raw(header: bytes, place: str) -> None:
    """Refuse a file whose packets are packed: their sizes are others than those of plain events.

    Raises:
        EventError: The header names such a format.
    """
    lines = header.decode("ascii", "replace").lower().splitlines()
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("#format:")), "raw")
    if "serial-ts" in found or "compressed" in found:
        raise EventError(
            f"{place}: packets of the format {printable(found[:40])}, expected raw ones; record it anew, or save it as "
            "RAW"
        )


def packet_bytes(head: bytes) -> int:
    """Return the size of a packet's body in bytes, as its header states it; 0 for a truncated header."""
    if len(head) < _HEAD.size:
        return 0
    _, _, event_size, _, _, capacity, _, _ = _HEAD.unpack(head)
    return int(capacity) * int(event_size)


def _packets(data: bytes, at: int, num_before: int, place: str) -> Iterator[_Packet]:
    while at < len(data):
        if len(data) - at < _HEAD.size:
            raise EventError(
                f"{place}: {len(data) - at} bytes left at byte {num_before + at}, expected a packet's header of "
                f"{_HEAD.size}; the file is truncated, fetch it again"
            )
        kind, _, event_size, _, overflow, capacity, number, _ = _HEAD.unpack_from(data, at)
        body = at + _HEAD.size
        if not (event_size > 0 and 0 <= number <= capacity and overflow >= 0) or (
            kind == _POLARITY and event_size != _EVENT.itemsize
        ):
            raise EventError(
                f"{place}: packet at byte {num_before + at} of type {kind} with {number} of {capacity} events of "
                f"{event_size} bytes and overflow {overflow}, expected sizes that fit; the file is damaged"
            )
        if capacity * event_size > len(data) - body:
            raise EventError(
                f"{place}: packet at byte {num_before + at} needs {capacity * event_size} bytes, found "
                f"{len(data) - body}; the file is truncated, fetch it again"
            )
        yield _Packet(kind, event_size, overflow, capacity, number, body)
        at = body + capacity * event_size


def _events(data: bytes, packet: _Packet) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    events = np.frombuffer(data, _EVENT, count=packet.number, offset=packet.body)
    events = events[(events["data"] & 1).astype(np.bool_)]
    return events["t"].astype(np.int64) + (packet.overflow << 31), events["data"].astype(np.uint32)
