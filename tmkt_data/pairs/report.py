"""What a pairing does: do labels agree, can a held-out image reach training, do twins lie on each other."""

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
    """How well recordings lie on images: mean correlation of event density with image gradient.

    Attributes:
        num_recordings: Recordings that were compared, spread evenly over the cache.
        own: With their own image, motion taken out, best shift of up to 3 cells.
        own_as_cached: With their own image as the two sides lie in the cache: no shift, motion left in.
        same_class: With other images of their class, as `own`.
        other_class: With images of other classes, as `own`.
        own_is_best: Share of recordings whose own image beats all others that were compared.

    A figure is None where there was nothing to compare with.
    """

    num_recordings: int
    own: float | None
    own_as_cached: float | None
    same_class: float | None
    other_class: float | None
    own_is_best: float | None


@dataclass(frozen=True)
class PairReport:
    """What one pairing of one split does.

    Attributes:
        protocol: Name of the split rule.
        split: Split that was looked at.
        pairing: Name of the pairing.
        num_recordings: Recordings of the split.
        num_with_twin: Recordings of the split whose own image is in the cache.
        pool_size: Images that may be drawn.
        smallest_pool: Images that may be drawn for the class that has fewest.
        label_agreement: Share of the pairs of one epoch whose labels agree; 1 when all is well.
        num_reachable_heldout: Images that may be drawn and whose recording is in another split than this one, with
            recordings in val or test; 0 when all is well.
        twin_share: Share of the pairs of one epoch that are a recording and its own image.
        alignment: How well twins lie on each other; None where it was not asked for or there is no twin.
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
    """Look at every pair of the current epoch, and at every image that could be drawn.

    Args:
        frames: Pairs of one split.
        alignment: Compare recordings with images as well; some seconds.
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
    """Compare recordings with their own image and with others.

    Args:
        cache: The cache.
        max_recordings: Recordings to compare, spread evenly over those that have a twin.

    Returns:
        The mean correlations, or None where no recording has a twin.
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
    # Under a tight canvas the scale differs per recording; the sensor's is close enough to take the motion out.
    return dx * spec.size / width, dy * spec.size / height


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
