"""Edges of time bins: the rule `exact`, and those of two other libraries for comparison."""

from __future__ import annotations

from operator import index

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.spec import BIN_RULES, BinRule


def bin_edges(t_first: int, t_last: int, num_bins: int, rule: BinRule) -> NDArray[np.int64]:
    """Return the edges of the time bins of a recording; bin i holds the events with `edges[i] <= t < edges[i + 1]`.

    With span = t_last - t_first and w = span // num_bins:

    - `exact`: bin of t is `(t - t_first) * num_bins // (span + 1)`; every event lies in exactly one bin.
    - `tonic`: bins of width w; events from `t_first + num_bins * w` on lie in no bin, at least the last one.
    - `spikingjelly`: bins of width w, the last one runs to the last event; every event lies in one bin.

    Where span < num_bins, w is 0: under `tonic` every event is lost, under `spikingjelly` all are in the last bin.

    Args:
        t_first: Time of the first event, microseconds.
        t_last: Time of the last event, microseconds, not before `t_first`.
        num_bins: Number of bins, 1 or more.
        rule: Name of the rule.

    Returns:
        Edges, shape (num_bins + 1,), int64 microseconds, non-decreasing.

    Raises:
        SpecError: No bins, times that are not whole, time runs backwards, or an unknown rule.

    Example:
        >>> bin_edges(100, 109, 4, "exact").tolist()
        [100, 103, 105, 108, 110]
        >>> bin_edges(100, 109, 4, "tonic").tolist()
        [100, 102, 104, 106, 108]

    Source: tonic 1.7 `to_frame_numpy(n_time_bins=...)`, spikingjelly 2.0 `split_by="time"`, read as formulas.
    """
    try:
        # Integers of NumPy would overflow.
        t_first, t_last, num_bins = index(t_first), index(t_last), index(num_bins)
    except TypeError:
        raise SpecError(
            f"time bins: found {num_bins!r} from {t_first!r} to {t_last!r}, expected whole numbers, times in "
            "microseconds"
        ) from None
    if num_bins < 1:
        raise SpecError(f"time bins: found {num_bins}, expected 1 or more")
    if t_last < t_first:
        raise SpecError(f"time bins: the last event at {t_last} us lies before the first at {t_first} us")
    span = t_last - t_first
    width = span // num_bins
    match rule:
        case "exact":
            edges = [t_first + -(-i * (span + 1) // num_bins) for i in range(num_bins + 1)]
        case "tonic":
            edges = [t_first + i * width for i in range(num_bins + 1)]
        case "spikingjelly":
            edges = [*(t_first + i * width for i in range(num_bins)), t_last + 1]
        case _:
            raise SpecError(f"bin rule: found {rule!r}, expected one of {', '.join(BIN_RULES)}")
    return np.array(edges, dtype=np.int64)
