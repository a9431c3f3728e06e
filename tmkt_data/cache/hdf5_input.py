"""Open a cache file as HDF5: its leading block, and errors of one line for what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from tmkt_data.cache.format import LEADING_BYTES, LeadingBlock, decode_leading_block
from tmkt_data.errors import CacheError, SpecError
from tmkt_data.files import is_refused, open_hdf5


def leading_block(path: Path) -> LeadingBlock:
    """Return the leading block of a cache file, which tells a truncated file.

    Raises:
        CacheError: The file is missing, truncated, not a cache, or of another format version.
    """
    try:
        with path.open("rb") as handle:
            start = handle.read(LEADING_BYTES)
            size = handle.seek(0, 2)
    except FileNotFoundError as missing:
        raise CacheError(f"{path}: no such file; make it with tmkt-data prepare") from missing
    except OSError as broken:
        raise CacheError(f"{path}: cannot be read ({broken.strerror or broken})") from broken
    block = decode_leading_block(start, path.name)
    if size != block.num_bytes:
        raise CacheError(
            f"{path.name}: {size} bytes, expected {block.num_bytes}; the file is truncated, "
            "copy it again or prepare it again"
        )
    return block


@contextmanager
def opened_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a cache file as HDF5 while the block runs.

    Raises:
        CacheError: What the block does with the file fails, as the file is damaged or cannot be read.
    """
    try:
        with open_hdf5(h5py.File, path) as file:
            yield file
    except (
        *(OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, AttributeError, MemoryError),
        SpecError,
    ) as broken:
        reason = str(broken).split("\n")[0]
        if is_refused(broken):
            raise CacheError(f"{path}: cannot be read ({reason}); check the file and its disk") from broken
        raise CacheError(f"{path.name}: damaged cache ({reason}); restore the file or prepare it again") from broken


def require_dataset(path: Path, name: str, item: Any) -> Any:
    """Return a dataset of a cache file.

    Raises:
        CacheError: There is something else of its name.
    """
    if not isinstance(item, h5py.Dataset):
        raise CacheError(f"{path.name}: {name} is not a dataset; the file is damaged, restore it or prepare it again")
    return item
