"""Write HDF5 files so that a write that fails is an error of one line, and never a file that looks whole."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import h5py

from tmkt_data.cache.format import LEADING_BYTES
from tmkt_data.errors import CacheError, write_failure

_FROM_HDF5 = (OSError, RuntimeError, ValueError, KeyError, TypeError)
_CAUSE = re.compile(r"errno = (\d+), error message = '([^']*)'")


@contextmanager
def hdf5_output(path: Path, mode: Literal["w", "r+"]) -> Iterator[h5py.File]:
    """Open an HDF5 file for writing, behind an empty leading block; it is on its way to disk when the block has ended.

    HDF5 keeps what it could not write, tries again when it closes the file or the process ends, and crashes there. So
    no data wait in it: each write is made at once. After a failure what it still holds goes to a file without a name.

    Args:
        path: The file.
        mode: `w` creates the file or empties it, `r+` opens it to add to it.

    Raises:
        CacheError: The file cannot be written.
    """
    with writing(path):
        file = _open(path, mode)
        handle = int(file.id.get_vfd_handle())
    try:
        yield file
        with writing(path):
            file.flush()
            file.close()
    except BaseException:
        _detach(path, handle)
        with suppress(*_FROM_HDF5):
            file.close()
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is written into an error of one line.

    Raises:
        CacheError: The file cannot be written, such as on a full disk.
    """
    try:
        yield
    except _FROM_HDF5 as broken:
        cause = _cause(broken)
        if cause is None:
            raise
        raise CacheError(write_failure(path, cause)) from cause


def _cause(error: Exception) -> OSError | None:
    """Return the error of the system behind an error of h5py, or None where there is none."""
    # HDF5 reports a failed write as one of several classes, with the cause somewhere in its text of several lines.
    found = _CAUSE.search(str(error))
    if found:
        return OSError(int(found[1]), found[2])
    if isinstance(error, OSError) and error.errno and error.strerror:
        return error
    return OSError(errno.EIO, str(error).split("\n")[0]) if isinstance(error, (OSError, RuntimeError)) else None


def _open(path: Path, mode: Literal["w", "r+"]) -> h5py.File:
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_V110)
    access.set_file_locking(False, False)
    access.set_sieve_buf_size(0)
    if mode == "r+":
        return h5py.File(h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDWR, fapl=access))
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_userblock(LEADING_BYTES)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))


def _detach(path: Path, handle: int) -> None:
    """Let what HDF5 writes from now on to a file succeed, without changing the file."""
    with suppress(OSError):
        # Closed by HDF5, the number of the handle may already be that of another file.
        if os.path.samestat(os.fstat(handle), path.stat()):
            with _unnamed_file() as nowhere:
                os.dup2(nowhere, handle, inheritable=False)


@contextmanager
def _unnamed_file() -> Iterator[int]:
    if hasattr(os, "memfd_create"):
        # In memory, as the disk may be full.
        handle = os.memfd_create("tmkt")
        try:
            yield handle
        finally:
            os.close(handle)
    else:
        with tempfile.TemporaryFile() as file:
            yield file.fileno()
