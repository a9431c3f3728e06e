"""Bytes and words of recordings to event columns: ATIS, Event Stream, Prophesee EVT."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel
from tmkt_data.kernels.event_columns import EventColumns

EVT_STATE_SIZE = 6
_RESET, _OVERFLOW = 0xFE, 0xFF
_LONGEST_STEP = 127
_MAX_X = 2047
"""Largest column that an EVT word can name; vectors that run beyond it are damaged."""


@kernel
def decode_atis(data: NDArray[np.uint8], width: int, height: int, out: EventColumns) -> tuple[int, int, int]:
    """Decode 5-byte ATIS events; keep those inside `width` x `height`, in file order.

    Args:
        data: Bytes, shape (5 N,), uint8; a whole number of events.
        width: Columns from it on are invalid.
        height: Rows from it on are invalid.
        out: Written to: room for N events.

    Returns:
        Number of kept events, of events with an invalid coordinate, and of steps back in time among the kept ones.

    Source: a 40-bit big-endian word: x 8 bits, y 8 bits, polarity 1 bit, time 23 bits (Orchard et al. 2015).
    """
    t, x, y, p = out
    kept = 0
    inversions = 0
    previous = np.int64(-1)
    for i in range(data.size // 5):
        at = 5 * i
        column = data[at]
        row = data[at + 1]
        if column >= width or row >= height:
            continue
        high = np.int64(data[at + 2])
        time = ((high & 0x7F) << 16) | (np.int64(data[at + 3]) << 8) | np.int64(data[at + 4])
        t[kept] = time
        x[kept] = column
        y[kept] = row
        p[kept] = high >= 128
        if time < previous:
            inversions += 1
        previous = time
        kept += 1
    return kept, data.size // 5 - kept, inversions


@kernel
def count_es(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the number of DVS events in bytes of shape (N,), and the bytes of an event that is cut off at the end."""
    at = 0
    count = 0
    while at < data.size:
        if data[at] >= _RESET:
            at += 1
            continue
        if at + 5 > data.size:
            return count, data.size - at
        count += 1
        at += 5
    return count, 0


@kernel
def decode_es(data: NDArray[np.uint8], height: int, state: NDArray[np.int64], out: EventColumns) -> int:
    """Decode whole DVS events.

    Args:
        data: Bytes, shape (N,), uint8.
        height: Rows of the file's sensor, which count from the bottom.
        state: Time after earlier bytes of the file, shape (1,), 0 at its start; updated.
        out: Written to: room for the events that `count_es` counts.

    Returns:
        Number of events written; the others lie above the sensor.
    """
    t, x, y, p = out
    at = 0
    kept = 0
    time = state[0]
    while at + 5 <= data.size or (at < data.size and data[at] >= _RESET):
        first = data[at]
        if first >= _RESET:
            if first == _OVERFLOW:
                time += _LONGEST_STEP
            at += 1
            continue
        time += first >> 1
        row = height - 1 - (np.int64(data[at + 3]) | (np.int64(data[at + 4]) << 8))
        if row >= 0:
            t[kept] = time
            x[kept] = np.int64(data[at + 1]) | (np.int64(data[at + 2]) << 8)
            y[kept] = row
            p[kept] = (first & 1) == 1
            kept += 1
        at += 5
    state[0] = time
    return kept


@kernel
def count_evt2(words: NDArray[np.uint32]) -> int:
    """Return the number of events in EVT 2 words, shape (N,)."""
    count = 0
    for word in words:
        count += (word >> 28) <= 1
    return count


@kernel
def decode_evt2(words: NDArray[np.uint32], state: NDArray[np.int64], out: EventColumns) -> int:
    """Decode EVT 2 words.

    The upper 28 bits of the time wrap: a step back by more than half of their range is a wrap.

    Args:
        words: Shape (N,).
        state: What earlier words of the file have set, shape (EVT_STATE_SIZE,), zeros at its start; updated.
        out: Written to: room for the events that `count_evt2` counts.

    Returns:
        Number of events written.
    """
    t, x, y, p = out
    at = 0
    high = state[0]
    wraps = state[1]
    for word in words:
        kind = word >> 28
        if kind <= 1:
            t[at] = ((wraps + high) << 6) | np.int64((word >> 22) & 0x3F)
            x[at] = (word >> 11) & 0x7FF
            y[at] = word & 0x7FF
            p[at] = kind == 1
            at += 1
        elif kind == 8:
            new = np.int64(word & 0xFFFFFFF)
            if new < high - (1 << 27):
                wraps += 1 << 28
            high = new
    state[0] = high
    state[1] = wraps
    return at


