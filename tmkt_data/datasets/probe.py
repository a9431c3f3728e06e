"""A look at some recordings of a set that does not say its sensor's size or its unit of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import EventError
from tmkt_data.events.read import load_events

NUM_LOOKED_AT = 20
USUAL_SENSORS = ((128, 128), (240, 180), (304, 240), (346, 260), (640, 480))
_PLAUSIBLE_US = (1_000, 60_000_000)


def probe_notes(recordings: Sequence[Source], num: int = NUM_LOOKED_AT) -> str:
    """Decode some recordings, evenly spread over the set, and say what they span.

    Args:
        recordings: The set, one at least.
        num: Recordings to decode.

    Returns:
        One line: extent, the smallest usual sensor that holds it, median duration, and what looks odd.
    """
    chosen = [recordings[i] for i in np.unique(np.linspace(0, len(recordings) - 1, num).astype(int)).tolist()]
    extents, spans = [], []
    for source in chosen:
        try:
            events = load_events(source.path)
        except EventError:
            continue
        if len(events):
            extents.append(events.extent)
            spans.append(int(events.t[-1] - events.t[0]))
    if not extents:
        return f"of {len(chosen)} recordings looked at none can be read"
    x_min, y_min = (min(extent[side] for extent in extents) for side in (0, 1))
    x_max, y_max = (max(extent[side] for extent in extents) for side in (2, 3))
    holds = next((f"{w} x {h}" for w, h in USUAL_SENSORS if x_max < w and y_max < h), "none of the usual sensors")
    span = float(np.median(spans))
    odd = ""
    if x_min >= 1 and y_min >= 1:
        odd += "; no event in column 0 or row 0, maybe counted from 1 (--shift-x -1 --shift-y -1)"
    if not _PLAUSIBLE_US[0] <= span <= _PLAUSIBLE_US[1]:
        odd += "; that is no usual duration, check --time-unit"
    return (
        f"{len(extents)} recordings looked at: columns {x_min} to {x_max}, rows {y_min} to {y_max}, which {holds} "
        f"holds; median duration {span:,.0f} in microseconds{odd}"
    )
