"""How close simulated recordings come to real ones of the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tmkt_data.events.events import Events, SensorSize

NUM_BINS = 10
PROFILE_US = 10_000

Real = TypeVar("Real", np.float32, np.float64)


class Closeness(NamedTuple):
    """Simulated beside real recordings of the same images.

    Attributes:
        num_recordings: Number of recordings on each side.
        real_events: Median number of events of the real ones.
        simulated_events: Median number of events of the simulated ones.
        real_on: Share of ON events of the real ones.
        simulated_on: Share of ON events of the simulated ones.
        own_map: Correlation of the events per pixel with those of the own recording, mean over recordings.
        other_map: The same with the recordings of other images; NaN for one recording.
        own_frames: Correlation over 10 time bins, both polarities and all pixels with the own recording, mean.
        profile: Correlation of the mean number of events in each 10 ms.
        counts: Correlation of the numbers of events over recordings; NaN for fewer than three.
    """

    num_recordings: int
    real_events: float
    simulated_events: float
    real_on: float
    simulated_on: float
    own_map: float
    other_map: float
    own_frames: float
    profile: float
    counts: float


def compare(real: Sequence[Events], simulated: Sequence[Events], size: SensorSize, total_us: int) -> Closeness:
    """Compare simulated recordings with real ones of the same images.

    Args:
        real: Real recordings, times from 0.
        simulated: Simulated ones, in the same order.
        size: Width and height of the sensor.
        total_us: Duration of the path; later events are in the last bin.
    """
    frames = [np.stack([count_frames(events, size, total_us) for events in side]) for side in (real, simulated)]
    maps = standardized(frames[0].sum(axis=(1, 2))) @ standardized(frames[1].sum(axis=(1, 2))).T
    counts = np.array([[len(events) for events in side] for side in (real, simulated)], np.float64)
    real_on, simulated_on = (
        sum(int(events.p.sum()) for events in side) / max(1, sum(map(len, side))) for side in (real, simulated)
    )
    real_median, simulated_median = (float(median) for median in np.median(counts, axis=1))
    profiles = np.stack([rate_profile(side, total_us) for side in (real, simulated)])
    is_own = np.eye(len(real), dtype=bool)
    return Closeness(
        len(real),
        real_median,
        simulated_median,
        real_on,
        simulated_on,
        float(maps[is_own].mean()),
        float(maps[~is_own].mean()) if len(real) > 1 else float("nan"),
        float((standardized(frames[0]) * standardized(frames[1])).sum(axis=1).mean()),
        _correlation(profiles),
        _correlation(counts) if len(real) > 2 else float("nan"),
    )


def count_frames(events: Events, size: SensorSize, total_us: int) -> NDArray[np.float64]:
    """Return events per time bin, polarity and pixel, shape (NUM_BINS, 2, H, W)."""
    shape = NUM_BINS, 2, size.height, size.width
    bins = np.clip(events.t * NUM_BINS // total_us, 0, NUM_BINS - 1)
    cells = ((bins * 2 + events.p) * size.height + events.y) * size.width + events.x
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)


def rate_profile(recordings: Sequence[Events], total_us: int) -> NDArray[np.float64]:
    """Return the mean number of events per recording in each 10 ms of the path."""
    edges = np.arange(max(2, total_us // PROFILE_US) + 1) * PROFILE_US
    return np.asarray(np.mean([np.histogram(events.t, edges)[0] for events in recordings], axis=0), np.float64)


def standardized(stack: NDArray[Real]) -> NDArray[Real]:
    """Bring each row to mean 0 and norm 1, so that a dot product is Pearson's correlation; constant rows become 0.

    Args:
        stack: Shape (N, ...), float32 or float64.

    Returns:
        Shape (N, cells), of the same type.

    Example:
        >>> standardized(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])).round(2).tolist()
        [[-0.71, 0.71, 0.0], [0.0, 0.0, 0.0]]
    """
    flat = stack.reshape(len(stack), -1)
    centered: NDArray[Real] = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    np.divide(centered, norms, out=centered, where=norms > 0)
    return centered


def _correlation(rows: NDArray[np.float64]) -> float:
    left, right = standardized(rows)
    return float(left @ right)