@kernel
def count_evt21(words: NDArray[np.uint64]) -> int:
    """Return the number of events in EVT 2.1 words, shape (N,): the set bits of their vectors."""
    count = 0
    for word in words:
        if (word >> np.uint64(60)) <= 1:
            bits = word & np.uint64(0xFFFFFFFF)
            while bits:
                bits &= bits - np.uint64(1)
                count += 1
    return count


@kernel
def decode_evt21(words: NDArray[np.uint64], state: NDArray[np.int64], out: EventColumns) -> int:
    """Decode EVT 2.1 words; arguments and time as in `decode_evt2`, with room for what `count_evt21` counts.

    Returns:
        Number of events written; the others lie beyond the largest column.
    """
    t, x, y, p = out
    at = 0
    high = state[0]
    wraps = state[1]
    for word in words:
        kind = np.int64(word >> np.uint64(60))
        upper = np.int64((word >> np.uint64(32)) & np.uint64(0xFFFFFFF))
        if kind <= 1:
            time = ((wraps + high) << 6) | (upper >> 22)
            base = (upper >> 11) & 0x7FF
            row = upper & 0x7FF
            bits = np.int64(word & np.uint64(0xFFFFFFFF))
            for bit in range(32):
                if (bits >> bit) & 1 and base + bit <= _MAX_X:
                    t[at] = time
                    x[at] = base + bit
                    y[at] = row
                    p[at] = kind == 1
                    at += 1
        elif kind == 8:
            if upper < high - (1 << 27):
                wraps += 1 << 28
            high = upper
    state[0] = high
    state[1] = wraps
    return at


@kernel
def count_evt3(words: NDArray[np.uint16]) -> int:
    """Return the number of events in EVT 3 words, shape (N,): single events and the set bits of the vectors."""
    count = 0
    for word in words:
        kind = word >> 12
        if kind == 2:
            count += 1
        elif kind == 4 or kind == 5:
            bits = word & (0xFFF if kind == 4 else 0xFF)
            while bits:
                bits &= bits - 1
                count += 1
    return count


@kernel
def decode_evt3(words: NDArray[np.uint16], state: NDArray[np.int64], out: EventColumns) -> int:
    """Decode EVT 3 words; arguments as in `decode_evt2`, with room for what `count_evt3` counts.

    The upper 12 bits of the time wrap as in `decode_evt2`; the lower 12 keep their value until the next word that sets
    them, so a time may step back for a moment.

    Returns:
        Number of events written; the others lie beyond the largest column.
    """
    t, x, y, p = out
    at = 0
    high = state[0]
    low = state[2]
    wraps = state[1]
    row = state[3]
    base = state[4]
    polarity: np.bool_ = np.bool_(state[5] != 0)
    for word in words:
        kind = word >> 12
        value = np.int64(word & 0xFFF)
        if kind == 0:
            row = value & 0x7FF
        elif kind == 2:
            t[at] = ((wraps + high) << 12) | low
            x[at] = value & 0x7FF
            y[at] = row
            p[at] = value >= 0x800
            at += 1
        elif kind == 3:
            base = value & 0x7FF
            polarity = np.bool_(value >= 0x800)
        elif kind == 4 or kind == 5:
            width = 12 if kind == 4 else 8
            for bit in range(width):
                if (value >> bit) & 1 and base + bit <= _MAX_X:
                    t[at] = ((wraps + high) << 12) | low
                    x[at] = base + bit
                    y[at] = row
                    p[at] = polarity
                    at += 1
            base = base + width if base <= _MAX_X else base
        elif kind == 6:
            low = value
        elif kind == 8:
            if value < high - (1 << 11):
                wraps += 1 << 12
            high = value
    state[0] = high
    state[1] = wraps
    state[2] = low
    state[3] = row
    state[4] = base
    state[5] = 1 if polarity else 0
    return at
