"""Files in and out: read with errors of one line, written whole or not at all, and hashed."""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO, FileIO
from pathlib import Path
from typing import IO, Any, TypeVar

import xxhash

from tmkt_data.errors import NO_FLOCK, EventError, TmktError, write_failure
from tmkt_data.spec import Sync
from tmkt_data.storage.member_files import open_member

_File = TypeVar("_File")
OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe without O_NONBLOCK waits for a writer."""
_REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EAGAIN, errno.EWOULDBLOCK, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTUNREACH, getattr(errno, "EUCLEAN", -1), *NO_FLOCK),
)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def read_bytes(path: str | Path, *, limit: int = -1, error: type[TmktError] = EventError) -> bytes:
    """Read a whole file, or its first `limit` bytes.

    Raises:
        TmktError: Of class `error`: the file is missing, a folder, a pipe or a device, or cannot be read.
    """
    with opened(path, error) as file:
        return file.read(limit)


def decode_text(data: bytes, errors: str = "strict") -> str:
    """Decode a text that someone wrote: UTF-8, or UTF-16 with a byte order mark, as some editors on Windows save it.

    Args:
        data: The bytes; a byte order mark is left out.
        errors: As in `bytes.decode`.

    Raises:
        UnicodeDecodeError: It is neither, where `errors` is `"strict"`.

    Example:
        >>> decode_text(codecs.BOM_UTF8 + b"a = 1"), decode_text("a = 1".encode("utf-16"))
        ('a = 1', 'a = 1')
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace" if errors == "surrogateescape" else errors)
    return data.decode("utf-8-sig", errors)


def open_file(path: str | Path, _: int = 0) -> int:
    """Open a file for reading, as the `opener` of `FileIO`; a pipe is opened without waiting for its writer."""
    return os.open(path, OPEN_FLAGS)


@contextmanager
def opened(path: str | Path, error: type[TmktError]) -> Iterator[FileIO | BytesIO]:
    """Open a regular file or a member for reading; what goes wrong, here and in the block, is an error of one line.

    Raises:
        TmktError: As `read_bytes`.
    """
    try:
        # One fstat on the open file and no buffer: this runs for every file of a dataset.
        with open_member(path) or FileIO(path, "rb", opener=open_file) as file:
            if isinstance(file, FileIO) and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise error(f"{path}: a pipe or a device, expected a file; copy what it gives into one")
            yield file
    except FileNotFoundError as missing:
        raise error(f"{path}: no such file; check the path") from missing
    except IsADirectoryError as folder:
        raise error(f"{path}: a folder, expected a file; name one file in it") from folder
    except OSError as broken:
        raise error(f"{path}: cannot be read ({broken.strerror or broken})") from broken
    except ValueError as impossible:
        raise error(f"{str(path)!r}: not a valid file name ({impossible})") from impossible


