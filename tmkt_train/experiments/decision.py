"""Decide between a few values of one setting by the validation accuracy of short runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tmkt_train.errors import RunError
from tmkt_train.experiments.search_space import Value
from tmkt_train.experiments.table import Difference, paired_difference
from tmkt_train.recipe.recipe import toml_value
from tmkt_train.report.statistics import Spread, spread

LEAST_RECORDINGS = 6
"""Recordings of difference: with five, even if all go in one direction, an exact sign test has p = 0.06.

Source: McNemar 1947, Psychometrika 12, 153-157.
"""


@dataclass(frozen=True)
class Stage:
    """One setting to decide on: the value that the recipe has, and those to try beside it."""

    title: str
    key: str
    own: Value
    others: tuple[Value, ...]

    @property
    def values(self) -> tuple[Value, ...]:
        """All values, that of the recipe first."""
        return (self.own, *self.others)


@dataclass(frozen=True)
class Tried:
    """One value that was trained, with validation accuracies by seed, in [0, 1]: of the last epoch and the selected.

    `difference` is that of the last epoch to the recipe's own value; None for this itself. `problem` says why a run
    failed.
    """

    value: Value
    last: Mapping[int, float]
    selected: Mapping[int, float]
    problem: str | None = None
    difference: Difference | None = field(default=None, compare=False)

    @property
    def words(self) -> str:
        """The value as text."""
        return self.value if isinstance(self.value, str) else toml_value(self.value)

    @property
    def last_spread(self) -> Spread:
        """Mean and standard deviation of the last epoch."""
        return spread(list(self.last.values()))

    @property
    def selected_spread(self) -> Spread:
        """Mean and standard deviation of the selected epoch."""
        return spread(list(self.selected.values()))


@dataclass(frozen=True)
class Decision:
    """The values that were tried in a stage, that of the recipe first, the one that was chosen, and why."""

    stage: Stage
    tried: tuple[Tried, ...]
    chosen: Tried
    reason: str

    @property
    def is_own(self) -> bool:
        """Whether the value of the recipe stays."""
        return self.chosen.value == self.stage.own


def decide(stage: Stage, tried: Sequence[Tried], num_val: int) -> Decision:
    """Choose a value by the last epoch, on which no epoch was selected; within noise, that of the recipe stays.

    Another value is chosen only if its 95 % interval of the difference by seed is above 0, and the mean difference is
    `LEAST_RECORDINGS` of the `num_val` validation recordings or more.

    Raises:
        RunError: No value has finished runs.
    """
    own = tried[0]
    compared = [own, *(_compared(one, own) for one in tried[1:])]
    whole = [one for one in compared if one.problem is None]
    if not whole:
        raise RunError(f"{stage.key}: no value could be trained: {own.problem}")
    best = max(whole, key=_mean)
    if own.problem:
        return Decision(stage, tuple(compared), best, "the best, as the recipe's own value failed")
    better = [one for one in whole if is_beyond_noise(one.difference, num_val)]
    if better:
        chosen = max(better, key=_mean)
        return Decision(stage, tuple(compared), chosen, "better than the recipe's own value")
    if _mean(best) == _mean(own):
        return Decision(stage, tuple(compared), own, "no other value is better than the recipe's own")
    return Decision(
        stage, tuple(compared), own, f"{best.words} is ahead only within noise; the recipe's own value stays"
    )


def is_beyond_noise(difference: Difference | None, num_val: int) -> bool:
    """Return whether a positive difference is beyond what seeds and the number of validation recordings explain.

    Example:
        >>> found = Difference({}, 0.1, (0.02, 0.18))
        >>> is_beyond_noise(found, num_val=60), is_beyond_noise(found, num_val=50)
        (True, False)
    """
    if difference is None or difference.mean is None or difference.interval is None:
        return False
    # Counts of recordings are whole numbers, accuracies are rounded quotients.
    return difference.interval[0] > 0 and difference.mean * num_val >= LEAST_RECORDINGS - 1e-6


def _compared(one: Tried, own: Tried) -> Tried:
    return Tried(one.value, one.last, one.selected, one.problem, paired_difference(one.last, own.last))


def _mean(one: Tried) -> float:
    return one.last_spread.mean or 0.0
