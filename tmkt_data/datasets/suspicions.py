"""What looks wrong with the recordings of a set that decode well: once per set, with counts and examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.source_table import Source
from tmkt_data.events.plausibility import FEWEST_EVENTS, LARGEST_SHARE, LONGEST_US, SHORTEST_US, STRAY_TIMES, percent
from tmkt_data.events.read import ARRAY_SUFFIXES
from tmkt_data.spec import PrepareSpec

FAR_FROM_MEDIAN = 10
"""A duration more than this many times longer or shorter than the median is suspicious."""
_FEWEST_RECORDINGS = 3


class RecordingTimes(NamedTuple):
    """What the recordings of a set hold, shape (N,) each.

    Attributes:
        duration_us: Time from the first event to the last.
        num_events: Kept events.
        largest_bin: Events of the time bin that has most of them.
        polarities: 1 for OFF events only, 2 for ON events only, 3 for both.
        num_other_streams: Events of other event streams of the same file, which are not read.
    """

    duration_us: NDArray[np.int64]
    num_events: NDArray[np.int64]
    largest_bin: NDArray[np.int64]
    polarities: NDArray[np.int64]
    num_other_streams: NDArray[np.int64]


def suspicions(
    sources: Sequence[Source], times: RecordingTimes, catalogue: Catalogue, spec: PrepareSpec
) -> tuple[str, ...]:
    """Return what looks wrong with a set of recordings, one line a kind.

    Args:
        sources: The recordings.
        times: What each of them holds.
        catalogue: Their dataset.
        spec: How they are binned.
    """
    shown = _Shown(sources)
    is_judged = times.num_events >= FEWEST_EVENTS
    is_instant = is_judged & (times.duration_us == 0)
    share = times.largest_bin / np.maximum(times.num_events, 1)
    is_stretched = is_judged & ~is_instant & (share > LARGEST_SHARE) & (spec.time_bins > 1)
    lines = [
        shown.line(is_instant, "all events at one time", "check the column of the times"),
        shown.line(
            is_stretched,
            f"more than {LARGEST_SHARE:.0%} of their events in one of {spec.time_bins} time bins",
            f"{STRAY_TIMES}: prepare --time-range robust leaves them out"
            if spec.time_range == "whole"
            else STRAY_TIMES,
            [percent(value) for value in share[is_stretched][:1]],
        ),
    ]
    is_one_of_some = times.num_other_streams > 0
    lines.append(
        shown.line(
            is_one_of_some,
            "a second stream of events, which is not read",
            "stream in tmkt.toml chooses the one that is read"
            if catalogue.name == "folder"
            else "record each camera in a file of its own",
            [f"{count:,} events" for count in times.num_other_streams[is_one_of_some][:1].tolist()],
        )
    )
    for code, name in ((1, "OFF"), (2, "ON")):
        lines.append(
            shown.line(
                is_judged & (times.polarities == code), f"only {name} events", "check the column of the polarity"
            )
        )
    lines.append(_far(shown, times))
    if catalogue.reading.unit is None:
        where = "unit in tmkt.toml" if catalogue.name == "folder" else "--time-unit"
        lines.append(_of_another_unit(shown, times.duration_us, is_judged & ~is_stretched, where))
    return tuple(line for line in lines if line)


class _Shown(NamedTuple):
    sources: Sequence[Source]

    def line(self, chosen: NDArray[np.bool_], what: str, advice: str, values: Sequence[str] = ()) -> str:
        """Return a line about some of the recordings; empty for none of them."""
        num = int(np.count_nonzero(chosen))
        if not num:
            return ""
        example = self.sources[int(np.flatnonzero(chosen)[0])].id
        value = f" ({values[0]})" if values else ""
        verb = "has" if num == 1 else "have"
        return f"{num} of {len(self.sources)} recordings {verb} {what}, such as {example}{value}; {advice}"


def _far(shown: _Shown, times: RecordingTimes) -> str:
    if len(times.duration_us) < _FEWEST_RECORDINGS:
        return ""
    median = float(np.median(times.duration_us))
    is_far = (times.duration_us > FAR_FROM_MEDIAN * median) | (times.duration_us * FAR_FROM_MEDIAN < median)
    is_far &= times.num_events >= FEWEST_EVENTS
    return shown.line(
        is_far,
        f"a duration more than {FAR_FROM_MEDIAN} times longer or shorter than the median of {median / 1e6:g} s",
        "check the unit and the clock of their times",
        [f"{value / 1e6:g} s" for value in times.duration_us[is_far][:1].tolist()],
    )


def _of_another_unit(shown: _Shown, duration: NDArray[np.int64], is_judged: NDArray[np.bool_], where: str) -> str:
    is_odd = is_judged & (((duration < SHORTEST_US) & (duration > 0)) | (duration > LONGEST_US))
    for at in np.flatnonzero(is_odd).tolist():
        is_odd[at] = shown.sources[at].file.lower().endswith(ARRAY_SUFFIXES)
    odd = duration[is_odd]
    if not len(odd):
        return ""
    unit = "ms" if int(np.median(odd)) < SHORTEST_US else "ns"
    return shown.line(
        is_odd,
        "a strange duration when their times are microseconds",
        f"if they are {unit}, say so ({where})",
        [f"{int(odd[0]) / 1e6:g} s"],
    )
