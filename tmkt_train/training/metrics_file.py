"""The metrics of a run: a line of JSON for each finished epoch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tmkt_data.files import write_bytes
from tmkt_train.errors import RunError, command

Row = dict[str, Any]
"""The metrics of one epoch."""
DAMAGED = "the run is damaged, start a new one"
"""What to do where nothing restores a file of a run."""


class MetricsFile:
    """The file `metrics.jsonl` in the folder of a run.

    Attributes:
        path: The file; it is missing until the first epoch is finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Row) -> None:
        """Append the metrics of one epoch and flush them to disk.

        Raises:
            RunError: They cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def read(self) -> tuple[list[Row], bool]:
        """Read the metrics of the finished epochs.

        Returns:
            One row per epoch, and whether a truncated last line was ignored.

        Raises:
            RunError: The file is damaged.
        """
        rows, problem, is_cut = self._parse()
        if problem and not is_cut:
            again = command("tmkt-train", "resume", self.path.parent)
            raise RunError(f"{self.path}:{len(rows) + 1}: {problem}; restore it from last.pt with: {again}")
        return rows, is_cut

    def keep(self, num_epochs: int) -> list[Row]:
        """Truncate the metrics to the first `num_epochs` epochs and return them.

        Raises:
            RunError: There are fewer complete epochs, or the file cannot be written.
        """
        rows, _, _ = self._parse()
        if len(rows) < num_epochs:
            raise RunError(
                f"{self.path}: found {len(rows)} complete epochs, expected {num_epochs} as in last.pt; {DAMAGED}"
            )
        kept = rows[:num_epochs]
        self._write([json.dumps(row) + "\n" for row in kept])
        return kept

    def restore(self, rows: Sequence[Row]) -> str | None:
        """Make the metrics those of the checkpoint; lines of epochs after it are removed, as these are trained again.

        Returns what was wrong with the lines of these epochs; None if they were whole.

        Raises:
            RunError: The file cannot be read or written.
        """
        lines = [json.dumps(row) + "\n" for row in rows]
        found = self._text().splitlines(keepends=True)
        if found != lines:
            self._write(lines)
        number = next((at for at, line in enumerate(lines) if found[at : at + 1] != [line]), None)
        if number is None:
            return None
        wrong = "no line" if number == len(found) else "another line"
        return f"{self.path}:{number + 1}: found {wrong}, expected that of epoch {number + 1} of {len(lines)}"

    def _write(self, lines: Sequence[str]) -> None:
        write_bytes(self.path, "".join(lines).encode(), sync="name", error=RunError)

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read ({error.strerror or error})") from None

    def _parse(self) -> tuple[list[Row], str, bool]:
        """Return the rows before the first bad line, its problem, and whether it is truncated."""
        rows: list[Row] = []
        for line in self._text().splitlines(keepends=True):
            if not line.endswith("\n"):
                return rows, "the line is truncated", True
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                return rows, f"{error}, expected JSON", False
            if not isinstance(row, dict) or row.get("epoch") != len(rows):
                return rows, f"expected a JSON object of epoch {len(rows)}", False
            rows.append(row)
        return rows, "", False
