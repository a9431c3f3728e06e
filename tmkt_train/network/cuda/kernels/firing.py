"""Norm and neurons over all steps, with average pooling over 2 x 2 pixels where asked."""

from __future__ import annotations

import triton
import triton.language as tl

from tmkt_train.network.cuda.kernels.lanes import LEAST, charge, lane_channels, load_all, load_steps


@triton.jit
def fire(
    values,
    spikes,
    potentials,
    mean,
    inverse,
    weight,
    bias,
    num_rows,
    num_groups,
    span,
    plane,
    T: tl.constexpr,
    C: tl.constexpr,
    FOLD: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_SPIKES: tl.constexpr,
    KEEPS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Write the spikes with HAS_SPIKES, and with KEEPS the potentials after reset.

    A program has a range of groups of rows, a stream and a block of channels.

    Args:
        values: Input of the norm, shape (T, S P, C).
        spikes: Written: shape (T, S P, C).
        potentials: Written: shape (T, S P, C).
        mean: Shape (S T, C).
        inverse: Shape (S T, C).
        weight: Shape (C,).
        bias: Shape (C,).
        num_rows: Rows P of a stream.
        num_groups: Groups of FOLD rows.
        span: Groups of a program.
        plane: Values of a step.
    """
    stream, block = tl.program_id(1), tl.program_id(2)
    _, channel, valid = lane_channels(block, C, FOLD, BLOCK)
    means, inverses, w, b = (), (), 0.0, 0.0
    if HAS_NORM:
        means = load_steps(mean, stream * T, channel, valid, T, C)
        inverses = load_steps(inverse, stream * T, channel, valid, T, C)
        w = tl.load(weight + channel, mask=valid, other=0.0)
        b = tl.load(bias + channel, mask=valid, other=0.0)
    start = tl.program_id(0) * span
    for group in range(start, tl.minimum(start + span, num_groups)):
        flat = group * (FOLD * C) + block * BLOCK + tl.arange(0, BLOCK)
        mask = valid & (flat < num_rows * C)
        offset = stream * num_rows * C + flat
        y = load_all(values, offset, mask, plane, T)
        h = charge(y, means, inverses, w, b, T, HAS_NORM, WIDE)
        for t in tl.static_range(T):
            fires = h[t] >= LEAST
            if HAS_SPIKES:
                tl.store(spikes + offset + t * plane, fires.to(spikes.dtype.element_ty), mask=mask)
            if KEEPS:
                v = tl.where(fires, 0.0, h[t])
                tl.store(potentials + offset + t * plane, v.to(potentials.dtype.element_ty), mask=mask)


@triton.jit
def fire_and_pool(
    values,
    pooled,
    mean,
    inverse,
    weight,
    bias,
    num_rows,
    num_pooled,
    num_groups,
    span,
    plane,
    pooled_plane,
    T: tl.constexpr,
    C: tl.constexpr,
    FOLD: tl.constexpr,
    BLOCK: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    HAS_NORM: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Write the spikes averaged over 2 x 2 pixels; an odd last row or column is dropped.

    Args:
        values: Input of the norm, shape (T, S P, C).
        pooled: Written: shape (T, S Q, C).
        mean: Shape (S T, C).
        inverse: Shape (S T, C).
        weight: Shape (C,).
        bias: Shape (C,).
        num_rows: Rows P of a stream.
        num_pooled: Rows Q of a stream after pooling.
        num_groups: Groups of FOLD rows after pooling.
        span: Groups of a program.
        plane: Values of a step.
        pooled_plane: Values of a step after pooling.
    """
    stream, block = tl.program_id(1), tl.program_id(2)
    sub, channel, valid = lane_channels(block, C, FOLD, BLOCK)
    means, inverses, w, b = (), (), 0.0, 0.0
    if HAS_NORM:
        means = load_steps(mean, stream * T, channel, valid, T, C)
        inverses = load_steps(inverse, stream * T, channel, valid, T, C)
        w = tl.load(weight + channel, mask=valid, other=0.0)
        b = tl.load(bias + channel, mask=valid, other=0.0)
    start = tl.program_id(0) * span
    for group in range(start, tl.minimum(start + span, num_groups)):
        row = group * FOLD + sub
        mask = valid & (row < num_pooled)
        frame, place = row // ((HEIGHT // 2) * (WIDTH // 2)), row % ((HEIGHT // 2) * (WIDTH // 2))
        pixel = (frame * HEIGHT + 2 * (place // (WIDTH // 2))) * WIDTH + 2 * (place % (WIDTH // 2))
        offset = (stream * num_rows + pixel) * C + channel
        out = (stream * num_pooled + row) * C + channel
        number = ()
        for _ in tl.static_range(T):
            number = number + (tl.full((BLOCK,), 0, tl.int32),)
        for corner in tl.static_range(4):
            y = load_all(values, offset + (corner // 2 * WIDTH + corner % 2) * C, mask, plane, T)
            h = charge(y, means, inverses, w, b, T, HAS_NORM, WIDE)
            counted = ()
            for t in tl.static_range(T):
                counted = counted + (number[t] + (h[t] >= LEAST).to(tl.int32),)
            number = counted
        for t in tl.static_range(T):
            share = number[t].to(tl.float32) * 0.25
            tl.store(pooled + out + t * pooled_plane, share.to(pooled.dtype.element_ty), mask=mask)
