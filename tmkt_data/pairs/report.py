"""Report on a pairing: label agreement, leaks of held-out images, alignment of twins."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.duplicates import NO_DUPLICATES, Duplicates, duplicates_in
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.pairs.class_fit import (
    LEAST_RECORDINGS,
    WEAK,
    Interval,
    Scorer,
    SwappedClass,
    fit_classes,
    mean_share,
    share_below,
    some_others,
)
from tmkt_data.pairs.near_duplicates import NearDuplicates, find_near_duplicates
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.pairs.verdicts import CacheTables, Verdict, contrast_verdicts, table_verdicts
from tmkt_data.sample_ids import evenly_spaced

LEAST_ROWS = 12
"""Rows of frames that show whether images fit: own images of N-MNIST beat 51 % of others at 8 x 8, 63 % at 12 x 12."""


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
        own_above_class: Mean share of the other images of the class that score lower than the twin image, with its
            99 % interval; of the other classes where a class has one image. In a shuffled pairing it is near 0.5.

    A value is None if there was nothing to compare.
    """

    num_recordings: int
    own: float | None
    own_as_cached: float | None
    same_class: float | None
    other_class: float | None
    own_is_best: float | None
    own_above_class: Interval | None = None


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
        duplicates: Samples of val and test whose content is in an earlier split too.
        near_duplicates: Images of val and test that nearly equal one of an earlier split; None if not requested.
        verdicts: Problems of these pairs, errors first; empty for none.
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
    duplicates: Duplicates = NO_DUPLICATES
    near_duplicates: NearDuplicates | None = None
    verdicts: tuple[Verdict, ...] = ()

    @property
    def looks_wrong(self) -> bool:
        """Whether a verdict is an error."""
        return any(verdict.severity == "error" for verdict in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        values = dataclasses.asdict(self)
        values["duplicates"] = self.duplicates._asdict()
        if self.alignment is not None and self.alignment.own_above_class is not None:
            values["alignment"]["own_above_class"] = self.alignment.own_above_class._asdict()
        return values


def report_pairs(frames: PairedFrames, *, alignment: bool = False, thorough: bool = False) -> PairReport:
    """Check every pair of the current epoch, and every image that could be drawn.

    Args:
        frames: Pairs of one split.
        alignment: Whether to measure alignment too, which takes a few seconds.
        thorough: Whether to look for near-duplicates, and with `alignment` for swapped classes, which takes as long
            again.
    """
    cache = frames.cache
    rows = frames.image_rows(np.arange(len(frames)), np.zeros(len(frames), np.int64))
    image_labels = cache.tables["images/label"].astype(np.int64)
    reachable = _reachable(frames)
    paired = rows >= 0
    agreement = float((image_labels[rows[paired]] == frames.labels[paired]).mean()) if paired.any() else 1.0
    pool_sizes = frames.pools.sizes()[np.unique(frames.labels)]
    measured = _measured_once(cache) if alignment else None
    num_heldout = _count_heldout(cache, frames, reachable)
    leaks = _leak_verdicts(frames, agreement, num_heldout)
    fits = [
        *_swap_verdicts(fit_classes(cache).swapped if alignment and thorough else ()),
        *_fit_verdicts(measured, cache.spec.size),
    ]
    known = [*table_verdicts(CacheTables.of(cache), frames.protocol), *contrast_verdicts(cache.tables, cache.info)]
    verdicts = [*leaks, *fits, *known]
    return PairReport(
        protocol=frames.protocol,
        split=frames.split,
        pairing=frames.pairing,
        num_recordings=len(frames),
        num_with_twin=int((frames.twins >= 0).sum()),
        pool_size=len(reachable),
        smallest_pool=int(pool_sizes.min()) if frames.pairing == "same-class" else len(reachable),
        label_agreement=agreement,
        num_reachable_heldout=num_heldout,
        twin_share=float((rows[paired] == frames.twins[paired]).mean()) if paired.any() else 0.0,
        alignment=measured,
        duplicates=duplicates_in(cache.tables, frames.protocol),
        near_duplicates=find_near_duplicates(cache, frames.protocol) if thorough else None,
        verdicts=tuple(sorted(verdicts, key=lambda verdict: verdict.severity != "error")),
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


def _leak_verdicts(frames: PairedFrames, agreement: float, num_heldout: int) -> list[Verdict]:
    found = []
    if agreement < 1:
        found.append(Verdict("error", f"{1 - agreement:.1%} of the pairs have two labels; prepare the cache again"))
    if num_heldout:
        text = f"{num_heldout} images of held-out recordings may be drawn for {frames.split}"
        # Asked for with another pool, to measure the effect.
        is_meant = frames.image_pool != "split"
        found.append(Verdict("warning" if is_meant else "error", f"{text}; accuracy on them is optimistic"))
    return found


def _fit_verdicts(alignment: Alignment | None, size: int) -> list[Verdict]:
    """Return whether the twins fit, from the interval of `own_above_class` in frames of `size` rows."""
    fit = None if alignment is None else alignment.own_above_class
    if alignment is None or fit is None or alignment.own is None or fit.low > 0.5:
        return []
    figures = _figures(fit)
    if size < LEAST_ROWS:
        text = f"cannot be told from frames of {size} x {size}: own images fit {figures}"
        more = f"prepare it with --size {LEAST_ROWS} or more to find out"
        return [Verdict("warning", f"whether the pairing is right {text}; {more}")]
    if alignment.num_recordings < LEAST_RECORDINGS or fit.high >= WEAK:
        return [Verdict("warning", f"whether the pairing is right cannot be told: own images fit {figures}")]
    others = alignment.same_class if alignment.same_class is not None else alignment.other_class
    return [_looks_wrong(f"{alignment.own:.3f} and {others:.3f}; {figures}")]


def _looks_wrong(figures: str) -> Verdict:
    return Verdict(
        "error",
        f"this pairing looks wrong: own images fit the recordings no better than others ({figures}); are names of one "
        "side mixed up, or is it rotated or mirrored (--orientation)? If equal names do not mean twins in a folder of "
        "your own: twins = 'none' in tmkt.toml",
    )


def content_verdicts(cache: Cache) -> tuple[Verdict, ...]:
    """Return what the frames say against the pairing, from a few recordings of each class; see `fit_classes`."""
    fit = fit_classes(cache)
    is_clear = fit.overall is not None and fit.overall.low <= 0.5 and fit.overall.high < WEAK
    if fit.swapped or fit.overall is None or not is_clear or cache.spec.size < LEAST_ROWS:
        return _swap_verdicts(fit.swapped)
    return (_looks_wrong(_figures(fit.overall)),)


def _figures(fit: Interval) -> str:
    return f"better than {fit.mean:.0%} of them, 99 % interval {fit.low:.0%} to {fit.high:.0%}, by chance 50 %"


def _swap_verdicts(swapped: Sequence[SwappedClass]) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(
            "error",
            f"the images of class {found.name} look misplaced: its recordings fit those of {found.other} of the same "
            f"names (better than {found.other_share:.0%} of that class), not their own ({found.own_share:.0%}, by "
            "chance 50 %); are two class folders of one side swapped?",
        )
        for found in swapped
    )


_MEASURED: dict[Hashable, Alignment | None] = {}


def _measured_once(cache: Cache) -> Alignment | None:
    """Return the alignment of a cache; in a process, the runs of a comparison ask for that of the same file."""
    if cache.identity not in _MEASURED:
        _MEASURED[cache.identity] = measure_alignment(cache)
    return _MEASURED[cache.identity]


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
    chosen = with_twin[evenly_spaced(len(with_twin), max_recordings)]
    labels = cache.tables["images/label"]
    scorer = Scorer(cache)
    own: list[float] = []
    cached: list[float] = []
    same: list[float] = []
    other: list[float] = []
    best: list[bool] = []
    shares: list[float | None] = []
    for at, row in enumerate(chosen.tolist()):
        image_row = int(twins[row])
        is_same = labels == labels[image_row]
        candidates = some_others(np.flatnonzero(is_same), image_row, at)
        strangers = some_others(np.flatnonzero(~is_same), image_row, at)
        as_cached, scores = scorer.own_and_others(row, np.concatenate([[image_row], candidates, strangers]))
        own.append(scores[0])
        cached.append(as_cached)
        same.extend(scores[1 : 1 + len(candidates)])
        other.extend(scores[1 + len(candidates) :])
        shares.append(share_below(scores[0], scores[1 : 1 + len(candidates)] if len(candidates) else scores[1:]))
        if len(scores) > 1:
            best.append(bool((scores[0] > scores[1:]).all()))
    fit = mean_share([share for share in shares if share is not None])
    return Alignment(len(chosen), _mean(own), _mean(cached), _mean(same), _mean(other), _mean(best), fit)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
