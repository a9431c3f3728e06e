"""Where the metrics of a run are watched: the curves of TensorBoard, and the loggers that were asked for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from tmkt_train.choices import LoggerName
from tmkt_train.errors import MissingPackageError, RunInterruptedError
from tmkt_train.network.collectives import own_rank
from tmkt_train.recipe.recipe import Recipe, flat_items, toml_value
from tmkt_train.training.curves import Curves, scalars_of
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.loggers import Ending, LoggedRun, Logger, logger_name, open_logger, require_logger_packages
from tmkt_train.training.metrics_file import Row

_NAMES, _ID = "loggers", "log_id"
_STOPS = (RunInterruptedError, KeyboardInterrupt, GeneratorExit)


def describe_loggers(names: Sequence[LoggerName]) -> dict[str, str]:
    """Return what a run folder records of its loggers, so that a resumed run continues in the same place.

    Example:
        >>> describe_loggers([])
        {}
        >>> sorted(describe_loggers(["wandb", "mlflow"]))
        ['log_id', 'loggers']
    """
    return {_NAMES: ",".join(dict.fromkeys(names)), _ID: secrets.token_hex(8)} if names else {}


def open_tracking(folder: RunFolder, recipe: Recipe, environment: Mapping[str, Any], rows: Sequence[Row]) -> Tracking:
    """Start the curves and the loggers of a run, with the metrics of the epochs that are done.

    On ranks behind the first there are none.
    """
    started = environment.get("started")
    tracking = Tracking(folder if own_rank() == 0 else None, recipe, started if isinstance(started, dict) else {})
    for row in rows:
        tracking.add(row)
    return tracking


class Tracking:
    """The curves and the loggers of a run; what goes wrong with them is a problem, and no error.

    A context manager: when it exits, the loggers are told how this session of the run ended.

    Attributes:
        places: Where the loggers show the run, one line each.
    """

    def __init__(self, folder: RunFolder | None, recipe: Recipe, started: Mapping[str, str]) -> None:
        """Start the loggers of a run, or continue in them.

        Args:
            folder: The run folder; None for no curves and no loggers.
            recipe: The recipe.
            started: The record of how the run was started, see `describe_loggers`.
        """
        self.places: list[str] = []
        self._problems: list[str] = []
        self._curves = Curves(None if folder is None else folder.curves)
        self._loggers: dict[LoggerName, Logger] = {}
        if folder is not None and _NAMES in started:
            settings = {key: toml_value(value) for key, value, _ in flat_items(recipe)}
            run = LoggedRun(started[_ID], folder.path, settings)
            for name in started[_NAMES].split(","):
                self._try(name, lambda name=name: self._open(logger_name(name), run))  # type: ignore[misc]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close("finished" if kind is None else "stopped" if issubclass(kind, _STOPS) else "failed")

    @property
    def problems(self) -> list[str]:
        """What could not be written, one line each."""
        return [*self._curves.problems, *self._problems]

    def add(self, row: Row) -> None:
        """Add the metrics of an epoch; a logger that has them already, as of a run that is resumed, skips them."""
        self._curves.add(row)
        step, values = row["epoch"] + 1, dict(scalars_of(row))

        def add_new(logger: Logger) -> None:
            if step > logger.last_step:
                logger.add(step, values)

        self._each(add_new)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Log the numbers of the result, and close the loggers."""
        numbers = {f"result/{key}": value for key, value in result.items() if type(value) in (int, float)}
        self._each(lambda logger: logger.summarize(numbers))
        self._close("finished")

    def _open(self, name: LoggerName, run: LoggedRun) -> None:
        require_logger_packages([name])
        logger = self._loggers[name] = open_logger(name, run)
        self.places.append(f"{name}: {logger.place}")

    def _close(self, ending: Ending) -> None:
        self._each(lambda logger: logger.close(ending))
        self._loggers.clear()

    def _each(self, action: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            self._try(name, lambda logger=logger: action(logger))  # type: ignore[misc]

    def _try(self, name: str, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001 - whatever a logger raises, the training goes on
            kind = "" if isinstance(error, MissingPackageError) else f"{type(error).__name__}: "
            reason = " ".join(f"{kind}{error}".split())
            self._problems.append(f"{name} stopped logging ({reason})")
            self._loggers = {key: logger for key, logger in self._loggers.items() if key != name}
