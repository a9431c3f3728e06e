"""Which values a sweep tries next: an even grid over one key, or Optuna's tree-structured Parzen estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tmkt_train.errors import RunError
from tmkt_train.experiments.search_space import Choices, Dimension, Range, Value

if TYPE_CHECKING:
    import optuna

_DRAWN_FIRST = 4


class Proposals(Protocol):
    """Values to try, one trial after the other."""

    def ask(self) -> dict[str, Value] | None:
        """Give the values of the next trial, by key; None where there is none left."""

    def tell(self, value: float | None) -> None:
        """Say what became of them; None of a trial that failed."""


def grid_values(dimension: Dimension, num_trials: int) -> list[Value]:
    """Give evenly spaced values of a range, both ends among them, or all values of a list.

    Args:
        dimension: What is varied.
        num_trials: Values of a range, 2 or more; whole numbers may give fewer.

    Example:
        >>> grid_values(Range("mix.ratio", 0.1, 0.9, False, False), 5)
        [0.1, 0.3, 0.5, 0.7, 0.9]
        >>> grid_values(Range("loss.modality", 0.01, 1.0, True, False), 3)
        [0.01, 0.1, 1.0]
    """
    match dimension:
        case Choices():
            return list(dimension.values)
        case Range():
            return list(dict.fromkeys(dimension.at(k / (num_trials - 1)) for k in range(num_trials)))


class Grid:
    """The values of one key in order."""

    def __init__(self, dimension: Dimension, num_trials: int) -> None:
        self._key = dimension.key
        self._left = grid_values(dimension, num_trials)

    def ask(self) -> dict[str, Value] | None:
        """Give the next value; None after the last."""
        return {self._key: self._left.pop(0)} if self._left else None

    def tell(self, value: float | None) -> None:
        """Take note of nothing: the grid is laid down."""


class Estimator:
    """Optuna's tree-structured Parzen estimator; the same seed and the same values give the same proposals.

    Args:
        dimensions: What is varied.
        num_trials: Trials in all.
        seed: Seed of the draws.

    Raises:
        RunError: Optuna is not installed.
    """

    def __init__(self, dimensions: Sequence[Dimension], num_trials: int, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise RunError(
                "sweep: found no optuna, expected it for a search; install it with: pip install 'tmkt[sweep]', or give "
                "--grid"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Fewer random trials at first than Optuna's ten: a sweep of a training has few in all (own choice).
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=_DRAWN_FIRST)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._dimensions = dimensions
        self._distributions = {dimension.key: _distribution(dimension) for dimension in dimensions}
        self._failed = optuna.trial.TrialState.FAIL
        self._left = num_trials
        self._trial: optuna.Trial | None = None

    def ask(self) -> dict[str, Value] | None:
        """Give the values of the next trial; None after the last."""
        if not self._left:
            return None
        self._left -= 1
        self._trial = self._study.ask(self._distributions)
        drawn = self._trial.params
        return {
            dimension.key: dimension.rounded(drawn[dimension.key])
            if isinstance(dimension, Range)
            else dimension.values[drawn[dimension.key]]
            for dimension in self._dimensions
        }

    def tell(self, value: float | None) -> None:
        """Say what became of the last trial; None where it failed."""
        if self._trial is not None:
            self._study.tell(self._trial, value, state=self._failed if value is None else None)


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    match dimension:
        case Choices():
            return distributions.CategoricalDistribution(range(len(dimension.values)))
        case Range(low=low, high=high, is_log=is_log, is_whole=True):
            return distributions.IntDistribution(int(low), int(high), log=is_log)
        case Range(low=low, high=high, is_log=is_log):
            return distributions.FloatDistribution(low, high, log=is_log)
