"""What the blocks of one side hold beside their frames, collected in a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.hdf5_output import writing

BlockArrays = dict[str, NDArray[Any]]
"""What a block is made of, by name: `rows`, one structured row a source; its frames; and other arrays.

A row begins with `signature`, uint64, which tells its source from an edited one, and `is_kept`, uint8. The checksum of
its frames is in `NAME_xxh3`.
"""
_CHUNK = 1 << 16


class SideRows:
    """What the blocks of one side hold beside their frames. The rows are on disk: a large dataset has too many.

    Attributes:
        is_kept: Which sources are in the cache, shape (num_sources,), bool.
        pieces: The other arrays by name, one of each block that has it.
    """

    def __init__(self, path: Path, blocks: Iterable[BlockArrays]) -> None:
        """Collect the rows of some blocks in a file.

        Raises:
            CacheError: The disk is full.
        """
        self._path, self._dtype = path, np.dtype([])
        self.pieces: dict[str, list[NDArray[Any]]] = {}
        is_kept = []
        with writing(path), path.open("wb") as file:
            for block in blocks:
                rows = block.pop("rows")
                file.write(np.ascontiguousarray(rows).data)
                self._dtype = rows.dtype
                is_kept.append(rows["is_kept"].astype(bool))
                for name, values in block.items():
                    self.pieces.setdefault(name, []).append(values)
        self.is_kept = np.concatenate(is_kept)

    def column(self, name: str) -> NDArray[Any]:
        """Return one value of every source, kept or not, shape (num_sources,), owned by the caller.

        Raises:
            CacheError: The file cannot be read.
        """
        num_rows = len(self.is_kept)
        values = np.zeros(num_rows, self._dtype[name])
        with writing(self._path), self._path.open("rb") as file:
            for first in range(0, num_rows, _CHUNK):
                rows = np.fromfile(file, self._dtype, min(_CHUNK, num_rows - first))
                values[first : first + len(rows)] = rows[name]
        return values

    def kept_column(self, name: str) -> NDArray[Any]:
        """Return one value of every source that is in the cache; errors as `column`."""
        values: NDArray[Any] = self.column(name)[self.is_kept]
        return values
