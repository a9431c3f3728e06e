"""The folder in which a cache is built: finished blocks, each whole or absent, and a lock against a second builder."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import CacheError
from tmkt_data.locks import FileLock
from tmkt_data.whole_files import put_file

Block = dict[str, NDArray[Any]]
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BuildingFolder:
    """Blocks of one unfinished cache, kept beside the place where the cache will be.

    A block is an uncompressed npz file, written under a temporary name and renamed; its zip checksums tell a whole
    block from a damaged one, which is built again. The folder belongs to one plan: blocks of another are removed.

    Attributes:
        path: The folder.
        rows: Rows of each block that was stored or loaded, by its name.
    """

    def __init__(self, cache_path: Path, plan: str) -> None:
        self.path = cache_path.with_name(f"{cache_path.name}.building")
        self.rows: dict[str, int] = {}
        self._plan = plan
        self._lock = FileLock(self.path / "lock")

    def open(self, *, fresh: bool = False) -> None:
        """Make the folder, take the lock, and drop blocks of another plan.

        Args:
            fresh: Drop blocks of this plan, too.

        Raises:
            CacheError: Another process builds the same cache, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                raise CacheError(f"{self.path}: another tmkt-data prepare is building this cache; wait for it to end")
            if fresh or self._stored_plan() != self._plan:
                self._drop_blocks()
                (self.path / "plan.json").write_text(json.dumps({"plan": self._plan}))
        except OSError as broken:
            raise _write_error(self.path, broken) from broken

    def close(self) -> None:
        """Release the lock; the blocks stay."""
        self._lock.release()

    def remove(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    @property
    def num_bytes(self) -> int:
        """Bytes that the blocks take."""
        return sum(path.stat().st_size for path in self.path.glob("*.npz"))

    def load(self, name: str) -> Block | None:
        """Return a finished block, or None where it is absent or damaged."""
        try:
            data = io.BytesIO(self._block_path(name).read_bytes())
            with np.load(data, allow_pickle=False) as stored:
                block = {key: stored[key] for key in stored.files}
            self.rows[name] = len(block["frames"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return block

    def store(self, name: str, block: Mapping[str, NDArray[Any]]) -> None:
        """Keep a finished block.

        Raises:
            CacheError: The disk is full; blocks stored earlier stay.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **block)  # type: ignore[arg-type]
        temporary = self.path / f".{name}.{os.getpid()}.{threading.get_ident()}.tmp"
        try:
            # A block that a loss of power damages is built again, so it need not wait for the disk.
            put_file(self._block_path(name), buffer.getbuffer(), via=temporary, durable=False)
        except OSError as broken:
            raise _write_error(self.path, broken) from broken
        self.rows[name] = len(block["frames"])

    def names(self) -> Iterator[str]:
        """Yield the names of the blocks that are there, whole or damaged."""
        for path in self.path.glob("*.npz"):
            yield path.stem

    @property
    def assembled(self) -> Path:
        """Where the cache is put together before it gets its name."""
        return self.path / "assembled.h5"

    def _block_path(self, name: str) -> Path:
        return self.path / f"{name}.npz"

    def _stored_plan(self) -> str | None:
        try:
            return str(json.loads((self.path / "plan.json").read_text())["plan"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _drop_blocks(self) -> None:
        for path in self.path.iterdir():
            if path.name != "lock":
                path.unlink()


def _write_error(path: Path, broken: OSError) -> CacheError:
    advice = "free some space and run it again" if broken.errno in _NO_ROOM else "give another --out"
    return CacheError(f"{path}: cannot be written ({broken.strerror or broken}); {advice}, what is finished is kept")
