"""Whether recordings fit their own images better than others of the class, over all of them and class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.reader import Cache
from tmkt_data.pairs.alignment import best_correlation, event_density, image_gradient, saccade_displacement
from tmkt_data.sample_ids import evenly_spaced

OTHERS_PER_RECORDING = 8
CONFIDENCE = 0.99
LEAST_RECORDINGS = 8
MOST_PER_CLASS, LEAST_PER_CLASS = 12, 4
MOST_CLASSES = 120
MOST_RECORDINGS = 96
MOST_SUSPECTS = 8
WEAK = 0.7
"""A share of others that a good pairing exceeds: real pairs of N-MNIST reach 0.9 and more."""
SUSPECT = 0.85
"""Classes below are looked at more closely; they are reported for other reasons only."""


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


class Scorer:
    """Correlates recordings of a cache with its images, as stored: density of events with gradient of intensity.

    Args:
        cache: The cache.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def scores(self, row: int, image_rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the correlation of a recording with images, motion compensated, best shift; shape (M,)."""
        frames = self._cache.event_frames(np.array([row]))[0]
        return best_correlation(event_density(frames, *self._motion(row)), self._gradients(image_rows))

    def own_and_others(
        self, row: int, image_rows: Sequence[int] | NDArray[np.int64]
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the correlation with the first image, without shift or compensation, and `scores` of them all."""
        frames, gradients = self._cache.event_frames(np.array([row]))[0], self._gradients(image_rows)
        as_cached = best_correlation(event_density(frames), gradients[:1], max_shift=0)[0]
        return float(as_cached), best_correlation(event_density(frames, *self._motion(row)), gradients)

    def _gradients(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        return image_gradient(self._cache.image_frames(rows))

    def _motion(self, row: int) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        cache = self._cache
        if cache.info.facts["motion"] != "saccade":
            return None, None
        first, last = (int(cache.tables[f"events/{name}"][row]) for name in ("t_first_us", "t_last_us"))
        spec = cache.spec
        middles = first + (np.arange(spec.time_bins) + 0.5) * (last - first) / spec.time_bins
        dx, dy = saccade_displacement(middles)
        width, height = cache.info.facts["sensor_size"]
        # With a tight canvas the scale differs per recording; that of the sensor is close enough for compensation.
        return dx * spec.size / width, dy * spec.size / height


def some_others(rows: NDArray[np.int64], own: int, at: int) -> NDArray[np.int64]:
    """Return up to 8 of the rows that are not `own`, other ones for another `at`."""
    others: NDArray[np.int64] = rows[rows != own]
    if len(others) <= OTHERS_PER_RECORDING:
        return others
    return np.roll(others, -at * OTHERS_PER_RECORDING)[:OTHERS_PER_RECORDING]


def share_below(own: float, others: NDArray[np.float64]) -> float | None:
    """Return the share of values below `own`, equal ones counting half; None if all are equal, or there are none.

    Where own and others are exchangeable, as in a shuffled pairing, its expected value is 0.5.

    Example:
        >>> share_below(0.5, np.array([0.1, 0.5, 0.9, 0.2]))
        0.625
    """
    if not len(others) or (others == own).all():
        return None
    return float((others < own).mean() + (others == own).mean() / 2)


def mean_share(shares: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Return the mean of shares with its t interval, clipped to 0 to 1; None for fewer than 2.

    Example:
        >>> mean_share([1.0, 1.0, 1.0])
        Interval(mean=1.0, low=1.0, high=1.0)
    """
    if len(shares) < 2:
        return None
    mean, deviation = float(np.mean(shares)), float(np.std(shares, ddof=1))
    half = _t_bound(len(shares) - 1, confidence) * deviation / len(shares) ** 0.5
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def _t_bound(degrees: int, confidence: float) -> float:
    """Return the bound that |t| of Student's distribution stays below with a probability.

    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4, the finite sums for whole degrees of freedom, solved by bisection.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(degrees, middle) < confidence else (low, middle)
    return math.tan(high) * math.sqrt(degrees)


def _t_within(degrees: int, angle: float) -> float:
    """Return the probability that |t| is below `tan(angle) * sqrt(degrees)`."""
    odd = degrees % 2
    factors = np.arange(2 + odd, degrees - 1, 2)
    terms = np.cumprod(np.cos(angle) ** 2 * (factors - 1) / factors)
    total = np.cos(angle) ** odd * (1 + terms.sum()) if degrees > 1 else 0.0
    return float(2 / math.pi * (angle + np.sin(angle) * total) if odd else np.sin(angle) * total)


@dataclass(frozen=True)
class SwappedClass:
    """A class whose recordings fit the images of another class.

    Attributes:
        name: The class.
        other: The class whose images its recordings fit.
        own_share: Share of other images of its class that fit its recordings worse than their twin; 0.5 by chance.
        other_share: The same for the image of equal stem in the other class, among the images of that class.
    """

    name: str
    other: str
    own_share: float
    other_share: float


class ClassFit(NamedTuple):
    """How the recordings of a cache fit their twins, class by class.

    Attributes:
        num_classes: Classes that were compared.
        overall: Mean share of other images of the class that fit worse than the twin, over all recordings that were
            compared, with its 99 % interval; None for fewer than 8.
        swapped: Classes whose images look swapped with those of another class.
    """

    num_classes: int
    overall: Interval | None
    swapped: tuple[SwappedClass, ...]


def fit_classes(cache: Cache) -> ClassFit:
    """Compare recordings with their twins class by class, and find classes that look swapped.

    A class is suspected if its recordings fit their twins hardly better than other images of the class. It is reported
    if they fit the images of equal stems in another class: better than most images there, and better than their twins,
    with an error probability of 1 % over all that is compared.

    Args:
        cache: The cache; up to 12 recordings of a class are compared, of up to 120 classes.

    Raises:
        CacheError: The frames cannot be read.
    """
    classes = _Classes(cache)
    shares = classes.own_shares()
    means = {label: float(np.mean(found)) for label, found in shares.items()}
    suspects = sorted((mean, label) for label, mean in means.items() if mean < SUSPECT)
    found = (classes.partner_of(label, mean, len(suspects)) for mean, label in suspects[:MOST_SUSPECTS])
    every = [share for of_class in shares.values() for share in of_class]
    overall = mean_share(every) if len(every) >= LEAST_RECORDINGS else None
    return ClassFit(len(shares), overall, tuple(swapped for swapped in found if swapped is not None))


class _Classes:
    def __init__(self, cache: Cache) -> None:
        self._cache, self._scorer = cache, Scorer(cache)
        self._twins = cache.tables["events/twin"]
        self._labels = cache.tables["images/label"].astype(np.int64)
        labels = cache.tables["events/label"][self._twins >= 0]
        counts = np.bincount(labels, minlength=len(cache.class_names))
        present = np.flatnonzero(counts >= LEAST_PER_CLASS)
        # A thousand classes would take minutes.
        step = -(-len(present) // MOST_CLASSES) or 1
        self._present = present[::step]

    @cached_property
    def _row_of_id(self) -> dict[str, int]:
        return {sample: row for row, sample in enumerate(self._cache.image_ids)}

    def own_shares(self) -> dict[int, list[float]]:
        """Return for each class how its recordings fit their twins among images of the class."""
        shares: dict[int, list[float]] = {}
        each = int(np.clip(MOST_RECORDINGS // max(1, len(self._present)), LEAST_PER_CLASS, MOST_PER_CLASS))
        if len(self._present) < 2:
            return shares
        for label in self._present.tolist():
            found = self._shares(self._rows(label, each), label, self._twins)
            if found:
                shares[label] = found
        return shares

    def partner_of(self, label: int, own_share: float, num_suspects: int) -> SwappedClass | None:
        """Return the class whose images the recordings of a class fit, if there is one."""
        rows = self._rows(label, MOST_PER_CLASS)
        candidates = {other: self._equal_stems(rows, other) for other in self._present.tolist() if other != label}
        candidates = {other: images for other, images in candidates.items() if len(images) >= LEAST_PER_CLASS}
        if not candidates:
            return None
        gaps: dict[int, list[float]] = {other: [] for other in candidates}
        for row in rows.tolist():
            others = [other for other, images in candidates.items() if row in images]
            scores = self._scorer.scores(row, [int(self._twins[row]), *(candidates[other][row] for other in others)])
            for other, score in zip(others, scores[1:].tolist(), strict=True):
                gaps[other].append(score - float(scores[0]))
        best = max(gaps, key=lambda other: float(np.mean(gaps[other])))
        images = np.full(len(self._twins), -1, np.int64)
        images[list(candidates[best])] = list(candidates[best].values())
        fit = mean_share(self._shares(np.array(list(candidates[best])), best, images), 0.998)
        # Of every class that could have been found, and every class that is asked for.
        gap = mean_share(gaps[best], 1 - 2 * (1 - CONFIDENCE) / (len(candidates) * num_suspects))
        if fit is None or gap is None or gap.low <= 0 or fit.low <= 0.5 or fit.mean < WEAK:
            return None
        names = self._cache.class_names
        return SwappedClass(names[label], names[best], own_share, fit.mean)

    def _rows(self, label: int, most: int) -> NDArray[np.int64]:
        rows = np.flatnonzero((self._twins >= 0) & (self._cache.tables["events/label"] == label))
        return rows[evenly_spaced(len(rows), most)]

    def _shares(self, rows: NDArray[np.int64], label: int, images: NDArray[np.int64]) -> list[float]:
        """Return how recordings fit the given image of each among images of a class."""
        pool = np.flatnonzero(self._labels == label)
        found: list[float | None] = []
        for at, row in enumerate(rows.tolist()):
            others = some_others(pool, int(images[row]), at)
            scores = self._scorer.scores(row, [int(images[row]), *others.tolist()])
            found.append(share_below(float(scores[0]), scores[1:]))
        return [share for share in found if share is not None]

    def _equal_stems(self, rows: NDArray[np.int64], other: int) -> dict[int, int]:
        """Return the row of the image of equal stem in another class, for the recordings that have one there."""
        name = self._cache.class_names[other]
        stems = ((row, self._cache.event_ids[row].partition("/")[2]) for row in rows.tolist())
        found = ((row, self._row_of_id.get(f"{name}/{stem}")) for row, stem in stems)
        return {row: image for row, image in found if image is not None}
