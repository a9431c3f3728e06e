"""Rows of facts on their way to tables, on disk: a large set has too many to hold them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.frames_file import writing

_ROWS = 1 << 16


class RowsFile:
    """Structured rows, written one behind the other and read column by column.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._dtype: np.dtype[Any] | None = None
        self._num_rows = 0
        path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return self._num_rows

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows, all of one type.

        Raises:
            CacheError: The disk is full.
        """
        with writing(self.path), self.path.open("ab") as file:
            file.write(np.ascontiguousarray(rows).data)
        self._dtype, self._num_rows = rows.dtype, self._num_rows + len(rows)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of all rows, owned by the caller.

        Raises:
            CacheError: The file cannot be read.
        """
        if self._dtype is None:
            raise KeyError(name)
        values = np.zeros(self._num_rows, self._dtype[name])
        with writing(self.path), self.path.open("rb") as file:
            for first in range(0, self._num_rows, _ROWS):
                rows = np.fromfile(file, self._dtype, min(_ROWS, self._num_rows - first))
                values[first : first + len(rows)] = rows[name]
        return values
