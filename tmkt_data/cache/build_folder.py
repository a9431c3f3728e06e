"""The folder in which a cache is built: finished blocks, each whole or absent, and a lock against a second builder."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.frames_file import FrameArray, FramesFile
from tmkt_data.errors import CacheError
from tmkt_data.files import lock, write_bytes, write_failure

Block = dict[str, NDArray[Any]]
_FRAMES, _SHORT, _TABLED = "frames.h5", "short.h5", "tabled.h5"
_LOCK = "lock"


class BuildingFolder:
    """One unfinished cache, kept beside the place where the cache will be.

    Frames are written straight into the file that becomes the cache. What else a block holds, the checksums of its
    frames among it, is an uncompressed npz file, written under a temporary name and renamed once the frames are
    written; its zip checksums tell a whole block from a damaged one, which is built again. The folder belongs to one
    plan: what is there of another is removed.

    Attributes:
        path: The folder.
    """

    def __init__(self, cache_path: Path, plan: str) -> None:
        self.path = cache_path.with_name(f"{cache_path.name}.building")
        self._plan = plan
        self._held = ExitStack()

    def open(self, *, fresh: bool = False) -> None:
        """Make the folder, take the lock, and drop blocks of another plan.

        Args:
            fresh: Drop blocks of this plan, too.

        Raises:
            CacheError: Another process builds the same cache, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            busy = CacheError(f"{self.path}: another tmkt-data prepare is building this cache; wait for it to end")
            self._held.enter_context(lock(self.path / _LOCK, busy))
            if fresh or self._stored_plan() != self._plan:
                self._drop_blocks()
                (self.path / "plan.json").write_text(json.dumps({"plan": self._plan}))
        except OSError as broken:
            raise CacheError(write_failure(self.path, broken)) from broken

    def close(self) -> None:
        """Release the lock; the blocks stay."""
        self._held.close()

    def remove(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def frames(self, arrays: Sequence[FrameArray]) -> FramesFile:
        """Open the file of the frames, as an interrupted run left it or laid down anew.

        Raises:
            CacheError: The file cannot be written.
        """
        left = self.path / _TABLED
        fresh = not (self.path / _FRAMES).exists()
        frames = FramesFile(self.path / _FRAMES, arrays)
        if fresh and left.exists():
            # Stopped while its tables were written: its frames are good, whatever became of the rest.
            frames.take_from(left)
        left.unlink(missing_ok=True)
        return frames

    def complete(self, frames: FramesFile) -> Path:
        """Close the file of the frames and set it aside for the tables; return its new path.

        Raises:
            CacheError: Frames could not be written to disk.
        """
        frames.settle()
        frames.close()
        return frames.path.replace(self.path / _TABLED)

    def shortened(self, arrays: Sequence[FrameArray]) -> FramesFile:
        """Lay down a second file, for fewer rows than the file of the frames has; `complete` takes it, too.

        Raises:
            CacheError: The file cannot be written.
        """
        path = self.path / _SHORT
        path.unlink(missing_ok=True)
        return FramesFile(path, arrays)

    @property
    def num_bytes(self) -> int:
        """Bytes that the frames take on disk so far; rows that were not written take none."""
        paths = [path for name in (_FRAMES, _TABLED) if (path := self.path / name).exists()]
        return sum(int(getattr(path.stat(), "st_blocks", 0)) * 512 for path in paths)

    def load(self, name: str) -> Block | None:
        """Return a finished block, or None where it is absent or damaged."""
        try:
            data = io.BytesIO(self._block_path(name).read_bytes())
            with np.load(data, allow_pickle=False) as stored:
                block = {key: stored[key] for key in stored.files}
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
        # A block that a loss of power damages is built again, so it need not wait for the disk.
        write_bytes(self._block_path(name), buffer.getbuffer(), sync="nothing", error=CacheError)

    def names(self) -> Iterator[str]:
        """Yield the names of the blocks that are there, whole or damaged."""
        for path in self.path.glob("*.npz"):
            yield path.stem

    def _block_path(self, name: str) -> Path:
        return self.path / f"{name}.npz"

    def _stored_plan(self) -> str | None:
        try:
            return str(json.loads((self.path / "plan.json").read_text())["plan"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _drop_blocks(self) -> None:
        for path in self.path.iterdir():
            if not path.name.startswith(_LOCK):
                path.unlink()
