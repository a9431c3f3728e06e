"""ATIS bytes straight into count frames, without event columns in between."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel
from tmkt_data.kernels.frames import Room, resample
from tmkt_data.kernels.pack import pack_counts, pack_halves
from tmkt_data.kernels.resize import Weights

Offsets = tuple[NDArray[np.uint32], NDArray[np.uint32]]
"""Column of the frame of each x, shape (256,), and where the line of each y and polarity begins in it, shape (512,), at
2 y + p. Every sum of both must lie inside the frame, which holds OFF before ON."""

_EVENT = np.uint64(5)
_ONE = np.uint64(1)
_TIME = np.uint32(0x7FFFFF)
_LINE = np.uint32(23)
_SIGN = np.uint32(31)
_ON = 128
"""The third byte of an ON event is not smaller."""
_PERIOD = 160
"""Bytes that are compared at once: a whole number of events and of vectors."""
EXTENT_ROOM = (2, _PERIOD)
"""Shape of the scratch array of `atis_extent`."""
_UNROLLED = 4


@intrinsic
def word_at(_context: Any, data: Any, at: Any) -> Any:  # noqa: ARG001 - its type is in the signature
    """Return the four bytes from `data[at]` on as one big-endian uint32.

    A single load; LLVM makes four of single bytes whose parts are used apart.

    Args:
        data: Contiguous bytes, uint8; `at + 3` is not checked to lie inside.
        at: Byte, uint64.
    """
    signature = numba.types.uint32(data, numba.types.uint64)

    def generate(context: Any, builder: Any, given: Any, values: Any) -> Any:
        array = context.make_array(given.args[0])(context, builder, values[0])
        pointer = builder.bitcast(builder.gep(array.data, [values[1]]), cgutils.int32_t.as_pointer())
        loaded = builder.load(pointer)
        loaded.align = 1
        return builder.bswap(loaded)

    return signature, generate


@kernel
def atis_extent(data: NDArray[np.uint8], room: NDArray[np.uint8]) -> tuple[int, int, int, int, int, int, int]:
    """Return smallest and largest coordinates, times of the first and last event in file order, and polarities.

    Args:
        data: Whole events of 5 bytes, shape (5 N,), N at least 1.
        room: Overwritten: shape `EXTENT_ROOM`, uint8.

    Returns:
        (x_first, y_first, x_last, y_last, t_first, t_last, polarities), the last 1 for OFF events only, 2 for ON events
        only, 3 for both.
    """
    # Every byte is compared with the bytes a multiple of 5 away, in vectors; only coordinates are used at the end.
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
        int(low[2::5].min() < _ON) | int(high[2::5].max() >= _ON) << 1,
    )


@kernel
def first_from(data: NDArray[np.uint8], first: int, time: int) -> int:
    """Return the first event from event `first` on with `time` or a later one; N without any.

    Times must be non-decreasing from there on.
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
    data: NDArray[np.uint8], first: int, last: int, offsets: Offsets, base: int, out: NDArray[np.uint32]
) -> int:
    """Count the events of one bin.

    Args:
        data: Whole events of 5 bytes.
        first: First event of the bin.
        last: Event behind its last one.
        offsets: See `Offsets`.
        base: Where the frames of the bin begin in `out`.
        out: Added to.

    Returns:
        1 where time steps back, also from the event before the first one, else 0.
    """
    column, line = offsets
    backwards = np.uint32(0)
    previous = np.uint32(0) if first == 0 else word_at(data, _EVENT * np.uint64(first) - np.uint64(4)) & _TIME
    offset = np.uint64(base)
    for at in range(_EVENT * np.uint64(first), _EVENT * np.uint64(last), _EVENT):
        word = word_at(data, at + _ONE)
        time = word & _TIME
        # Times have 23 bits, so a negative difference sets the topmost bit; looking once, at the end, saves a branch.
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
    data: NDArray[np.uint8], edges: NDArray[np.int64], offsets: Offsets, out: NDArray[np.uint32]
) -> tuple[int, int, int]:
    """Count events per bin, polarity and target cell.

    Args:
        data: Whole events of 5 bytes, shape (5 N,).
        edges: Bin edges, shape (T + 1,), int64, non-decreasing.
        offsets: See `Offsets`.
        out: Written to: shape (T * 2 * H * W,), uint32.

    Returns:
        Number of events in a bin, in the bin that has most of them, and 1 where time steps back, else 0. Where it does,
        the counts are wrong.
    """
    out[:] = 0
    slab = out.size // (edges.size - 1)
    start = first_from(data, 0, edges[0])
    backwards = is_backwards(data, 0, start)
    at = start
    most = 0
    for k in range(edges.size - 1):
        until = first_from(data, at, edges[k + 1])
        backwards |= count_bin(data, at, until, offsets, k * slab, out)
        most = max(most, until - at)
        at = until
    return at - start, most, backwards | is_backwards(data, at, data.size // 5)


@kernel
def store_atis(
    data: NDArray[np.uint8],
    edges: NDArray[np.int64],
    offsets: Offsets,
    out: NDArray[np.uint32],
    stored: NDArray[np.uint8],
) -> tuple[int, int, int, int]:
    """Count as `count_atis`, and pack the counts into `stored` as `pack_counts`; return what both return."""
    counted, most, backwards = count_atis(data, edges, offsets, out)
    return counted, most, backwards, pack_counts(out, stored)


@kernel
def store_atis_weighted(
    data: NDArray[np.uint8],
    edges: NDArray[np.int64],
    offsets: Offsets,
    taps: tuple[Weights, Weights],
    room: Room,
    out: NDArray[np.float32],
    stored: NDArray[np.uint16],
) -> tuple[int, int, int, float]:
    """Count events per bin on the sampled pixels, resample the counts to the target cells, and pack as `pack_halves`.

    Args:
        data: As in `count_atis`.
        edges: As in `count_atis`.
        offsets: As in `count_atis`, with the counts in `room` as the frame.
        taps: Taps of the columns and of the rows, see `kernels.resize.Taps`.
        room: See `frames.Room`; overwritten.
        out: Written to: shape (T, 2, H, W), float32.
        stored: Written to: shape (T * 2 * H * W,), uint16.

    Returns:
        As `count_atis`, and the largest value of a cell.
    """
    flat = room[0].reshape(-1)
    start = first_from(data, 0, edges[0])
    backwards = is_backwards(data, 0, start)
    at = start
    most = 0
    for k in range(edges.size - 1):
        until = first_from(data, at, edges[k + 1])
        most = max(most, until - at)
        flat[:] = 0
        backwards |= count_bin(data, at, until, offsets, 0, flat)
        resample(room, taps, out[k])
        at = until
    backwards |= is_backwards(data, at, data.size // 5)
    return at - start, most, backwards, pack_halves(out.reshape(-1), stored)
