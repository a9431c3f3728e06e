"""Runs in Weights & Biases and in MLflow; the only module that imports `wandb` and `mlflow`.

Whatever these libraries raise passes through; `tracking` turns it into a warning.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

from tmkt_train.choices import LoggerName
from tmkt_train.errors import MissingPackageError, RunError

Ending = Literal["finished", "stopped", "failed"]
"""How a session of a run ended."""
PROJECT = "tmkt"
"""Default project of Weights & Biases, and experiment of MLflow."""

_EXIT_CODES: Mapping[Ending, int] = {"finished": 0, "stopped": 130, "failed": 1}
_STATUSES: Mapping[Ending, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_UPLOAD_S = 60
"""How long the end of a run waits for uploads; what is left is in the run folder."""
_TAG = "tmkt.run"
_AT_ONCE = 100
"""Number of values that MLflow takes in one call."""


class LoggedRun(NamedTuple):
    """What a logger is told about a run.

    Attributes:
        id: Identifies the run, also after it was resumed.
        folder: Its folder.
        settings: Settings of the recipe by dotted key.
    """

    id: str
    folder: Path
    settings: Mapping[str, Any]


class Logger(Protocol):
    """A run in a logging library.

    Attributes:
        place: Where to look at the run, one line.
        last_step: The last epoch that is logged already, counted from 1; 0 for none.
    """

    place: str
    last_step: int

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, counted from 1."""

    def summarize(self, values: Mapping[str, float]) -> None:
        """Log the result."""

    def close(self, ending: Ending) -> None:
        """End this session of the run."""


def require_logger_packages(names: Sequence[LoggerName]) -> None:
    """Check that the packages of loggers are there; imports none of them.

    Raises:
        MissingPackageError: One is not.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingPackageError(f"--logger {name}: found no {name}; install it with: pip install 'tmkt[{name}]'")


def logger_name(text: str) -> LoggerName:
    """Return the logger of a name.

    Raises:
        RunError: There is none, as in a run folder of a later version.
    """
    match text:
        case "wandb" | "mlflow":
            return text
    raise RunError(f"found logger {text!r}, expected one of {', '.join(get_args(LoggerName))}; update tmkt")


def open_logger(name: LoggerName, run: LoggedRun) -> Logger:
    """Start a run in a logging library, or continue it if it is there."""
    return _WandbLogger(run) if name == "wandb" else _MlflowLogger(run)


class _WandbLogger:
    """A run of Weights & Biases, by default in the project "tmkt"; its variables, such as WANDB_MODE, are followed."""

    def __init__(self, run: LoggedRun) -> None:
        import wandb

        # Silent, it does not ask for a login in the middle of a display, but raises an error.
        wandb.setup(wandb.Settings(silent=True, console="off"))
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=os.environ.get("WANDB_NAME", run.folder.name),
            dir=os.environ.get("WANDB_DIR", run.folder),
            config=dict(run.settings),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", finish_timeout=_UPLOAD_S),
        )
        self.last_step = max(0, self._run.step - 1)
        is_offline = self._run.settings.mode in ("offline", "dryrun")
        folder = Path(self._run.dir).parent
        self.place = f"offline; upload it with: wandb sync {folder}" if is_offline else str(self._run.url)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"epoch": step, **values}, step=step)

    def summarize(self, values: Mapping[str, float]) -> None:
        self._run.summary.update(dict(values))

    def close(self, ending: Ending) -> None:
        self._run.finish(exit_code=_EXIT_CODES[ending])


class _MlflowLogger:
    """A run of MLflow, found again by a tag; where it lies is up to MLFLOW_TRACKING_URI, by default `./mlflow.db`."""

    def __init__(self, run: LoggedRun) -> None:
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._client = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        found = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{run.id}'")
        if found:
            self._id = found[0].info.run_id
            self.last_step = int(found[0].data.metrics.get("epoch", 0))
            self._client.update_run(self._id, status="RUNNING")
        else:
            created = self._client.create_run(experiment, run_name=run.folder.name, tags={_TAG: run.id})
            self._id, self.last_step = created.info.run_id, 0
            params = [mlflow.entities.Param(key, str(value)) for key, value in run.settings.items()]
            for chunk in _chunks(params):
                self._client.log_batch(self._id, params=chunk)
        self.place = f"experiment {name}, run {self._id}"

    def add(self, step: int, values: Mapping[str, float]) -> None:
        # The epoch comes last: it says that the others are there.
        self._log({**values, "epoch": step}, step)

    def summarize(self, values: Mapping[str, float]) -> None:
        self._log(values, 0)

    def close(self, ending: Ending) -> None:
        self._client.set_terminated(self._id, _STATUSES[ending])

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for chunk in _chunks([Metric(name, float(value), now, step) for name, value in values.items()]):
            self._client.log_batch(self._id, metrics=chunk)


def _chunks(values: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _AT_ONCE):
        yield list(values[start : start + _AT_ONCE])
