"""What the kernels share: which channels lanes belong to, parameters of all steps, and the charges of the neurons."""

from __future__ import annotations

import triton
import triton.language as tl

from tmkt_train.network.neurons import THRESHOLD

LEAST = tl.constexpr(THRESHOLD)


@triton.jit
def lane_channels(block, C: tl.constexpr, FOLD: tl.constexpr, BLOCK: tl.constexpr):
    """Return row within the group, channel, and whether there is one, shape (BLOCK,) each."""
    lane = tl.arange(0, BLOCK)
    if FOLD > 1:
        return lane // C, lane % C, lane < FOLD * C
    return lane * 0, block * BLOCK + lane, block * BLOCK + lane < C


@triton.jit
def load_steps(source, first, channel, valid, T: tl.constexpr, C: tl.constexpr):
    """Return rows `first` to `first + T` of (.., C) as a tuple."""
    steps = ()
    for t in tl.static_range(T):
        steps = steps + (tl.load(source + (first + t) * C + channel, mask=valid, other=0.0),)
    return steps


@triton.jit
def load_all(source, offset, mask, plane, T: tl.constexpr):
    """Return the values of all steps as a tuple.

    Kernels load everything that they need of a group before they store anything: no load may overtake a store.
    """
    steps = ()
    for t in tl.static_range(T):
        steps = steps + (tl.load(source + offset + t * plane, mask=mask, other=0.0),)
    return steps


@triton.jit
def charge(values, mean, inverse, weight, bias, T: tl.constexpr, HAS_NORM: tl.constexpr, WIDE: tl.constexpr):
    """Return the charges h of all steps, from rest: x = weight (y - mean) inverse + bias; h = v + (x - v) / 2."""
    charges = ()
    v = tl.full(values[0].shape, 0.0, WIDE)
    for t in tl.static_range(T):
        x = values[t].to(WIDE)
        if HAS_NORM:
            x = weight * ((x - mean[t]) * inverse[t]) + bias
        h = v + (x - v) * 0.5
        charges = charges + (h,)
        v = tl.where(h >= LEAST, 0.0, h)
    return charges