@contextmanager
def atomic_write(path: Path, *, sync: Sync = "content", error: type[TmktError] = TmktError) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name, and rename it when the block has ended.

    The temporary file lies in the same folder and is called `.NAME.tmp`. It is removed if the block raises; one that a
    killed process left is taken by the next who writes that file. While several write it, they use random names.

    Args:
        path: File to write. An earlier file of that name stays until the new one is complete.
        sync: `content` forces the bytes to disk before the renaming: after a loss of power there is the earlier file or
            the new one. `name` forces the renaming to disk, too: there is the new one. `nothing` is for files that are
            checked when they are read.
        error: Class of the error.

    Yields:
        A binary file, to be written and read.

    Raises:
        TmktError: Of class `error`: the file cannot be written, or is a pipe or a device. The earlier one is untouched.
    """
    require_replaceable(path, error)
    temporary: Path | None = None
    try:
        temporary, opener = _temporary(path)
        with open(temporary, "r+b" if opener else "x+b", opener=opener) as file:
            yield file
            file.flush()
            if sync != "nothing":
                os.fsync(file.fileno())
            if opener:
                # Before its lock ends: the next who writes the file would take it.
                temporary.replace(path)
                temporary = None
        if temporary is not None:
            temporary.replace(path)
            temporary = None
        if sync == "name":
            sync_folder(path.parent)
    except BaseException as broken:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        if isinstance(broken, OSError):
            raise error(f"{write_failure(path, broken)}, what was there before is kept") from broken
        raise


def _temporary(path: Path) -> tuple[Path, Callable[[str, int], int] | None]:
    """Return a temporary name, and an opener of its file where it is locked by this writer; it is empty then."""
    temporary, other = (path.with_name(f".{path.name}.{mark}tmp") for mark in ("", f"{os.urandom(4).hex()}."))
    try:
        import fcntl

        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except (ImportError, PermissionError, IsADirectoryError):
        return other, None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who held the lock before may have renamed the file.
        if os.path.samestat(os.fstat(handle), temporary.stat()):
            os.ftruncate(handle, 0)
            return temporary, lambda *_: handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        with suppress(OSError):
            temporary.unlink()
    os.close(handle)
    return other, None


def write_bytes(
    path: Path, data: bytes | memoryview, *, sync: Sync = "content", error: type[TmktError] = TmktError
) -> None:
    """Write a file as `atomic_write` does; errors as there. Unless `sync` is `nothing`, it is read back first."""
    with atomic_write(path, sync=sync, error=error) as file:
        file.write(data)
        if sync != "nothing":
            file.flush()
            # Not through the buffer of the file, which holds what was written to it.
            stored = FileIO(file.fileno(), closefd=False)
            stored.seek(0)
            if checksum(stored.read()) != checksum(data):
                raise error(f"{path}: does not hold what was just written to it; check the disk, and run it again")


def open_hdf5(opener: Callable[..., _File], path: Path) -> _File:
    """Open a finished HDF5 file for reading, also where HDF5 cannot lock it; nobody writes it any more.

    Unlocked at once, it could not be opened beside the handles of others in this process: HDF5 wants one setting.
    """
    try:
        return opener(path, "r")
    except OSError as broken:
        if "lock" not in str(broken):
            raise
        return opener(path, "r", locking=False)


def is_refused(broken: BaseException | None) -> bool:
    """Return whether the system refused to open or read a file, which says nothing of its content."""
    while broken is not None:
        if isinstance(broken, OSError) and broken.errno in _REFUSALS:
            return True
        broken = broken.__cause__ or broken.__context__
    return False


def require_replaceable(path: Path, error: type[TmktError]) -> None:
    """Check that a file may be renamed to a path: nothing is there, or a file; also behind a link.

    Raises:
        TmktError: Of class `error`: a pipe or a device is there, which the renaming would remove.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        # Nothing is there, or what is wrong is said by who opens it.
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise error(f"{path}: a pipe or a device, expected a file; name another")


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk, where the system can; raise `OSError` where the disk is broken."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as broken:
        # Some network file systems sync folders by themselves and refuse to be asked.
        if broken.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def checksum(data: Any) -> int:
    """Return the XXH3-64 of some bytes, 0 to 2**64 - 1.

    It tells damaged and edited bytes from whole ones; it does not protect against forgery.

    Args:
        data: Bytes, or a contiguous array, whose bytes are taken in C order.

    Example:
        >>> f"{checksum(b'events'):016x}"
        '61f51ddbc751e8af'

    Source: https://github.com/Cyan4973/xxHash
    """
    return xxhash.xxh3_64_intdigest(data)


def file_digest(path: Path, algorithm: str, *, error: type[TmktError]) -> str:
    """Return the digest of the content of a file, in hexadecimal digits.

    Args:
        path: The file; it is read a piece at a time.
        algorithm: `xxh3` for its `checksum`, or a name of `hashlib`, such as `sha256` or `md5`.
        error: Class of the error.

    Raises:
        TmktError: As `read_bytes`.
    """
    with opened(path, error) as file:
        make = xxhash.xxh3_64 if algorithm == "xxh3" else lambda: hashlib.new(algorithm, usedforsecurity=False)
        return hashlib.file_digest(file, make).hexdigest()
