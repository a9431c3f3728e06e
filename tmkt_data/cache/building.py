"""The folder in which a cache is built: finished blocks, each whole or absent, and a lock against a second builder."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import CacheError

Block = dict[str, NDArray[Any]]


class BuildingFolder:
    """Blocks of one unfinished cache, kept beside the place where the cache will be.

    A block is an uncompressed npz file, written under a temporary name and renamed; its zip checksums tell a whole
    block from a damaged one, which is built again. The folder belongs to one plan: blocks of another are removed.

    Attributes:
        path: The folder.
    """

    def __init__(self, cache_path: Path, plan: str) -> None:
        self.path = cache_path.with_name(f"{cache_path.name}.building")
        self._plan = plan
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Make the folder, take the lock, and drop blocks of another plan.

        Raises:
            CacheError: Another process builds the same cache, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("a+")
            if not _lock(self._lock):
                self.close()
                raise CacheError(f"{self.path}: another tmkt-data prepare is building this cache; wait for it to end")
            if self._stored_plan() != self._plan:
                self._drop_blocks()
                (self.path / "plan.json").write_text(json.dumps({"plan": self._plan}))
        except OSError as broken:
            raise _write_error(self.path, broken) from broken

    def close(self) -> None:
        """Release the lock; the blocks stay."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def remove(self) -> None:
        """Remove the folder and all in it."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def load(self, name: str) -> Block | None:
        """Return a finished block, or None where it is absent or damaged."""
        try:
            data = io.BytesIO(self._block_path(name).read_bytes())
            with np.load(data, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def store(self, name: str, block: Mapping[str, NDArray[Any]]) -> None:
        """Keep a finished block.

        Raises:
            CacheError: The disk is full; blocks stored earlier stay.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **block)  # type: ignore[arg-type]
        temporary = self.path / f".{name}.{os.getpid()}.{threading.get_ident()}.tmp"
        try:
            temporary.write_bytes(buffer.getbuffer())
            temporary.replace(self._block_path(name))
        except OSError as broken:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise _write_error(self.path, broken) from broken

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


def _lock(handle: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: two builders at once only do the same work twice
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _write_error(path: Path, broken: OSError) -> CacheError:
    return CacheError(
        f"{path}: cannot be written ({broken.strerror or broken}); free some space and run it again, "
        "what is finished is kept"
    )
