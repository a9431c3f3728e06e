"""The table of a comparison in words, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tmkt_train.experiments.table import GroupRow

_NAME = 26


def comparison_lines(groups: Sequence[GroupRow]) -> Iterator[str]:
    """Yield the table, in percent and percentage points; a star marks accuracies that are optimistic.

    Args:
        groups: Recipes and shares; those of the baseline first.
    """
    yield f"  {'recipe':<{_NAME}} {'share':>6} {'n':>2} {'test accuracy':>14}  difference, 95 % interval"
    for group in groups:
        num = f"{group.spread.num}"
        cells = f"  {_shortened(group.recipe):<{_NAME}} {100 * group.share:>5.3g}% {num:>2} {_accuracy(group):>14}"
        yield f"{cells}  {_difference(group)}".rstrip()


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _accuracy(group: GroupRow) -> str:
    mean, sd = group.spread.mean, group.spread.sd
    if mean is None:
        return "failed"
    star = "*" if group.optimistic else ""
    return f"{100 * mean:.1f}{star}" + ("" if sd is None else f" ± {100 * sd:.1f}")


def _difference(group: GroupRow) -> str:
    difference = group.difference
    if difference is None:
        return "baseline"
    if difference.mean is None:
        return "no common seed"
    mean = f"{100 * difference.mean:+.1f}"
    if difference.interval is None:
        return mean
    low, high = (100 * end for end in difference.interval)
    return f"{mean} [{low:+.1f}, {high:+.1f}]"
