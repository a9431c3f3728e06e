"""The metrics of a run as curves of TensorBoard; the only module that imports it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tmkt_train.training.metrics_file import Row


def scalars_of(row: Row) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a metrics row with names that TensorBoard groups by what stands before the slash.

    Example:
        >>> dict(scalars_of({"epoch": 0, "lr": 0.1, "train_loss": 2.0, "loss_terms": {"event": 1.5}}))
        {'learning_rate': 0.1, 'loss/train': 2.0, 'loss/event': 1.5}
    """
    for name, value in row.items():
        if isinstance(value, Mapping):
            group = "loss" if name == "loss_terms" else name
            yield from ((f"{group}/{key}", float(part)) for key, part in value.items() if _is_number(part))
        elif name != "epoch" and _is_number(value):
            split, _, kind = name.rpartition("_")
            if name == "lr":
                yield "learning_rate", float(value)
            else:
                yield f"{kind}/{split}" if split and kind in ("loss", "accuracy") else name, float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_FILE = "events.out.tfevents.metrics"


class Curves:
    """The event file of a run, written anew by each session, so that an epoch that is trained again is no second point.

    Curves are for watching: what goes wrong with them is kept in `problems`, and is no error.

    Attributes:
        problems: Why there are none, one line; empty if there are.
    """

    def __init__(self, folder: Path | None) -> None:
        """Start the event file.

        Args:
            folder: Folder of the event file, removed first; None for no file, as on ranks behind the first.
        """
        self.problems: list[str] = []
        self._file: Path | None = None
        if folder is not None:
            self._try(lambda: self._open(folder))

    def _open(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._file = folder / _FILE
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, row: Row) -> None:
        """Add the metrics of an epoch, at its number from 1; one small write."""
        if self._file is not None:
            self._try(lambda: self._append(self._event(row)))

    def _event(self, row: Row) -> Any:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars_of(row)]
        return Event(wall_time=time.time(), step=row["epoch"] + 1, summary=Summary(value=values))

    def _append(self, event: Any) -> None:
        # The writer of torch has a thread that prints a traceback where the disk fails.
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._file is not None:
            with self._file.open("ab") as file:
                RecordWriter(file).write(event.SerializeToString())

    def _try(self, write: Callable[[], None]) -> None:
        if self.problems:
            return
        try:
            write()
        except (OSError, ImportError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.problems.append(f"the curves for TensorBoard were not written ({reason})")
