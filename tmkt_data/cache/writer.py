"""Write a cache: frames block by block into a temporary file, which gets its name when it is whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.layout import (
    FORMAT_VERSION,
    LEADING_BYTES,
    LeadingBlock,
    Table,
    content_digest,
    encode_leading_block,
)
from tmkt_data.errors import CacheError

_CHUNK = 1 << 22


class CacheWriter:
    """Writes one cache into a temporary file; use it through `writing_cache`.

    The bytes depend on nothing but what is written: no times, no random names.
    """

    def __init__(self, path: Path) -> None:
        self._file = h5py.File(path, "w", userblock_size=LEADING_BYTES, libver=("earliest", "v110"))

    def write_frames(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterable[NDArray[Any]]
    ) -> None:
        """Write an array contiguously, block after block along its first axis.

        Raises:
            CacheError: The blocks do not add up to the shape.
        """
        dataset = self._file.create_dataset(name, shape=shape, dtype=dtype)
        at = 0
        for block in blocks:
            dataset[at : at + len(block)] = block
            at += len(block)
        if at != shape[0]:
            raise CacheError(f"{name}: {at} rows were written, expected {shape[0]}")

    def write_header(self, header: Mapping[str, str], tables: Mapping[str, Table]) -> str:
        """Write the attributes and tables; return the content digest."""
        for name in sorted(tables):
            self._file.create_dataset(name, data=tables[name])
        digest = content_digest(header, tables)
        for name in sorted(header):
            self._file.attrs[name] = np.bytes_(header[name].encode())
        self._file.attrs["digest"] = np.bytes_(digest.encode())
        return digest

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def writing_cache(path: Path) -> Iterator[CacheWriter]:
    """Open a `CacheWriter` on a temporary path and close it whatever happens.

    Raises:
        CacheError: The file cannot be written, such as on a full disk.
    """
    try:
        writer = CacheWriter(path)
        try:
            yield writer
        finally:
            writer.close()
    except (OSError, RuntimeError) as broken:  # HDF5 reports a failed flush as RuntimeError
        raise CacheError(f"{path}: cannot be written ({_reason(broken)}); free some space and run it again") from broken


def seal(temporary: Path, final: Path, digest: str) -> None:
    """Put the leading block in front, force the file to disk, and give it its name.

    Raises:
        CacheError: The file cannot be written; nothing has the final name then.
    """
    try:
        with temporary.open("r+b") as handle:
            sha = hashlib.sha256()
            handle.seek(LEADING_BYTES)
            while chunk := handle.read(_CHUNK):
                sha.update(chunk)
            block = LeadingBlock(FORMAT_VERSION, handle.tell(), sha.hexdigest(), digest)
            handle.seek(0)
            handle.write(encode_leading_block(block))
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(final)
    except OSError as broken:
        raise CacheError(
            f"{final}: cannot be written ({_reason(broken)}); free some space and run it again"
        ) from broken


def _reason(error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).split("\n")[0]
    return "File too large" if "File too large" in text else "No space left" if "No space left" in text else text
