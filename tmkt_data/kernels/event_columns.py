"""Event columns: the one argument in which kernels take events, and into which decoders write them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A plain tuple: numba takes several microseconds longer to recognize a named one at each call.
EventColumns = tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.bool_]]
"""Times in microseconds, columns, rows and polarities (True is ON), contiguous, shape (N,) each."""


def empty_columns(num_events: int) -> EventColumns:
    """Allocate columns for a decoder to write to."""
    return (
        np.empty(num_events, np.int64),
        np.empty(num_events, np.uint16),
        np.empty(num_events, np.uint16),
        np.empty(num_events, np.bool_),
    )


def first_events(columns: EventColumns, count: int) -> EventColumns:
    """Return views of the first `count` events."""
    t, x, y, p = columns
    return t[:count], x[:count], y[:count], p[:count]
