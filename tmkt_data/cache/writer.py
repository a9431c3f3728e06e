"""Finish a cache: tables beside the frames, the leading block in front, and its name when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from tmkt_data.cache.digests import PieceDigests
from tmkt_data.cache.format import (
    FORMAT_VERSION,
    ContentDigest,
    LeadingBlock,
    Table,
    encode_leading_block,
)
from tmkt_data.cache.frames_file import LIBVER, writing


def write_tables(path: Path, header: Mapping[str, str], tables: Iterable[tuple[str, Table]]) -> str:
    """Write attributes and tables into a `FramesFile` that was closed; return the content digest.

    The bytes depend on nothing but what is written: no times, no random names.

    Args:
        path: The file.
        header: Attributes, text by name.
        tables: HDF5 path and table, sorted by path; asked for one by one.

    Raises:
        CacheError: The file cannot be written.
    """
    digest = ContentDigest(header)
    with writing(path), h5py.File(path, "r+", libver=LIBVER) as file:
        for name, table in tables:
            digest.add(name, table)
            file.create_dataset(name, data=table)
        for name in sorted(header):
            file.attrs[name] = np.bytes_(header[name].encode())
        file.attrs["digest"] = np.bytes_(digest.hexdigest().encode())
    return digest.hexdigest()


def seal(temporary: Path, final: Path, digest: str, pieces: PieceDigests) -> None:
    """Put the leading block in front, force the file to disk, and give it its name.

    Args:
        temporary: The file, whole but for the block.
        final: Its name.
        digest: Content digest.
        pieces: Digests of the pieces that are known; the others are read.

    Raises:
        CacheError: The file cannot be written; nothing has the final name then.
    """
    with writing(final):
        with temporary.open("r+b", buffering=0) as handle, ThreadPoolExecutor(1) as disk:
            # The disk takes what is there while the rest is hashed; the block alone is left for the second time.
            on_disk = disk.submit(os.fsync, handle.fileno())
            total = pieces.total(handle)
            on_disk.result()
            block = LeadingBlock(FORMAT_VERSION, os.fstat(handle.fileno()).st_size, total, digest)
            handle.seek(0)
            handle.write(encode_leading_block(block))
            os.fsync(handle.fileno())
        temporary.replace(final)
