"""Prophesee event words to event columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

STATE_SIZE = 6
_MAX_X = 2047
"""Largest column that a word can name; vectors that run beyond it are damaged."""


@kernel
def count_evt2(words: NDArray[np.uint32]) -> int:
    """Count the events of EVT 2 words, shape (N,)."""
    count = 0
    for word in words:
        count += (word >> 28) <= 1
    return count


@kernel
def decode_evt2(
    words: NDArray[np.uint32],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    state: NDArray[np.int64],
) -> int:
    """Decode EVT 2 words into columns with room for what `count_evt2` counts; return that number.

    The upper 28 bits of the time wrap: one that steps back by more than half of its range has gone round.
    `state`, shape (STATE_SIZE,), is what earlier words have left, zeros at the start of a file; it is carried on.
    """
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
    """Count the events of EVT 2.1 words, shape (N,): the bits of their vectors."""
    count = 0
    for word in words:
        if (word >> np.uint64(60)) <= 1:
            bits = word & np.uint64(0xFFFFFFFF)
            while bits:
                bits &= bits - np.uint64(1)
                count += 1
    return count


@kernel
def decode_evt21(
    words: NDArray[np.uint64],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    state: NDArray[np.int64],
) -> int:
    """Decode EVT 2.1 words into columns with room for what `count_evt21` counts; return how many it wrote.

    The others lie beyond the largest column. The time is as in `decode_evt2`.
    """
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
    """Count the events of EVT 3 words, shape (N,): single ones and the bits of the vectors."""
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
def decode_evt3(
    words: NDArray[np.uint16],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    state: NDArray[np.int64],
) -> int:
    """Decode EVT 3 words into columns with room for what `count_evt3` counts; return how many it wrote.

    The others lie beyond the largest column. The upper 12 bits of the time wrap as in `decode_evt2`; the lower 12 stay
    as they are until the next word that names them, so that a time may step back for a moment.
    """
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
