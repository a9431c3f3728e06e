"""The folder in which a cache is built, with three doors: what is missing, fill a block, finish the cache."""

from __future__ import annotations

import errno
import io
import json
import os
import platform
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.format import FrameArray, Table
from tmkt_data.cache.hdf5_output import writing
from tmkt_data.cache.read_back import read_back
from tmkt_data.cache.side_rows import BlockArrays, SideRows
from tmkt_data.cache.writer import FramesFile, put_in_place, seal, write_tables
from tmkt_data.errors import CacheError, write_failure
from tmkt_data.files import checksum, require_replaceable, sync_folder, write_bytes
from tmkt_data.locks import lock

CacheContent = tuple[Mapping[str, str], Iterable[tuple[str, Table]]]
"""The header of a cache, and its tables by name, in order; each is made when it is asked for."""
_FRAMES, _SHORT, _TABLED, _PLAN, _LOCK = "frames.h5", "short.h5", "tabled.h5", "plan.json", "lock"


class BlockPlace(NamedTuple):
    """Where a block belongs.

    Attributes:
        name: Its name, unique in the cache.
        side: `"events"` or `"images"`.
        first: Row of its first source in the arrays of its side, counting the sources that are left out.
    """

    name: str
    side: str
    first: int


class BuildFolder:
    """An unfinished cache, in a folder beside the file that it becomes. Made by `open_build_folder`.

    Frames are written straight into the file that becomes the cache. The rest of a block, with the checksums of its
    frames, is an uncompressed npz file that is written after them. The checksums of zip tell a whole block from a
    damaged one, which is built again. A block may be filled by any thread.

    Attributes:
        path: The folder.
    """

    def __init__(self, cache_path: Path, arrays: Sequence[FrameArray], folder: Path) -> None:
        self.path = folder
        self._cache_path = cache_path
        left = self.path / _TABLED
        is_new = not (self.path / _FRAMES).exists()
        self._frames = FramesFile(self.path / _FRAMES, arrays)
        if is_new and left.exists():
            # Stopped while its tables were written: the frames in it are good, whatever became of the rest.
            self._frames.copy_from(left)
        left.unlink(missing_ok=True)

    def is_missing(
        self, place: BlockPlace, signatures: Callable[[], NDArray[np.uint64]], *, keep_all: bool = True
    ) -> bool:
        """Return whether a block has to be filled: it is absent, damaged, or made of other sources.

        Args:
            place: The block.
            signatures: Returns what tells the sources of the block as they are now, see `BlockArrays`. Called only
                where there is a block.
            keep_all: Whether a block from which sources were left out counts as missing.

        Raises:
            CacheError: The frames cannot be read.
        """
        block = self._load(place)
        if block is None or "rows" not in block:
            return True
        rows = block["rows"]
        if not np.array_equal(rows["signature"], signatures()) or (keep_all and not rows["is_kept"].all()):
            return True
        arrays = self._arrays(place.side)
        return not all(self._are_whole(array, place.first, rows[f"{array.kind}_xxh3"]) for array in arrays)

    def fill(self, place: BlockPlace, block: BlockArrays) -> None:
        """Store a block.

        Args:
            place: The block.
            block: Its arrays; those of the frames are written and removed from it.

        Raises:
            CacheError: The disk is full; blocks that were filled earlier stay.
        """
        for array in self._arrays(place.side):
            self._frames.write(array.name, place.first, block.pop(array.kind))
        buffer = io.BytesIO()
        np.savez(buffer, **block)  # type: ignore[arg-type]
        # Written last: a block that is there says that its frames are. A block that a loss of power damages is built
        # again, so it need not wait for the disk.
        write_bytes(self._path_of(place), buffer.getbuffer(), sync="nothing", error=CacheError)
        self._frames.flush()

    def finish(self, places: Sequence[BlockPlace], describe: Callable[[SideRows, SideRows], CacheContent]) -> None:
        """Write the tables beside the frames, rename the file, and remove the folder.

        Args:
            places: All blocks, those of a side in the order of its rows.
            describe: Returns header and tables, given what the blocks hold of the event side and of the image side;
                raises where that may not become a cache.

        Raises:
            CacheError: A block is gone, or the cache cannot be written.
        """
        events, images = (
            SideRows(self.path / f"{side}.rows", self._blocks_of(side, places)) for side in ("events", "images")
        )
        header, tables = describe(events, images)
        with closing(self._frames):
            if not (events.is_kept.all() and images.is_kept.all()):
                self._frames = self._shortened({"events": events.is_kept, "images": images.is_kept})
            self._frames.settle()
            self._frames.close()
            path = self._frames.path.replace(self.path / _TABLED)
            with writing(path):
                sync_folder(self.path)
            block = seal(path, write_tables(path, header, tables), self._frames.digests)
            read_back(path, block, list(self._frames.arrays.values()))
            put_in_place(path, self._cache_path)
        with suppress(OSError):
            _drop_blocks(self.path)

    def close(self) -> None:
        """Close the files; what is in the folder stays."""
        self._frames.close()

    def _shortened(self, is_kept: Mapping[str, NDArray[np.bool_]]) -> FramesFile:
        """Return another file of frames, which holds only the rows that are kept of each side."""
        path = self.path / _SHORT
        path.unlink(missing_ok=True)
        arrays = self._frames.arrays.values()
        short = FramesFile(path, [array.with_rows(int(is_kept[array.side].sum())) for array in arrays])
        for array in arrays:
            short.copy_rows(array.name, self._frames, is_kept[array.side])
        return short

    def _arrays(self, side: str) -> list[FrameArray]:
        return [array for array in self._frames.arrays.values() if array.side == side]

    def _are_whole(self, array: FrameArray, first: int, checksums: NDArray[np.uint64]) -> bool:
        pairs = zip(self._frames.read(array.name, first, len(checksums)), checksums.tolist(), strict=True)
        # The checksum of a source that was left out is 0, whatever its frames are.
        return all(checksum(frames) == expected for frames, expected in pairs if expected)

    def _blocks_of(self, side: str, places: Sequence[BlockPlace]) -> Iterator[BlockArrays]:
        num_rows = 0
        for place in places:
            if place.side == side:
                block = self._load(place)
                if block is None:
                    raise CacheError(f"{self.path}: block {place.name} is gone; run it again")
                if place.first != num_rows:
                    raise CacheError(
                        f"{self.path}: block {place.name} begins at row {place.first}, expected {num_rows}; "
                        "give --force"
                    )
                num_rows += len(block["rows"])
                yield block
        expected = next(array.shape[0] for array in self._arrays(side))
        if num_rows != expected:
            raise CacheError(f"{self.path}: blocks of {num_rows} rows of {side}, expected {expected}; give --force")

    def _load(self, place: BlockPlace) -> BlockArrays | None:
        """Return a block without its frames, or None where it is absent or damaged."""
        try:
            data = io.BytesIO(self._path_of(place).read_bytes())
            with np.load(data, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def _path_of(self, place: BlockPlace) -> Path:
        return self.path / f"{place.name}.npz"


def this_machine() -> str:
    """Return a word for this machine until it is started again: locks may not reach others that share its disks."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = ""
    name = "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in platform.node())
    return f"{name}-{checksum(boot.encode()) >> 32:08x}"


@contextmanager
def open_build_folder(
    cache_path: Path, key: str, arrays: Sequence[FrameArray], *, fresh: bool = False, folder: Path | None = None
) -> Iterator[BuildFolder]:
    """Make the build folder of a cache or open what an interrupted run left, and lock it for the block.

    Args:
        cache_path: The cache.
        key: Key of its plan; blocks of another plan are dropped.
        arrays: Its arrays of frames, where no source is left out.
        fresh: Drop the blocks of this plan, too.
        folder: The folder; None for the one that every build of this cache shares, on whatever machine.

    Raises:
        CacheError: Another process builds the same cache, the folder cannot be written, or there is too little space.
    """
    folder = folder or folder_of(cache_path)
    require_replaceable(cache_path, CacheError)
    with _locked(folder):
        try:
            if fresh or _stored_key(folder) != key:
                _drop_blocks(folder)
                write_bytes(folder / _PLAN, json.dumps({"plan": key}).encode(), error=CacheError)
        except OSError as broken:
            raise CacheError(write_failure(folder, broken)) from broken
        _require_space(folder, sum(array.num_bytes for array in arrays))
        build = BuildFolder(cache_path, arrays, folder)
        with closing(build):
            yield build


def drop_left(folder: Path, key: str) -> None:
    """Remove the build folder of a finished cache, which a run leaves that is killed while it removes it.

    A folder that another process is building in, or that holds blocks of another plan, stays.

    Args:
        folder: The folder.
        key: Key of its plan.
    """
    if folder.is_dir():
        with suppress(CacheError, OSError), _locked(folder):
            if _stored_key(folder) in (None, key):
                _drop_blocks(folder)


def is_being_built(refused: CacheError) -> bool:
    """Return whether a build was refused because another one is in progress, or has just ended and took its folder."""
    # What the system says of a lock that is held, and of one whose folder was removed meanwhile.
    return isinstance(refused.__cause__, TimeoutError | FileNotFoundError)


def not_being_built(cache_path: Path, folder: Path | None = None, *, wait_s: float = 0) -> AbstractContextManager[None]:
    """Hold the lock of the builders of a cache; a build in progress raises `CacheError`.

    Args:
        cache_path: The cache.
        folder: As `open_build_folder`.
        wait_s: How long to wait for a build in progress, in seconds.
    """
    return _locked(folder or folder_of(cache_path), wait_s)


@contextmanager
def _locked(folder: Path, wait_s: float = 0) -> Iterator[None]:
    busy = CacheError(f"{folder}: another tmkt-data prepare is building this cache; wait for it to end")
    try:
        with lock(folder / _LOCK, busy, wait_s=wait_s):
            yield
    finally:
        # Last and only if it is empty: removed earlier, it would take along the lock, which others may then hold, too.
        with suppress(OSError):
            folder.rmdir()


def folder_of(cache_path: Path, machine: str = "") -> Path:
    """Return the build folder of a cache; with a machine, the one that only this machine builds in."""
    return cache_path.with_name(f"{cache_path.name}{'.' if machine else ''}{machine}.building")


def _stored_key(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _PLAN).read_text())["plan"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # Other errors of the system are no reason to drop what is done.
        return None


def _drop_blocks(folder: Path) -> None:
    # The plan goes last: whoever is stopped before leaves a folder that is known to be of this plan.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == _PLAN):
        if not path.name.startswith(_LOCK):
            path.unlink()


def _require_space(folder: Path, num_bytes: int) -> None:
    # Rows that were not written take no space.
    paths = [path for name in (_FRAMES, _TABLED) if (path := folder / name).exists()]
    taken = sum(int(getattr(path.stat(), "st_blocks", 0)) * 512 for path in paths)
    free, needed = shutil.disk_usage(folder.parent).free, num_bytes - taken
    if free >= needed:
        return
    if not taken:
        _drop_blocks(folder)
    raise CacheError(
        f"{folder.parent}: {free / 1e6:.0f} MB free, needed {needed / 1e6:.0f} MB; "
        "free some space or give another --out"
    ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
