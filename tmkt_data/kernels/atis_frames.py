"""ATIS bytes straight into count frames: no columns in between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel
from tmkt_data.kernels.pack import pack_counts, pack_halves
from tmkt_data.kernels.spread import spread
from tmkt_data.kernels.words import word_at

_EVENT = np.uint64(5)
_ONE = np.uint64(1)
_TIME = np.uint32(0x7FFFFF)
_LINE = np.uint32(23)
_SIGN = np.uint32(31)
_PERIOD = 160
"""Bytes that are compared at once: whole events, and whole vectors."""
EXTENT_ROOM = (2, _PERIOD)
"""Shape of the room that `atis_extent` takes."""
_UNROLLED = 4


@kernel
def atis_extent(data: NDArray[np.uint8], room: NDArray[np.uint8]) -> tuple[int, int, int, int, int, int]:
    """Return the smallest and largest coordinates of ATIS events, and the times of the first and last in file order.

    Args:
        data: Whole events of 5 bytes, shape (5 N,), N at least 1.
        room: Overwritten: shape `EXTENT_ROOM`, uint8.

    Returns:
        (x_first, y_first, x_last, y_last, t_first, t_last).
    """
    # Every byte is compared with those a multiple of 5 away, in vectors; what is no coordinate is left out at the end.
    low, high = room[0], room[1]
    low[:], high[:] = 255, 0
    whole = data.size // (_UNROLLED * _PERIOD)
    parts = data[: whole * _UNROLLED * _PERIOD].reshape(whole, _UNROLLED, _PERIOD)
    for part in range(whole):
        for i in range(_PERIOD):
            least, most = low[i], high[i]
            for k in range(_UNROLLED):
                least, most = min(least, parts[part, k, i]), max(most, parts[part, k, i])
            low[i], high[i] = least, most
    for at in range(whole * _UNROLLED * _PERIOD, data.size):
        low[at % _PERIOD], high[at % _PERIOD] = min(low[at % _PERIOD], data[at]), max(high[at % _PERIOD], data[at])
    t_first = word_at(data, _ONE) & _TIME
    t_last = word_at(data, np.uint64(data.size) - np.uint64(4)) & _TIME
    return (
        int(low[::5].min()),
        int(low[1::5].min()),
        int(high[::5].max()),
        int(high[1::5].max()),
        int(t_first),
        int(t_last),
    )


@kernel
def first_from(data: NDArray[np.uint8], first: int, time: int) -> int:
    """Return the first event from number `first` on that is at `time` or later; N where there is none.

    Times must not step back from there on.
    """
    last = data.size // 5
    while first < last:
        middle = (first + last) >> 1
        if np.int64(word_at(data, _EVENT * np.uint64(middle) + _ONE) & _TIME) >= time:
            last = middle
        else:
            first = middle + 1
    return first


@kernel
def count_bin(
    data: NDArray[np.uint8],
    first: int,
    last: int,
    column: NDArray[np.uint32],
    line: NDArray[np.uint32],
    base: int,
    out: NDArray[np.uint32],
) -> int:
    """Count the events of one bin; arguments as in `count_atis`.

    Args:
        data: Whole events of 5 bytes.
        first: Number of the first event of the bin.
        last: Number behind its last event.
        column: Column of each x, shape (256,).
        line: Where the line of each y and polarity begins, shape (512,), indexed by 2 y + p.
        base: Where the frames of the bin begin.
        out: Added to.

    Returns:
        1 where time steps back, at the first event compared to the one before it, else 0.
    """
    backwards = np.uint32(0)
    previous = np.uint32(0) if first == 0 else word_at(data, _EVENT * np.uint64(first) - np.uint64(4)) & _TIME
    offset = np.uint64(base)
    for at in range(_EVENT * np.uint64(first), _EVENT * np.uint64(last), _EVENT):
        word = word_at(data, at + _ONE)
        time = word & _TIME
        # Times have 23 bits, so a difference below zero shows in the topmost; one look at the end costs no branch here.
        backwards |= np.uint32(time - previous)
        previous = time
        out[offset + np.uint64(line[word >> _LINE]) + np.uint64(column[data[at]])] += np.uint32(1)
    return int(backwards >> _SIGN)


@kernel
def is_backwards(data: NDArray[np.uint8], first: int, last: int) -> int:
    """Return 1 where time steps back among events `first` to `last`, exclusive, or from the one before; else 0."""
    backwards = np.uint32(0)
    previous = np.uint32(0) if first == 0 else word_at(data, _EVENT * np.uint64(first) - np.uint64(4)) & _TIME
    for at in range(_EVENT * np.uint64(first), _EVENT * np.uint64(last), _EVENT):
        time = word_at(data, at + _ONE) & _TIME
        backwards |= np.uint32(time - previous)
        previous = time
    return int(backwards >> _SIGN)


@kernel
def count_atis(
    data: NDArray[np.uint8],
    edges: NDArray[np.int64],
    column: NDArray[np.uint32],
    line: NDArray[np.uint32],
    out: NDArray[np.uint32],
) -> tuple[int, int]:
    """Count events per bin, polarity and target cell.

    Args:
        data: Whole events of 5 bytes, shape (5 N,).
        edges: Bin edges, shape (T + 1,), int64, non-decreasing.
        column: Column of the frame of each x, shape (256,).
        line: Where its line of the frame begins, OFF before ON, of each y and polarity, shape (512,): at 2 y + p.
            Every sum with a column must lie inside a bin.
        out: Written to: shape (T * 2 * H * W,), uint32.

    Returns:
        Events in a bin, and whether time steps back, 1 or 0. Where it does, the counts mean nothing.
    """
    out[:] = 0
    slab = out.size // (edges.size - 1)
    start = first_from(data, 0, edges[0])
    backwards = is_backwards(data, 0, start)
    at = start
    for k in range(edges.size - 1):
        until = first_from(data, at, edges[k + 1])
        backwards |= count_bin(data, at, until, column, line, k * slab, out)
        at = until
    return at - start, backwards | is_backwards(data, at, data.size // 5)


@kernel
def store_atis(
    data: NDArray[np.uint8],
    edges: NDArray[np.int64],
    column: NDArray[np.uint32],
    line: NDArray[np.uint32],
    out: NDArray[np.uint32],
    stored: NDArray[np.uint8],
) -> tuple[int, int, int]:
    """Count as `count_atis` does, and pack the counts into `stored` as `pack_counts` does; return what both return."""
    counted, backwards = count_atis(data, edges, column, line, out)
    return counted, backwards, pack_counts(out, stored)


@kernel
def store_atis_weighted(
    data: NDArray[np.uint8],
    edges: NDArray[np.int64],
    column: NDArray[np.uint32],
    line: NDArray[np.uint32],
    grid: NDArray[np.uint32],
    x_start: NDArray[np.int32],
    x_place: NDArray[np.int32],
    x_weight: NDArray[np.float32],
    y_start: NDArray[np.int32],
    y_place: NDArray[np.int32],
    y_weight: NDArray[np.float32],
    row: NDArray[np.float32],
    out: NDArray[np.float32],
    stored: NDArray[np.uint16],
) -> tuple[int, int, float]:
    """Count events per bin on the sampled pixels, weigh the counts into target cells, and pack those as `pack_halves`.

    Args:
        data: As in `count_atis`.
        edges: As in `count_atis`.
        column: Column of the grid of each x, shape (256,).
        line: Where its line of the grid begins, of each y and polarity, shape (512,).
        grid: Room for the counts of one bin, shape (2, Y, X), uint32; the last row and column take what is not sampled.
        x_start: Taps of the columns, see `kernels.resize.Taps`.
        x_place: Taps of the columns.
        x_weight: Taps of the columns.
        y_start: Taps of the rows.
        y_place: Taps of the rows.
        y_weight: Taps of the rows.
        row: Room for one row of the grid, shape (X,), float32.
        out: Written to: shape (T, 2, H, W), float32.
        stored: Written to: shape (T * 2 * H * W,), uint16.

    Returns:
        As `count_atis`, and the largest value of a cell.
    """
    flat = grid.reshape(-1)
    start = first_from(data, 0, edges[0])
    backwards = is_backwards(data, 0, start)
    at = start
    for k in range(edges.size - 1):
        until = first_from(data, at, edges[k + 1])
        flat[:] = 0
        backwards |= count_bin(data, at, until, column, line, 0, flat)
        spread(grid, x_start, x_place, x_weight, y_start, y_place, y_weight, row, out[k])
        at = until
    backwards |= is_backwards(data, at, data.size // 5)
    return at - start, backwards, pack_halves(out.reshape(-1), stored)
