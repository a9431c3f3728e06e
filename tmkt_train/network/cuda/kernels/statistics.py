"""Batch statistics per stream and step, and the update of the running statistics."""

from __future__ import annotations

import triton
import triton.language as tl

from tmkt_train.network.cuda.kernels.lanes import lane_channels


@triton.jit
def tile_statistics(
    values,
    partial,
    num_rows,
    num_groups,
    span,
    plane,
    T: tl.constexpr,
    C: tl.constexpr,
    FOLD: tl.constexpr,
    BLOCK: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Write mean and sum of squared deviations of each tile and lane; sums are centered before they are squared.

    Args:
        values: Shape (T, S P, C).
        partial: Written: shape (S T, tiles, 2, LANES), float32 or float64.
        num_rows: Rows P of a stream.
        num_groups: Groups of FOLD rows.
        span: Groups of a tile; program (tile, s T + t, block of channels).
        plane: Values of a step.
    """
    tile, step, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    wide: tl.constexpr = partial.dtype.element_ty
    sub, _, valid = lane_channels(block, C, FOLD, BLOCK)
    lane = block * BLOCK + tl.arange(0, BLOCK)
    start = tile * span
    end = tl.minimum(start + span, num_groups)
    count = tl.maximum(tl.minimum(end, (num_rows - sub + FOLD - 1) // FOLD) - start, 0)
    count = tl.where(valid, count, 0)
    base = values + ((step % T) * plane + (step // T) * num_rows * C)
    row = tl.arange(0, UNROLL)

    group = start + row[:, None]
    flat = group * (FOLD * C) + lane[None, :]
    mask = (group < end) & valid[None, :] & (flat < num_rows * C)
    y = tl.load(base + flat, mask=mask, other=0.0).to(wide)
    pivot = tl.sum(y, axis=0) / tl.maximum(tl.minimum(count, UNROLL), 1).to(wide)
    total = tl.where(mask, y - pivot[None, :], 0.0)
    spread = total * total
    for first in range(start + UNROLL, end, UNROLL):
        group = first + row[:, None]
        flat = group * (FOLD * C) + lane[None, :]
        mask = (group < end) & valid[None, :] & (flat < num_rows * C)
        y = tl.load(base + flat, mask=mask, other=0.0).to(wide)
        away = tl.where(mask, y - pivot[None, :], 0.0)
        total += away
        spread += away * away
    moved = tl.sum(total, axis=0) / tl.maximum(count, 1).to(wide)
    squares = tl.sum(spread, axis=0) - moved * moved * count.to(wide)
    lanes = tl.num_programs(2) * BLOCK
    out = partial + (step * tl.num_programs(0) + tile) * 2 * lanes + lane
    tl.store(out, pivot + moved)
    tl.store(out + lanes, tl.maximum(squares, 0.0))


@triton.jit
def combine_statistics(
    partial,
    mean,
    variance,
    inverse,
    num_rows,
    num_groups,
    span,
    num_tiles,
    C: tl.constexpr,
    FOLD: tl.constexpr,
    LANES: tl.constexpr,
    PARTS: tl.constexpr,
    WIDTH: tl.constexpr,
    EPS: tl.constexpr,
):
    """Combine the tiles of each (stream, step) in float64, in a fixed order; program (s T + t, block of channels).

    Args:
        partial: See `tile_statistics`.
        mean: Written: shape (S T, C).
        variance: Written: biased, shape (S T, C).
        inverse: Written: 1 / sqrt(variance + eps), shape (S T, C).
        num_rows: Rows P of a stream.
        num_groups: Groups of FOLD rows.
        span: Groups of a tile.
        num_tiles: Number of tiles.
    """
    step = tl.program_id(0)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    part = tl.arange(0, PARTS)
    first_moment = tl.full((PARTS, WIDTH), 0.0, tl.float64)
    second_moment = tl.full((PARTS, WIDTH), 0.0, tl.float64)
    for start in range(0, num_tiles * FOLD, PARTS):
        tile, sub = (start + part) // FOLD, (start + part) % FOLD
        end = tl.minimum(tile * span + span, num_groups)
        count = tl.maximum(tl.minimum(end, (num_rows - sub + FOLD - 1) // FOLD) - tile * span, 0)
        mask = (tile < num_tiles)[:, None] & (channel < C)[None, :]
        source = partial + (step * num_tiles + tile)[:, None] * (2 * LANES) + (sub * C)[:, None] + channel[None, :]
        n = count.to(tl.float64)[:, None]
        m = tl.load(source, mask=mask, other=0.0).to(tl.float64)
        squares = tl.load(source + LANES, mask=mask, other=0.0).to(tl.float64)
        first_moment += n * m
        second_moment += squares + n * m * m
    total = tl.sum(first_moment, axis=0)
    center = total / num_rows
    spread = tl.maximum(tl.sum(second_moment, axis=0) - total * center, 0.0) / num_rows
    out = step * C + channel
    tl.store(mean + out, center.to(mean.dtype.element_ty), mask=channel < C)
    tl.store(variance + out, spread.to(mean.dtype.element_ty), mask=channel < C)
    tl.store(inverse + out, (1.0 / tl.sqrt(spread + EPS)).to(mean.dtype.element_ty), mask=channel < C)


@triton.jit
def update_running(
    mean,
    variance,
    inverse,
    running_mean,
    running_var,
    other_mean,
    other_var,
    num_batches,
    num_counted,
    num_rows,
    S: tl.constexpr,
    T: tl.constexpr,
    C: tl.constexpr,
    IS_FUSED: tl.constexpr,
    HAS_COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    MOMENTUM: tl.constexpr,
    EPS: tl.constexpr,
):
    """Update the running statistics, stream after stream and step after step; with IS_FUSED, join the steps first.

    Args:
        mean: Shape (S T, C); with IS_FUSED written: the same for all steps of a stream.
        variance: Biased, shape (S T, C); likewise.
        inverse: Shape (S T, C); likewise.
        running_mean: Updated by stream 0: shape (C,).
        running_var: Updated by stream 0: shape (C,).
        other_mean: Updated by stream 1: shape (C,); may be `running_mean`.
        other_var: Updated by stream 1: shape (C,); may be `running_var`.
        num_batches: Number of updates so far, int64, shape (); `num_counted` is added.
        num_counted: Updates of the set that is counted.
        num_rows: Values per stream, step and channel.
    """
    channel = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    mask = channel < C
    wide: tl.constexpr = mean.dtype.element_ty
    for s in tl.static_range(S):
        to_mean, to_var = running_mean, running_var
        if s == 1:
            to_mean, to_var = other_mean, other_var
        means, variances = (), ()
        for t in tl.static_range(T):
            at = (s * T + t) * C + channel
            means = means + (tl.load(mean + at, mask=mask, other=0.0).to(tl.float64),)
            variances = variances + (tl.load(variance + at, mask=mask, other=0.0).to(tl.float64),)
        new_mean = tl.load(to_mean + channel, mask=mask, other=0.0).to(tl.float64)
        new_var = tl.load(to_var + channel, mask=mask, other=0.0).to(tl.float64)
        if IS_FUSED:
            center = tl.full((WIDTH,), 0.0, tl.float64)
            spread = tl.full((WIDTH,), 0.0, tl.float64)
            for t in tl.static_range(T):
                center += means[t] / T
            for t in tl.static_range(T):
                away = means[t] - center
                spread += (variances[t] + away * away) / T
            count = num_rows.to(tl.float64) * T
            new_mean += MOMENTUM * (center - new_mean)
            new_var += MOMENTUM * (spread * (count / (count - 1.0)) - new_var)
            for t in tl.static_range(T):
                at = (s * T + t) * C + channel
                tl.store(mean + at, center.to(wide), mask=mask)
                tl.store(variance + at, spread.to(wide), mask=mask)
                tl.store(inverse + at, (1.0 / tl.sqrt(spread + EPS)).to(wide), mask=mask)
        else:
            count = num_rows.to(tl.float64)
            for t in tl.static_range(T):
                new_mean += MOMENTUM * (means[t] - new_mean)
                new_var += MOMENTUM * (variances[t] * (count / (count - 1.0)) - new_var)
        tl.store(to_mean + channel, new_mean.to(wide), mask=mask)
        tl.store(to_var + channel, new_var.to(wide), mask=mask)
    if HAS_COUNT and tl.program_id(0) == 0:
        tl.store(num_batches, tl.load(num_batches) + num_counted)
