"""Number formats of the pages; None and NaN become None."""

from __future__ import annotations

import math

_THIN = "\u202f"
MINUS = "\u2212"


def percent(share: float | None, digits: int = 2) -> str | None:
    """Format a share in [0, 1] as percent, with a narrow space.

    Example:
        >>> percent(0.9361, 1).split()
        ['93.6', '%']
    """
    return None if share is None or math.isnan(share) else f"{100 * share:.{digits}f}{_THIN}%"


def points(difference: float | None) -> str | None:
    """Format a difference of shares in percentage points, with its sign."""
    return None if difference is None else f"{100 * difference:+.2f}".replace("-", MINUS)


def count(value: float | None) -> str | None:
    """Format a whole number with commas."""
    return None if value is None or math.isnan(value) else f"{value:,.0f}"


def decimal(value: float | None, digits: int = 4) -> str | None:
    """Format a number with `digits` significant digits; below a million, no integer digits are dropped.

    Example:
        >>> decimal(0.00012345), decimal(0.5), decimal(12345.6), decimal(1234567.0)
        ('0.0001234', '0.5', '12,346', '1.235e+06')
    """
    if value is None or math.isnan(value):
        return None
    return f"{value:,.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str | None:
    """Format a duration in its two largest units.

    Example:
        >>> duration(5025.0).split()
        ['1', 'h', '24', 'min']
    """
    if seconds is None or not math.isfinite(seconds):
        return None
    if seconds < 60:
        return f"{seconds:.1f}{_THIN}s"
    if round(seconds) < 3600:
        return f"{round(seconds) // 60}{_THIN}min {round(seconds) % 60}{_THIN}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{_THIN}h {minutes % 60}{_THIN}min"


def size(num_bytes: float | None) -> str | None:
    """Format a number of bytes in binary units."""
    if num_bytes is None or math.isnan(num_bytes):
        return None
    return f"{num_bytes / 2**30:.2f}{_THIN}GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f}{_THIN}MiB"
