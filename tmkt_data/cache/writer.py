"""Finish a cache: tables beside the frames, the leading block in front, and its name when it is whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from tmkt_data.cache.frames_file import LIBVER, writing
from tmkt_data.cache.layout import (
    FORMAT_VERSION,
    LEADING_BYTES,
    LeadingBlock,
    Table,
    content_digest,
    encode_leading_block,
)

_CHUNK = 1 << 22


def write_tables(path: Path, header: Mapping[str, str], tables: Mapping[str, Table]) -> str:
    """Write attributes and tables into a `FramesFile` that was closed; return the content digest.

    The bytes depend on nothing but what is written: no times, no random names.

    Raises:
        CacheError: The file cannot be written.
    """
    digest = content_digest(header, tables)
    with writing(path), h5py.File(path, "r+", libver=LIBVER) as file:
        for name in sorted(tables):
            file.create_dataset(name, data=tables[name])
        for name in sorted(header):
            file.attrs[name] = np.bytes_(header[name].encode())
        file.attrs["digest"] = np.bytes_(digest.encode())
    return digest


def seal(temporary: Path, final: Path, digest: str) -> None:
    """Put the leading block in front, force the file to disk, and give it its name.

    Raises:
        CacheError: The file cannot be written; nothing has the final name then.
    """
    with writing(final):
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
