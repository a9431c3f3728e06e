"""The gradient through neurons, pooling and norm: sums over the rows, and then the gradient of the values."""

from __future__ import annotations

import triton
import triton.language as tl

from tmkt_train.network.cuda.kernels.lanes import LEAST, charge, lane_channels, load_all, load_steps


@triton.jit
def _spike_offset(
    stream,
    row,
    channel,
    mask,
    num_rows,
    C: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    IS_POOLED: tl.constexpr,
):
    """Return where the gradient of a neuron's spikes lies, and whether it has one."""
    if not IS_POOLED:
        return (stream * num_rows + row) * C + channel, mask
    frame, place = row // (HEIGHT * WIDTH), row % (HEIGHT * WIDTH)
    i, j = place // WIDTH // 2, place % WIDTH // 2
    num_pooled = num_rows // (HEIGHT * WIDTH) * ((HEIGHT // 2) * (WIDTH // 2))
    pooled = (frame * (HEIGHT // 2) + i) * (WIDTH // 2) + j
    return (stream * num_pooled + pooled) * C + channel, mask & (i < HEIGHT // 2) & (j < WIDTH // 2)


@triton.jit
def _neuron_gradient(
    charges,
    grads,
    membranes,
    T: tl.constexpr,
    IS_TRIANGLE: tl.constexpr,
    IS_POOLED: tl.constexpr,
    HAS_SPIKES: tl.constexpr,
    HAS_MEMBRANES: tl.constexpr,
):
    """Return the gradient dx of the input of the neurons at all steps, from those of spikes g and potentials gv.

    With z = h - threshold and the surrogate g'(z):
    dh_t = g_t g'(z_t) + (gv_t + dh_{t+1} / 2) (1 - s_t), and dx_t = dh_t / 2.
    """
    found = ()
    later = tl.full(charges[0].shape, 0.0, charges[0].dtype)
    for i in tl.static_range(T):
        h = charges[T - 1 - i]
        if HAS_MEMBRANES:
            later += membranes[T - 1 - i].to(h.dtype)
        later = tl.where(h >= LEAST, 0.0, later)
        if HAS_SPIKES:
            z = tl.abs(h - LEAST)
            grad = grads[T - 1 - i].to(h.dtype)
            if IS_POOLED:
                grad = grad * 0.25
            if IS_TRIANGLE:
                later += grad * tl.maximum(2.0 - 4.0 * z, 0.0)
            else:
                later += tl.where(z < 0.5, grad, 0.0)
        later = later * 0.5
        found = (later,) + found
    return found


@triton.jit
def gradient_sums(
    values,
    spike_grad,
    membrane_grad,
    partial,
    mean,
    inverse,
    weight,
    bias,
    num_rows,
    num_groups,
    span,
    plane,
    spike_plane,
    T: tl.constexpr,
    C: tl.constexpr,
    FOLD: tl.constexpr,
    BLOCK: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    IS_TRIANGLE: tl.constexpr,
    IS_POOLED: tl.constexpr,
    HAS_SPIKES: tl.constexpr,
    HAS_MEMBRANES: tl.constexpr,
):
    """Write sums of dx and of dx (y - mean) inverse of each tile and lane; program (tile, stream, block of channels).

    Args:
        values: Input y of the norm, shape (T, S P, C).
        spike_grad: Gradient of the spikes, shape (T, S P, C), or of their averages, (T, S Q, C).
        membrane_grad: Gradient of the potentials after reset, shape (T, S P, C).
        partial: Written: shape (S T, tiles, 2, LANES).
        mean: Shape (S T, C).
        inverse: Shape (S T, C).
        weight: Shape (C,).
        bias: Shape (C,).
        num_rows: Rows P of a stream.
        num_groups: Groups of FOLD rows.
        span: Groups of a tile.
        plane: Values of a step.
        spike_plane: Values of a step of `spike_grad`.
    """
    tile, stream, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    wide: tl.constexpr = partial.dtype.element_ty
    sub, channel, valid = lane_channels(block, C, FOLD, BLOCK)
    means = load_steps(mean, stream * T, channel, valid, T, C)
    inverses = load_steps(inverse, stream * T, channel, valid, T, C)
    w = tl.load(weight + channel, mask=valid, other=0.0)
    b = tl.load(bias + channel, mask=valid, other=0.0)
    sums, products = (), ()
    for _ in tl.static_range(T):
        sums = sums + (tl.full((BLOCK,), 0.0, wide),)
        products = products + (tl.full((BLOCK,), 0.0, wide),)
    start = tile * span
    for group in range(start, tl.minimum(start + span, num_groups)):
        flat = group * (FOLD * C) + block * BLOCK + tl.arange(0, BLOCK)
        mask = valid & (flat < num_rows * C)
        offset = stream * num_rows * C + flat
        at, spike_mask = _spike_offset(stream, group * FOLD + sub, channel, mask, num_rows, C, HEIGHT, WIDTH, IS_POOLED)
        y = load_all(values, offset, mask, plane, T)
        grads, membranes = (), ()
        if HAS_SPIKES:
            grads = load_all(spike_grad, at, spike_mask, spike_plane, T)
        if HAS_MEMBRANES:
            membranes = load_all(membrane_grad, offset, mask, plane, T)
        h = charge(y, means, inverses, w, b, T, True, wide)
        d = _neuron_gradient(h, grads, membranes, T, IS_TRIANGLE, IS_POOLED, HAS_SPIKES, HAS_MEMBRANES)
        new_sums, new_products = (), ()
        for t in tl.static_range(T):
            new_sums = new_sums + (sums[t] + d[t],)
            new_products = new_products + (products[t] + d[t] * ((y[t].to(wide) - means[t]) * inverses[t]),)
        sums, products = new_sums, new_products
    lanes = tl.num_programs(2) * BLOCK
    for t in tl.static_range(T):
        out = partial + ((stream * T + t) * tl.num_programs(0) + tile) * 2 * lanes + block * BLOCK + tl.arange(0, BLOCK)
        tl.store(out, sums[t])
        tl.store(out + lanes, products[t])


@triton.jit
def input_gradient(
    values,
    spike_grad,
    membrane_grad,
    out,
    means_of_grad,
    mean,
    inverse,
    weight,
    bias,
    num_rows,
    num_groups,
    span,
    plane,
    spike_plane,
    size,
    T: tl.constexpr,
    C: tl.constexpr,
    FOLD: tl.constexpr,
    BLOCK: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    IS_TRIANGLE: tl.constexpr,
    IS_POOLED: tl.constexpr,
    HAS_SPIKES: tl.constexpr,
    HAS_MEMBRANES: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_STATISTICS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Write the gradient of the input of the norm; program (range of groups, stream, block of channels).

    dy = weight inverse (dx - mean of dx - x' mean of dx x') with x' = (y - mean) inverse; without batch statistics the
    means are 0.

    Args:
        values: Input y of the norm, shape (T, S P, C).
        spike_grad: Gradient of the spikes, shape (T, S P, C), or of their averages, (T, S Q, C).
        membrane_grad: Gradient of the potentials after reset, shape (T, S P, C).
        out: Written: shape (T, S P, C); may be `spike_grad` where that is not pooled.
        means_of_grad: See `affine_gradient`, shape (2, S T, C).
        mean: Shape (S T, C).
        inverse: Shape (S T, C).
        weight: Shape (C,).
        bias: Shape (C,).
        num_rows: Rows P of a stream.
        num_groups: Groups of FOLD rows.
        span: Groups of a program.
        plane: Values of a step.
        spike_plane: Values of a step of `spike_grad`.
        size: S T C.
    """
    stream, block = tl.program_id(1), tl.program_id(2)
    sub, channel, valid = lane_channels(block, C, FOLD, BLOCK)
    means, inverses, grads, products, w, b = (), (), (), (), 0.0, 0.0
    if HAS_NORM:
        means = load_steps(mean, stream * T, channel, valid, T, C)
        inverses = load_steps(inverse, stream * T, channel, valid, T, C)
        w = tl.load(weight + channel, mask=valid, other=0.0)
        b = tl.load(bias + channel, mask=valid, other=0.0)
    if HAS_STATISTICS:
        grads = load_steps(means_of_grad, stream * T, channel, valid, T, C)
        products = load_steps(means_of_grad + size, stream * T, channel, valid, T, C)
    start = tl.program_id(0) * span
    for group in range(start, tl.minimum(start + span, num_groups)):
        flat = group * (FOLD * C) + block * BLOCK + tl.arange(0, BLOCK)
        mask = valid & (flat < num_rows * C)
        offset = stream * num_rows * C + flat
        at, spike_mask = _spike_offset(stream, group * FOLD + sub, channel, mask, num_rows, C, HEIGHT, WIDTH, IS_POOLED)
        y = load_all(values, offset, mask, plane, T)
        grad, membranes = (), ()
        if HAS_SPIKES:
            grad = load_all(spike_grad, at, spike_mask, spike_plane, T)
        if HAS_MEMBRANES:
            membranes = load_all(membrane_grad, offset, mask, plane, T)
        h = charge(y, means, inverses, w, b, T, HAS_NORM, WIDE)
        d = _neuron_gradient(h, grad, membranes, T, IS_TRIANGLE, IS_POOLED, HAS_SPIKES, HAS_MEMBRANES)
        for t in tl.static_range(T):
            found = d[t]
            if HAS_STATISTICS:
                found = found - grads[t] - (y[t].to(WIDE) - means[t]) * inverses[t] * products[t]
            if HAS_NORM:
                found = found * (w * inverses[t])
            tl.store(out + offset + t * plane, found.to(out.dtype.element_ty), mask=mask)
