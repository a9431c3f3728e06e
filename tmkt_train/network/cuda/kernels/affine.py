"""The gradient of weight and bias of a norm, from the sums of tiles."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def combine_gradient(
    partial,
    sums,
    num_tiles,
    size,
    C: tl.constexpr,
    FOLD: tl.constexpr,
    LANES: tl.constexpr,
    PARTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Add the tiles of each (stream, step) in float64, in a fixed order; program (s T + t, block of channels).

    Args:
        partial: See `gradient_sums`.
        sums: Written: shape (2, S T, C).
        num_tiles: Number of tiles.
        size: S T C.
    """
    step = tl.program_id(0)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    part = tl.arange(0, PARTS)
    first = tl.full((PARTS, WIDTH), 0.0, tl.float64)
    second = tl.full((PARTS, WIDTH), 0.0, tl.float64)
    for start in range(0, num_tiles * FOLD, PARTS):
        tile, sub = (start + part) // FOLD, (start + part) % FOLD
        mask = (tile < num_tiles)[:, None] & (channel < C)[None, :]
        source = partial + (step * num_tiles + tile)[:, None] * (2 * LANES) + (sub * C)[:, None] + channel[None, :]
        first += tl.load(source, mask=mask, other=0.0).to(tl.float64)
        second += tl.load(source + LANES, mask=mask, other=0.0).to(tl.float64)
    out = sums + step * C + channel
    tl.store(out, tl.sum(first, axis=0).to(sums.dtype.element_ty), mask=channel < C)
    tl.store(out + size, tl.sum(second, axis=0).to(sums.dtype.element_ty), mask=channel < C)


@triton.jit
def affine_gradient(
    sums,
    weight_grad,
    bias_grad,
    num_rows,
    size,
    S: tl.constexpr,
    T: tl.constexpr,
    C: tl.constexpr,
    IS_FUSED: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Write the gradients of weight and bias, and turn sums into means over what the statistics were taken of.

    Args:
        sums: Changed: shape (2, S T, C).
        weight_grad: Written: shape (C,).
        bias_grad: Written: shape (C,).
        num_rows: Values per stream, step and channel.
        size: S T C.
    """
    channel = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    mask = channel < C
    wide: tl.constexpr = sums.dtype.element_ty
    for which in tl.static_range(2):
        everything = tl.full((WIDTH,), 0.0, tl.float64)
        for s in tl.static_range(S):
            found = ()
            total = tl.full((WIDTH,), 0.0, tl.float64)
            for t in tl.static_range(T):
                one = tl.load(sums + which * size + (s * T + t) * C + channel, mask=mask, other=0.0).to(tl.float64)
                found = found + (one,)
                total += one
            everything += total
            for t in tl.static_range(T):
                share = found[t]
                if IS_FUSED:
                    share = total / T
                out = sums + which * size + (s * T + t) * C + channel
                tl.store(out, (share / num_rows).to(wide), mask=mask)
        if which == 0:
            tl.store(bias_grad + channel, everything.to(wide), mask=mask)
        else:
            tl.store(weight_grad + channel, everything.to(wide), mask=mask)
