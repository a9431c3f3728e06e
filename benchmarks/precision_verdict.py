"""Accuracies of precisions over seeds beside those of tf32: means, paired differences, and a verdict in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tmkt_train.experiments.table import Difference, paired_difference
from tmkt_train.report.statistics import Spread, spread

_BASELINE = "tf32"
_FAST = ("float16", "bfloat16")
_LEAST_SEEDS = 3


class Beside(NamedTuple):
    """Accuracy of a precision over seeds, and its difference from tf32, seed by seed; None for tf32 itself."""

    accuracy: Spread
    difference: Difference | None

    @property
    def text(self) -> str:
        """Mean, standard deviation, number of seeds, difference and interval, in percent."""
        difference = "" if self.difference is None else f"   {self.difference.text}"
        return f"{self.accuracy.in_percent():<14} {self.accuracy.num:>3} {_seeds(self.accuracy.num)}{difference}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as it is written to JSON."""
        known = {**self.accuracy._asdict(), "text": self.accuracy.in_percent()}
        if self.difference is None:
            return known
        mean, interval = self.difference.mean, self.difference.interval
        return {**known, "difference": mean, "interval": interval, "difference_text": self.difference.text}


def beside_tf32(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, Beside]:
    """Return what each precision reaches beside tf32.

    Args:
        rows: Of each training its `precision`, its `seed` and accuracies.
        key: Which accuracy, in [0, 1].
    """
    by_seed: dict[str, dict[int, float]] = {}
    for row in rows:
        by_seed.setdefault(row["precision"], {})[row["seed"]] = row[key]
    tf32 = by_seed.get(_BASELINE, {})
    return {
        precision: Beside(
            spread(list(values.values())), None if precision == _BASELINE else paired_difference(values, tf32)
        )
        for precision, values in by_seed.items()
    }


def verdict(found: Mapping[str, Beside]) -> str:
    """Say which fast precisions differ from tf32 by no more than the standard deviation of its seeds, in the mean."""
    differences = {name: found[name].difference for name in _FAST if name in found}
    means = {
        name: one.mean
        for name, one in differences.items()
        if one is not None and one.mean is not None and len(one.by_seed) >= _LEAST_SEEDS
    }
    sd = found[_BASELINE].accuracy.sd if _BASELINE in found else None
    if sd is None or not means:
        return f"no verdict: it takes {_LEAST_SEEDS} seeds of tf32 and of a fast precision"
    inside = [name for name, mean in means.items() if abs(mean) <= sd]
    outside = [name for name in means if name not in inside]
    parts = [f"{' and '.join(names)} {where}" for names, where in ((inside, "within"), (outside, "outside")) if names]
    return f"{', '.join(parts)} the spread of tf32 over seeds, {100 * sd:.1f} points"


def _seeds(number: int) -> str:
    return "seed" if number == 1 else "seeds"
