"""Scales of charts: where values fall, which values get a tick, how ticks are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MINUS = "\u2212"


@dataclass(frozen=True)
class Axis:
    """A scale from values to pixels.

    Attributes:
        low: Value at `start_px`.
        high: Value at `end_px`.
        start_px: Where the scale starts.
        end_px: Where it ends; smaller than `start_px` for an axis that runs up.
        ticks: Values to mark, with their labels.
        is_log: Whether equal distances are equal ratios.
    """

    low: float
    high: float
    start_px: float
    end_px: float
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Give the place of a value, in pixels."""
        low, high, at = self.low, self.high, value
        if self.is_log:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return self.start_px + (at - low) / (high - low) * (self.end_px - self.start_px)


def finite(values: Iterable[float]) -> list[float]:
    """Keep the values that are numbers."""
    return [v for v in values if math.isfinite(v)]


def linear_axis(
    values: Iterable[float],
    span_px: tuple[float, float],
    *,
    bounds: tuple[float | None, float | None] = (None, None),
    num_ticks: int = 5,
    whole: bool = False,
    snug: bool = False,
) -> Axis:
    """Make an axis with round ticks that covers values.

    Args:
        values: What it must cover; numbers that are not finite are passed over.
        span_px: Start and end.
        bounds: Ends that are fixed; None takes the end from the values, widened to a tick.
        num_ticks: About how many ticks.
        whole: Ticks on whole numbers only.
        snug: Keep the ends at the values instead of widening them to a tick.

    Returns:
        The axis.
    """
    known = finite(values) or [0.0, 1.0]
    low = min(known) if bounds[0] is None else bounds[0]
    high = max(known) if bounds[1] is None else bounds[1]
    if high <= low:
        margin = abs(low) / 2 or 0.5
        low, high = (low if bounds[0] is not None else low - margin), high + margin
    step = _round_step((high - low) / num_ticks)
    step = max(1.0, math.ceil(step)) if whole else step
    if not snug:
        low = low if bounds[0] is not None else math.floor(low / step + 1e-9) * step
        high = high if bounds[1] is not None else math.ceil(high / step - 1e-9) * step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = tuple((i * step, tick_label(i * step, step)) for i in range(first, last + 1))
    return Axis(low, high, *span_px, ticks)


def log_axis(values: Iterable[float], span_px: tuple[float, float]) -> Axis:
    """Make a logarithmic axis over positive values, with ticks at 1, or 1, 2 and 5, times powers of ten."""
    known = [v for v in finite(values) if v > 0]
    low, high = min(known) * 0.9, max(known) * 1.1
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    ticks = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
    return Axis(low, high, *span_px, tuple((t, tick_label(t, t)) for t in ticks), is_log=True)


def tick_label(value: float, step: float) -> str:
    """Write a tick with as many decimals as its step needs.

    Example:
        >>> tick_label(0.25, 0.05), tick_label(20000, 5000), tick_label(0.0004, 0.0002), tick_label(0, 0.1)
        ('0.25', '20,000', '4e-4', '0')
    """
    if value == 0:
        return "0"
    if step < 0.001:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("e-", f"e{MINUS}").replace(MINUS, "-")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return power * next(f for f in (1, 2, 5, 10) if raw / power <= f + 1e-9)


def spread_apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart so that none overlaps, in their order and by the least squares of the moves.

    Args:
        places: Wanted places, pixels, any order.
        gap: Least distance.
        low: Smallest place allowed.
        high: Largest place allowed, where there is room for all.

    Returns:
        Places in the order given.

    Example:
        >>> spread_apart([12.0, 10.0, 50.0], 10.0, 0.0, 60.0)
        [16.0, 6.0, 50.0]

    Source: isotonic regression by pooling adjacent violators (Ayer et al. 1955) of the places less k gaps.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    pools: list[tuple[float, int]] = []
    for k, i in enumerate(order):
        mean, size = places[i] - k * gap, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (other * count + mean * size) / (count + size), size + count
        pools.append((mean, size))
    moved = [mean for mean, size in pools for _ in range(size)]
    room = max(low, high - gap * (len(places) - 1))
    result = [0.0] * len(places)
    for k, i in enumerate(order):
        result[i] = min(max(moved[k], low), room) + k * gap
    return result
