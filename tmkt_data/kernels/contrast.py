"""Changes of log intensity: along a path that an image moves on, and from cell to cell.

Every step is one product, sum or difference of float32 numbers, so that machines and devices give the same bits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

CHANGES_PER_UNIT = 2048
"""Steps of a change: a change of log intensity by 1 is this."""
MAX_CHANGE = 8 * CHANGES_PER_UNIT
"""Largest change; what exceeds it is written as this."""

_ZERO = np.float32(0)
_HALF = np.float32(0.5)
_HALF_WORD, _LOW_HALF = np.uint32(16), np.uint32(0xFFFF)
_PER_UNIT = np.float32(CHANGES_PER_UNIT)

Values = NDArray[np.float32] | NDArray[np.int16] | NDArray[np.uint8]
Cells = NDArray[np.float32]
Scratch = tuple[Cells, Cells, Cells, NDArray[np.uint32]]
"""Working memory of one strip of R rows, see `path_frames`, and of the picture that it is cut from: `padded` and
`slopes`, shapes ((H + 2 M) P,), P = W + 2 M; `cells`, (6, (R - 1) P + W); `indices`, ((R - 1) P + W,)."""
Picture = tuple[Cells, Cells]
"""Levels of a padded image, row after row, and by how much the next exceeds each; shapes (N,)."""
View = tuple[np.uint64, np.uint64, np.float32, np.float32]
"""Where the first cell of a strip looks: at its upper left and lower left neighbors in a picture, and at those to the
right of each and below, with these shares."""
Place = tuple[int, int, int]  # First row of a strip; margin M and pitch P of the picture.
Levels = tuple[Cells, Cells, Cells, Cells]
"""What cells see at the end of a part, and at the ends of the last three; shapes (N,)."""


@kernel
def pad_levels(
    image: NDArray[np.uint8], levels: NDArray[np.float32], box: NDArray[np.int32], padded: NDArray[np.float32]
) -> None:
    """Write the levels of an image into the middle of a larger array, and those of the edges of `box` around it.

    Args:
        image: Shape (H, W), uint8.
        levels: Log intensity of each gray value, shape (256,), float32.
        box: Rows and columns that the image covers: top, bottom, left, right, int32; bottom and right exclusive.
        padded: Written to: shape (H + 2 M, W + 2 M), float32.
    """
    margin = (padded.shape[0] - image.shape[0]) // 2
    top, bottom, left, right = box
    for row in range(padded.shape[0]):
        source, line = image[min(max(row - margin, top), bottom - 1), left:right], padded[row]
        line[: margin + left] = levels[source[0]]
        line[margin + right :] = levels[source[-1]]
        inside = line[margin + left : margin + right]
        for column in range(inside.size):
            inside[column] = levels[source[column]]


@kernel
def _write_slopes(levels: Cells, slopes: Cells) -> None:
    for i in range(slopes.size - 1):
        slopes[i] = levels[i + 1] - levels[i]


@kernel
def _seen_from(step: NDArray[np.float32], place: Place) -> View:
    """Return where a strip sees an image that was moved by a step."""
    first, margin, pitch = place
    column, row = math.floor(-step[0]), math.floor(-step[1])
    upper, right = (margin + first + row) * pitch + margin + column, np.float32(-step[0] - np.float32(column))
    return np.uint64(upper), np.uint64(upper + pitch), right, np.float32(-step[1] - np.float32(row))


@kernel
def _between(near: np.float32, far: np.float32, share: np.float32) -> np.float32:
    return near + share * (far - near)


@kernel
def _level(picture: Picture, view: View, i: int) -> np.float32:
    """Return what a cell sees, between the columns of two rows and then between these rows.

    Places are unsigned: numba counts negative ones from the end, and such loops are not vectorized.
    """
    levels, slopes = picture
    upper, lower, right, down = view
    above, below = upper + np.uint64(i), lower + np.uint64(i)
    near, far = levels[above] + right * slopes[above], levels[below] + right * slopes[below]
    return _between(near, far, down)


@kernel
def _rise(before: np.float32, after: np.float32) -> np.float32:
    change = after - before
    return change if change > _ZERO else _ZERO


@kernel
def _see(picture: Picture, view: View, seen: Cells) -> None:
    """Write what the cells see; shape (N,)."""
    for i in range(seen.size):
        seen[i] = _level(picture, view, i)


@kernel
def _see_next(picture: Picture, view: View, seen: Cells, brighter: Cells) -> None:
    """Write what the cells see, and add by how much that exceeds what was seen before; shapes (N,)."""
    for i in range(seen.size):
        level = _level(picture, view, i)
        brighter[i] += _rise(seen[i], level)
        seen[i] = level


@kernel
def _see_last(picture: Picture, positions: Cells, place: Place, levels: Levels) -> Levels:
    """Write what the cells see at one to three positions into the last of `levels`; the others repeat them."""
    before, second, third, end = levels
    _see(picture, _seen_from(positions[-1], place), end)
    if len(positions) > 1:
        _see(picture, _seen_from(positions[-2], place), third)
    else:
        third = end
    if len(positions) > 2:
        _see(picture, _seen_from(positions[-3], place), second)
    else:
        second = third
    return before, second, third, end


@kernel
def _index_both(start: Cells, levels: Levels, brighter: Cells, index: NDArray[np.uint32], last: np.float32) -> None:
    """Write the index of what darkened since `start`, and in the upper half word that of what brightened; (N,).

    What brightened before `levels` is in `brighter`. Three parts are added up in one pass, which is as many as the
    compiler still vectorizes.
    """
    before, second, third, end = levels
    for i in range(index.size):
        up = brighter[i] + _rise(before[i], second[i]) + _rise(second[i], third[i]) + _rise(third[i], end[i])
        on = up * _PER_UNIT + _HALF
        off = (up - (end[i] - start[i])) * _PER_UNIT + _HALF
        off = off if off > _ZERO else _ZERO
        on, off = on if on < last else last, off if off < last else last
        index[i] = np.uint32(np.int32(on)) << _HALF_WORD | np.uint32(np.int32(off))


@kernel
def _see_difference(
    picture: Picture, view: View, both: tuple[Cells, Cells], index: NDArray[np.uint32], last: np.float32
) -> None:
    """Write what the cells see, and the index of the difference to the start, half of `last` for none; shapes (N,)."""
    start, end = both
    middle = last * _HALF + _HALF
    for i in range(end.size):
        level = _level(picture, view, i)
        at = (level - start[i]) * _PER_UNIT + middle
        end[i] = level
        at = at if at > _ZERO else _ZERO
        index[i] = np.uint32(np.int32(at if at < last else last))


@kernel
def _num_rows(num_cells: int, width: int, pitch: int) -> int:
    return (num_cells - width) // pitch + 1


@kernel
def _look_up(response: Values, index: NDArray[np.uint32], pitch: int, first: int, out: Values) -> None:
    """Write the values of a strip, whose rows begin each `pitch` cells, into rows `first` on of a frame, (C, H, W)."""
    # One channel after the other, so that memory is written in order.
    num_channels, height, width = out.shape
    num_rows, frame = _num_rows(index.size, width, pitch), out.reshape(out.size)
    for row in range(num_rows):
        source, target = np.uint64(row * pitch), np.uint64((first + row) * width)
        for i in range(width):
            frame[target + np.uint64(i)] = response[index[source + np.uint64(i)] & _LOW_HALF]
    if num_channels == 2:
        for row in range(num_rows):
            source, target = np.uint64(row * pitch), np.uint64((height + first + row) * width)
            for i in range(width):
                frame[target + np.uint64(i)] = response[index[source + np.uint64(i)] >> _HALF_WORD]


@kernel
def _blank(frame: Values, window: NDArray[np.int32], value: np.float32 | np.int16 | np.uint8) -> None:
    """Write a value to all cells outside a box."""
    top, bottom, left, right = window
    frame[:top] = value
    frame[bottom:] = value
    frame[top:bottom, :left] = value
    frame[top:bottom, right:] = value


@kernel
def _margin(path: Cells) -> int:
    farthest = _ZERO
    for step in path:
        farthest = max(farthest, abs(step[0]), abs(step[1]))
    return math.floor(farthest) + 1


@kernel
def _strip_frames(
    picture: Picture,
    path: Cells,
    place: Place,
    response: Values,
    scratch: tuple[Cells, NDArray[np.uint32]],
    out: Values,
) -> None:
    """Write a strip of rows, as many as `scratch` has room for, of frames of shape (T, C, H, W); see `path_frames`."""
    cells, indices = scratch
    num_bins, num_channels, height, width = out.shape
    first, _, pitch = place
    parts, last = (len(path) - 1) // num_bins, np.float32(response.size - 1)
    index = indices[: (min(_num_rows(indices.size, width, pitch), height - first) - 1) * pitch + width]
    num = index.size
    start, end, brighter, seen = cells[0, :num], cells[1, :num], cells[2, :num], cells[3, :num]
    brighter[:] = _ZERO
    _see(picture, _seen_from(path[0], place), start)
    for time_bin in range(num_bins):
        begin, final = time_bin * parts + 1, (time_bin + 1) * parts
        if num_channels == 1:
            _see_difference(picture, _seen_from(path[final], place), (start, end), index, last)
        else:
            before = start
            if parts > 3:
                before, seen[:], brighter[:] = seen, start, _ZERO
                for at in range(begin, final - 2):
                    _see_next(picture, _seen_from(path[at], place), seen, brighter)
            levels = before, cells[4, :num], cells[5, :num], end
            levels = _see_last(picture, path[max(begin, final - 2) : final + 1], place, levels)
            _index_both(start, levels, brighter, index, last)
        _look_up(response, index, pitch, first, out[time_bin])
        start, end = end, start


@kernel
def path_frames(
    images: NDArray[np.uint8],
    levels: NDArray[np.float32],
    places: tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]],
    response: Values,
    scratch: Scratch,
    out: Values,
) -> None:
    """Write how the log intensity changes in each time bin while an image moves along its path.

    Within a bin, changes between two positions are summed, those to darker and those to brighter apart. Two channels
    are what darkened (OFF) and what brightened (ON); one channel is their difference. An image is cut into strips of
    rows whose working memory stays in the cache of a core.

    Args:
        images: Shape (B, H, W), uint8.
        levels: Log intensity of each gray value, shape (256,), float32.
        places: Path of each image, shape (B, T S + 1, 2), float32: displacement to the right and down, in cells, less
            than M; its box, shape (B, 4), int32, see `pad_levels`; and the box outside of which frames are zero,
            shape (B, 4), int32.
        response: Value for each change, shape (K,), K at most 65536: of changes 0 to K - 1 for two channels, of
            -(K - 1) / 2 to (K - 1) / 2 for one, in 1 / `CHANGES_PER_UNIT`; the outermost ones stand for all beyond.
        scratch: Working memory; its size says how many rows are a strip.
        out: Written to: shape (B, T, C, H, W), of the type of `response`.
    """
    paths, boxes, windows = places
    padded, slopes, cells, indices = scratch
    num_bins, num_channels, height, width = out.shape[1:]
    zero = response[0 if num_channels == 2 else (response.size - 1) // 2]
    for sample in range(images.shape[0]):
        margin = _margin(paths[sample])
        rows, pitch = height + 2 * margin, width + 2 * margin
        picture = padded[: rows * pitch], slopes[: rows * pitch]
        pad_levels(images[sample], levels, boxes[sample], picture[0].reshape((rows, pitch)))
        _write_slopes(picture[0], picture[1])
        for first in range(0, height, _num_rows(indices.size, width, pitch)):
            place = first, margin, pitch
            _strip_frames(picture, paths[sample], place, response, (cells, indices), out[sample])
        top, bottom, left, right = windows[sample]
        if (bottom - top) * (right - left) < height * width:
            for time_bin in range(num_bins):
                for channel in range(num_channels):
                    _blank(out[sample, time_bin, channel], windows[sample], zero)


@kernel
def pooled_frames(changes: NDArray[np.int16], response: Values, is_signed: bool, out: Values) -> None:
    """Write a value for the mean change over squares of cells, rounded to the nearest step, halves up.

    Args:
        changes: Shape (N, K H, K W), int16, in 1 / `CHANGES_PER_UNIT`.
        response: Value for each change, as in `path_frames`.
        is_signed: Whether changes are signed, and no change is the middle of `response`.
        out: Written to: shape (N, H, W), of the type of `response`.
    """
    side = changes.shape[1] // out.shape[1]
    area, zero = side * side, (response.size - 1) // 2 if is_signed else 0
    for plane in range(out.shape[0]):
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                total = 0
                for i in range(side):
                    for j in range(side):
                        total += changes[plane, row * side + i, column * side + j]
                out[plane, row, column] = response[zero + (2 * total + area) // (2 * area)]


@kernel
def gradient_frames(
    images: NDArray[np.uint8],
    levels: NDArray[np.float32],
    places: tuple[NDArray[np.int32], NDArray[np.int32]],
    response: Values,
    scratch: tuple[NDArray[np.float32], NDArray[np.float64]],
    out: Values,
) -> None:
    """Write a value for the gradient magnitude of log intensity, smoothed by a 3 x 3 binomial filter.

    Args:
        images: Shape (B, H, W), uint8.
        levels: Log intensity of each gray value, shape (256,), float32.
        places: Box of each image, shape (B, 4), see `pad_levels`; and the box outside of which it is zero, shape
            (B, 4); int32.
        response: Value for each gradient, shape (K,), in 1 / `CHANGES_PER_UNIT` per cell; the last one stands for all
            beyond.
        scratch: `padded`, shape (H + 4, W + 4), float32; and `smooth`, shape (H + 2, W + 2), float64.
        out: Written to: shape (B, H, W), of the type of `response`.
    """
    boxes, windows = places
    padded, smooth = scratch
    last = response.size - 1
    for sample in range(images.shape[0]):
        pad_levels(images[sample], levels, boxes[sample], padded)
        for row in range(smooth.shape[0]):
            for column in range(smooth.shape[1]):
                total = 0.0
                for i in range(3):
                    for j in range(3):
                        total += (1 + (i & 1)) * (1 + (j & 1)) * float(padded[row + i, column + j])
                smooth[row, column] = total / 16
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                across = (smooth[row + 1, column + 2] - smooth[row + 1, column]) / 2
                along = (smooth[row + 2, column + 1] - smooth[row, column + 1]) / 2
                size = math.sqrt(across * across + along * along)
                out[sample, row, column] = response[min(math.floor(size * CHANGES_PER_UNIT + 0.5), last)]
        _blank(out[sample], windows[sample], response[0])
