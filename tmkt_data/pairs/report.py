"""Report on a pairing: label agreement, leaks of held-out images, alignment of twins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.pairs.alignment import best_correlation, event_density, image_gradient, saccade_displacement
from tmkt_data.pairs.paired_frames import PairedFrames

OTHERS_PER_RECORDING = 8


@dataclass(frozen=True)
class Alignment:
    """Alignment of recordings with images: mean correlation of event density with image gradient.

    Attributes:
        num_recordings: Recordings compared, evenly spaced over the cache.
        own: With the twin image, motion compensated, best shift of up to 3 cells.
        own_as_cached: With the twin image as stored in the cache: no shift, no motion compensation.
        same_class: With other images of the same class, computed like `own`.
        other_class: With images of other classes, computed like `own`.
        own_is_best: Share of recordings whose twin image scores higher than all others compared.

    A value is None if there was nothing to compare.
    """

    num_recordings: int
    own: float | None
    own_as_cached: float | None
    same_class: float | None
    other_class: float | None
    own_is_best: float | None


@dataclass(frozen=True)
class PairReport:
    """Report on one pairing of one split.

    Attributes:
        protocol: Name of the split rule.
        split: Name of the split.
        pairing: Name of the pairing.
        num_recordings: Recordings in the split.
        num_with_twin: Recordings in the split whose twin image is in the cache.
        pool_size: Images that may be drawn.
        smallest_pool: Images that may be drawn for the class with the fewest.
        label_agreement: Share of pairs in one epoch with equal labels; expected to be 1.
        num_reachable_heldout: Images that may be drawn but whose recording is in another split, where that is val or
            test; expected to be 0.
        twin_share: Share of pairs in one epoch that are twins.
        alignment: Alignment of twins; None if not requested or without twins.
    """

    protocol: str
    split: str
    pairing: str
    num_recordings: int
    num_with_twin: int
    pool_size: int
    smallest_pool: int
    label_agreement: float
    num_reachable_heldout: int
    twin_share: float
    alignment: Alignment | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return dataclasses.asdict(self)


def report_pairs(frames: PairedFrames, *, alignment: bool = False) -> PairReport:
    """Check every pair of the current epoch, and every image that could be drawn.

    Args:
        frames: Pairs of one split.
        alignment: Whether to measure alignment too, which takes a few seconds.
    """
    cache = frames.cache
    rows = frames.image_rows(np.arange(len(frames)), np.zeros(len(frames), np.int64))
    image_labels = cache.tables["images/label"].astype(np.int64)
    reachable = _reachable(frames)
    paired = rows >= 0
    agreement = float((image_labels[rows[paired]] == frames.labels[paired]).mean()) if paired.any() else 1.0
    pool_sizes = frames.pools.sizes()[np.unique(frames.labels)]
    return PairReport(
        protocol=frames.protocol,
        split=frames.split,
        pairing=frames.pairing,
        num_recordings=len(frames),
        num_with_twin=int((frames.twins >= 0).sum()),
        pool_size=len(reachable),
        smallest_pool=int(pool_sizes.min()) if frames.pairing == "same-class" else len(reachable),
        label_agreement=agreement,
        num_reachable_heldout=_count_heldout(cache, frames, reachable),
        twin_share=float((rows[paired] == frames.twins[paired]).mean()) if paired.any() else 0.0,
        alignment=measure_alignment(cache) if alignment else None,
    )


def _reachable(frames: PairedFrames) -> NDArray[np.int64]:
    match frames.pairing:
        case "same-class":
            present = np.zeros(frames.num_classes, bool)
            present[frames.labels] = True
            labels = frames.cache.tables["images/label"]
            return frames.pools.rows[present[labels[frames.pools.rows]]]
        case "twin":
            return np.unique(frames.twins)
        case "none":
            return np.zeros(0, np.int64)


def _count_heldout(cache: Cache, frames: PairedFrames, reachable: NDArray[np.int64]) -> int:
    codes = cache.splits("events", frames.protocol)
    twins = cache.tables["events/twin"]
    own = np.zeros(len(codes), bool)
    own[frames.rows] = True
    held_out = ((codes == SplitCode.VAL) | (codes == SplitCode.TEST)) & ~own & (twins >= 0)
    if frames.split != "train":
        held_out &= codes != codes[frames.rows[0]]
    return int(np.isin(twins[held_out], reachable).sum())


def measure_alignment(cache: Cache, max_recordings: int = 200) -> Alignment | None:
    """Compare recordings with their twin image and with others.

    Args:
        cache: The cache.
        max_recordings: Recordings to compare, evenly spaced over those with a twin.

    Returns:
        The mean correlations, or None if no recording has a twin.
    """
    twins = cache.tables["events/twin"]
    with_twin = np.flatnonzero(twins >= 0)
    if not len(with_twin):
        return None
    chosen = with_twin[np.unique(np.linspace(0, len(with_twin) - 1, max_recordings).astype(np.int64))]
    labels = cache.tables["images/label"]
    own: list[float] = []
    cached: list[float] = []
    same: list[float] = []
    other: list[float] = []
    best: list[bool] = []
    for at, row in enumerate(chosen.tolist()):
        image_row = int(twins[row])
        is_same = labels == labels[image_row]
        candidates = _some_others(np.flatnonzero(is_same), image_row, at)
        strangers = _some_others(np.flatnonzero(~is_same), image_row, at)
        gradients = _gradients(cache, np.concatenate([[image_row], candidates, strangers]))
        frames = cache.event_frames(np.array([row]))[0]
        scores = best_correlation(event_density(frames, *_motion(cache, row)), gradients)
        own.append(scores[0])
        cached.append(best_correlation(event_density(frames), gradients[:1], max_shift=0)[0])
        same.extend(scores[1 : 1 + len(candidates)])
        other.extend(scores[1 + len(candidates) :])
        if len(scores) > 1:
            best.append(bool((scores[0] > scores[1:]).all()))
    return Alignment(len(chosen), _mean(own), _mean(cached), _mean(same), _mean(other), _mean(best))


def _some_others(rows: NDArray[np.int64], own: int, at: int) -> NDArray[np.int64]:
    others: NDArray[np.int64] = rows[rows != own]
    if len(others) <= OTHERS_PER_RECORDING:
        return others
    return np.roll(others, -at * OTHERS_PER_RECORDING)[:OTHERS_PER_RECORDING]


def _gradients(cache: Cache, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.stack([image_gradient(frame) for frame in cache.image_frames(rows)])


def _motion(cache: Cache, row: int) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    if cache.info.facts["motion"] != "saccade":
        return None, None
    first, last = (int(cache.tables[f"events/{name}"][row]) for name in ("t_first_us", "t_last_us"))
    spec = cache.spec
    middles = first + (np.arange(spec.time_bins) + 0.5) * (last - first) / spec.time_bins
    dx, dy = saccade_displacement(middles)
    width, height = cache.info.facts["sensor_size"]
    # With a tight canvas the scale differs per recording; that of the sensor is close enough for compensation.
    return dx * spec.size / width, dy * spec.size / height


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
