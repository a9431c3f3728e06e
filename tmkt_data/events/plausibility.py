"""Recordings that decode well and still look wrong: their times and polarities."""

from __future__ import annotations

from tmkt_data.events.summary import RecordingSummary

LARGEST_SHARE = 0.9
"""Share of the events in one time bin above which a few stray times have probably stretched the others together."""
FEWEST_EVENTS = 10
"""Recordings with fewer events are not judged."""
SHORTEST_US = 1_000
LONGEST_US = 100_000_000
"""Recordings of one sample last longer and shorter; integer times without a unit are then probably none of
microseconds."""
STRAY_TIMES = "a few stray times, such as those of an earlier clock, probably stretch the time"


def summary_warnings(summary: RecordingSummary, *, is_unit_open: bool = False) -> list[str]:
    """Return what looks wrong with a recording, one line each.

    Args:
        summary: The recording.
        is_unit_open: Whether its integer times were taken for microseconds because nothing says what they are.
    """
    num_events, duration_us = summary.num_events, summary.duration_us
    if num_events < FEWEST_EVENTS:
        return []
    found: list[str] = []
    share = max(summary.events_per_step) / num_events
    is_stretched = share > LARGEST_SHARE
    if not duration_us:
        found.append(f"all {num_events:,} events have one time, expected a span of time; check the column of the times")
    elif is_stretched:
        found.append(
            f"{percent(share)} of the events lie in one tenth of the time; {STRAY_TIMES}: prepare leaves them out with "
            "--time-range robust"
        )
    if not (summary.num_on and summary.num_off):
        found.append(f"all events are {'ON' if summary.num_on else 'OFF'}; check the column of the polarity")
    if is_unit_open and duration_us and not is_stretched and not SHORTEST_US <= duration_us <= LONGEST_US:
        unit = "ms" if duration_us < SHORTEST_US else "ns"
        found.append(
            f"it lasts {duration_us / 1e6:g} s as microseconds; if its times are {unit}, give --time-unit {unit}"
        )
    return found


def percent(share: float) -> str:
    """Return a share as text; only all of it is 100%.

    Example:
        >>> percent(0.99999), percent(1.0), percent(0.934)
        ('99.9%', '100%', '93.4%')
    """
    return "100%" if share >= 1 else f"{min(share, 0.999):.1%}"
