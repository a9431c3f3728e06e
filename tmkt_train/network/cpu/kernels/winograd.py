"""3 x 3 convolutions with padding 1 by Winograd's F(2 x 2, 3 x 3): 16 products in place of 36.

A tile of 2 x 2 outputs needs 4 x 4 inputs. With B, G, A of the source, y = A' [(G w G') * (B' x B)] A. The product is a
matrix product over the channels at each of the 16 positions; the gradients are the transposed maps. Pixels outside the
frame are 0. Frames are (F, H, W C); transformed arrays are (16, tile rows, tiles C), the tiles of a row side by side.

Source:
    Lavin and Gray, CVPR 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

Floats = NDArray[np.floating[Any]]


@kernel
def _add(out: Floats, a: Floats, b: Floats) -> None:
    for e in range(out.size):
        out[e] = a[e] + b[e]


@kernel
def _subtract(out: Floats, a: Floats, b: Floats) -> None:
    for e in range(out.size):
        out[e] = a[e] - b[e]


@kernel
def _copy(out: Floats, a: Floats) -> None:
    for e in range(out.size):
        out[e] = a[e]


@kernel
def _negate(out: Floats, a: Floats) -> None:
    for e in range(out.size):
        out[e] = -a[e]


@kernel
def transform_input(
    frames: Floats,
    place: NDArray[np.int64],
    num_channels: int,
    rows: Floats,
    zeros: Floats,
    out: Floats,
    first: int,
    last: int,
) -> None:
    """Compute B' x B of all tiles of some tile rows.

    Args:
        frames: Shape (F', H, W C).
        place: Index in `frames` of each of the F frames, shape (F,).
        num_channels: C.
        rows: Scratch, shape (4, (2 tiles + 2) C), zero in the first column and from column W + 1 on.
        zeros: Shape (W C,).
        out: Written: shape (16, F tile rows, tiles C).
        first: First tile row.
        last: Tile row to stop before.
    """
    height, length = frames.shape[1], frames.shape[2]
    n = num_channels
    per_frame = (height + 1) // 2
    tiles = out.shape[2] // n
    for row in range(first, last):
        frame = frames[place[row // per_frame]]
        i = 2 * (row % per_frame)
        above = frame[i - 1] if i > 0 else zeros
        upper = frame[i]
        lower = frame[i + 1] if i + 1 < height else zeros
        below = frame[i + 2] if i + 2 < height else zeros
        inside = slice(n, n + length)
        _subtract(rows[0, inside], above, lower)
        _add(rows[1, inside], upper, lower)
        _subtract(rows[2, inside], lower, upper)
        _subtract(rows[3, inside], upper, below)
        for q in range(4):
            for j in range(tiles):
                line = rows[q, 2 * j * n : (2 * j + 4) * n]
                a, b, c, d = line[:n], line[n : 2 * n], line[2 * n : 3 * n], line[3 * n :]
                tile = slice(j * n, (j + 1) * n)
                _subtract(out[4 * q, row, tile], a, c)
                _add(out[4 * q + 1, row, tile], b, c)
                _subtract(out[4 * q + 2, row, tile], c, b)
                _subtract(out[4 * q + 3, row, tile], b, d)


@kernel
def restore_output(
    products: Floats,
    place: NDArray[np.int64],
    num_channels: int,
    rows: Floats,
    out: Floats,
    first: int,
    last: int,
) -> None:
    """Compute A' m A of all tiles of some tile rows.

    Args:
        products: m, shape (16, F tile rows, tiles C).
        place: Index in `out` of each of the F frames, shape (F,).
        num_channels: C.
        rows: Scratch, shape (4, tiles C).
        out: Written in those frames: shape (F', H, W C).
        first: First tile row.
        last: Tile row to stop before.
    """
    height = out.shape[1]
    n = num_channels
    width = out.shape[2] // n
    per_frame = (height + 1) // 2
    length = products.shape[2]
    for row in range(first, last):
        frame = out[place[row // per_frame]]
        i = 2 * (row % per_frame)
        for half in range(2):
            if i + half == height:
                break
            for q in range(4):
                line = rows[q]
                a, b, c = products[4 * half + q, row], products[4 + 4 * half + q, row], products[8 + 4 * half + q, row]
                if half == 0:
                    for e in range(length):
                        line[e] = a[e] + b[e] + c[e]
                else:
                    for e in range(length):
                        line[e] = a[e] - b[e] - c[e]
            r0, r1, r2, r3, line = rows[0], rows[1], rows[2], rows[3], frame[i + half]
            for j in range((width + 1) // 2):
                at, a_ = j * n, 2 * j * n
                for e in range(n):
                    line[a_ + e] = r0[at + e] + r1[at + e] + r2[at + e]
                if 2 * j + 1 < width:
                    for e in range(n):
                        line[a_ + n + e] = r1[at + e] - r2[at + e] - r3[at + e]


@kernel
def transform_gradient(
    grad: Floats,
    place: NDArray[np.int64],
    num_channels: int,
    rows: Floats,
    zeros: Floats,
    out: Floats,
    first: int,
    last: int,
) -> None:
    """Compute A g A' of all tiles of some tile rows: the transpose of `restore_output`.

    Args:
        grad: Gradient of the outputs g, shape (F', H, W C).
        place: Index in `grad` of each of the F frames, shape (F,).
        num_channels: C.
        rows: Scratch, shape (4, 2 tiles C), zero from column W on.
        zeros: Shape (W C,).
        out: Written: shape (16, F tile rows, tiles C).
        first: First tile row.
        last: Tile row to stop before.
    """
    height, length = grad.shape[1], grad.shape[2]
    n = num_channels
    per_frame = (height + 1) // 2
    tiles = out.shape[2] // n
    for row in range(first, last):
        frame = grad[place[row // per_frame]]
        i = 2 * (row % per_frame)
        upper = frame[i]
        lower = frame[i + 1] if i + 1 < height else zeros
        _copy(rows[0, :length], upper)
        _add(rows[1, :length], upper, lower)
        _subtract(rows[2, :length], upper, lower)
        _negate(rows[3, :length], lower)
        for q in range(4):
            for j in range(tiles):
                line = rows[q, 2 * j * n : (2 * j + 2) * n]
                a, b = line[:n], line[n:]
                tile = slice(j * n, (j + 1) * n)
                _copy(out[4 * q, row, tile], a)
                _add(out[4 * q + 1, row, tile], a, b)
                _subtract(out[4 * q + 2, row, tile], a, b)
                _negate(out[4 * q + 3, row, tile], b)


@kernel
def restore_gradient(
    products: Floats,
    place: NDArray[np.int64],
    num_channels: int,
    rows: Floats,
    zeros: Floats,
    out: Floats,
    first: int,
    last: int,
) -> None:
    """Compute B m B' of all tiles and add where they overlap: the transpose of `transform_input`.

    Args:
        products: m, shape (16, F tile rows, tiles C).
        place: Index in `out` of each of the F frames, shape (F,).
        num_channels: C.
        rows: Scratch, shape (4, (tiles + 2) C), zero in the first and the last column.
        zeros: Shape (tiles C,).
        out: Written in those frames: shape (F', H, W C).
        first: First tile row.
        last: Tile row to stop before.
    """
    height = out.shape[1]
    n = num_channels
    width = out.shape[2] // n
    per_frame = (height + 1) // 2
    length = products.shape[2]
    for row in range(first, last):
        frame = out[place[row // per_frame]]
        tile_row = row % per_frame
        i = 2 * tile_row
        for half in range(2):
            if i + half == height:
                break
            for q in range(4):
                line = rows[q]
                b, c = products[4 + q, row], products[8 + q, row]
                if half == 0:
                    a = products[12 + q, row]
                    d = products[12 + q, row - 1] if tile_row > 0 else zeros
                    for e in range(length):
                        line[n + e] = b[e] - c[e] + a[e] - d[e]
                else:
                    a = products[q, row]
                    d = products[q, row + 1] if tile_row + 1 < per_frame else zeros
                    for e in range(length):
                        line[n + e] = b[e] + c[e] - a[e] + d[e]
            r0, r1, r2, r3, line = rows[0], rows[1], rows[2], rows[3], frame[i + half]
            for j in range((width + 1) // 2):
                at, a_ = (j + 1) * n, 2 * j * n
                for e in range(n):
                    line[a_ + e] = r1[at + e] - r2[at + e] + r3[at + e] - r3[at - n + e]
                if 2 * j + 1 < width:
                    for e in range(n):
                        line[a_ + n + e] = r1[at + e] + r2[at + e] - r0[at + e] + r0[at + n + e]
