"""NumPy files from untrusted sources: no Python objects, no more memory than the file justifies."""

from __future__ import annotations

import io
import math
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from tmkt_data.errors import EventError, printable, warnings_ignored

MAX_RATIO = 200
"""Members of an archive may unpack to this many times the size of the file, plus `FREE_BYTES`."""
FREE_BYTES = 1 << 20
MAX_MEMBERS = 64
_HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_ENCRYPTED = 0x1
DAMAGE = (
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    OverflowError,
    RecursionError,
    MemoryError,
    EOFError,
    UnicodeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy's header parser and `zipfile` raise on damaged bytes."""


def read_npy_header(stream: IO[bytes], num_bytes: int, place: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array, and leave the stream at its data.

    Args:
        stream: At the start of the file.
        num_bytes: Size of the file.
        place: Prefix of error messages.

    Returns:
        Shape, whether the array is in Fortran order, and type.

    Raises:
        EventError: As `read_npy`.
    """
    try:
        version = npy_format.read_magic(stream)
        if version not in _HEADERS:
            raise EventError(f"{place}: npy version {version[0]}.{version[1]}, expected 1.0 or 2.0; save it anew")
        # NumPy warns about headers of old versions.
        with warnings_ignored:
            shape, fortran, dtype = _HEADERS[version](stream)
        read_bytes = stream.tell()
    except DAMAGE as broken:
        reason = (str(broken).splitlines() or [type(broken).__name__])[0][:100]
        raise EventError(f"{place}: no readable npy header ({reason}); the file is damaged") from None
    if dtype.hasobject:
        raise EventError(f"{place}: Python objects (pickle), which are never loaded; save plain arrays instead")
    if any(side < 0 for side in shape) or dtype.itemsize == 0 or dtype.subdtype is not None:
        raise EventError(f"{place}: shape {shape} of {dtype}, expected numbers; the file is damaged")
    expected = math.prod(shape) * dtype.itemsize
    if expected != num_bytes - read_bytes:
        raise EventError(
            f"{place}: {num_bytes - read_bytes} bytes after the header, expected {expected} for shape {shape} of "
            f"{dtype}; the file is truncated or damaged"
        )
    return shape, fortran, dtype


def read_npy(stream: IO[bytes], num_bytes: int, place: str) -> NDArray[Any]:
    """Read one array.

    Args:
        stream: At the start of the file.
        num_bytes: Size of the file.
        place: Prefix of error messages.

    Raises:
        EventError: No NumPy file, a truncated one, or one of Python objects, which are never loaded.
    """
    shape, fortran, dtype = read_npy_header(stream, num_bytes, place)
    expected = math.prod(shape) * dtype.itemsize
    try:
        data = stream.read(expected)
    except DAMAGE as broken:
        raise EventError(f"{place}: cannot be unpacked ({str(broken)[:100]}); the file is damaged") from None
    if len(data) != expected:
        raise EventError(f"{place}: {len(data)} bytes of data, expected {expected}; the file is truncated")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_npz(data: bytes, place: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of an archive by name.

    Raises:
        EventError: No archive, a damaged or encrypted one, two members of the same name, members that are no arrays or
            hold Python objects, or members that unpack to more than `MAX_RATIO` times the size of the file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            check_members(members, len(data), place)
            return {member.filename.removesuffix(".npy"): _read_member(archive, member, place) for member in members}
    except (*DAMAGE, NotImplementedError, OSError) as broken:
        raise EventError(f"{place}: no readable npz archive ({str(broken)[:100]}); the file is damaged") from None


def check_members(members: list[zipfile.ZipInfo], num_bytes: int, place: str) -> None:
    """Refuse an archive that is not one of arrays.

    Args:
        members: Members that the archive lists.
        num_bytes: Size of the file.
        place: Prefix of error messages.

    Raises:
        EventError: As `read_npz`.
    """
    names = [member.filename for member in members]
    if not names or len(names) > MAX_MEMBERS:
        raise EventError(f"{place}: {len(names)} members, expected 1 to {MAX_MEMBERS} arrays")
    if len(set(names)) < len(names):
        raise EventError(f"{place}: two members of one name, expected one each; the file is damaged")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise EventError(f"{place}: member {member.filename[:60]!r}, expected arrays (.npy); no npz file of events")
        if member.flag_bits & _ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise EventError(f"{place}: member {member.filename[:60]!r} is encrypted or packed as NumPy never does")
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_RATIO * num_bytes + FREE_BYTES:
        raise EventError(
            f"{place}: {unpacked} bytes unpacked, expected at most {MAX_RATIO} times the {num_bytes} of the file; "
            "it looks like a zip bomb"
        )


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str) -> NDArray[Any]:
    with archive.open(member) as stream:
        return read_npy(stream, member.file_size, f"{place}, {printable(member.filename[:60])}")


class Member(NamedTuple):
    """An array to write.

    Attributes:
        name: Its name.
        shape: Its shape.
        dtype: Its type.
        data: A file of its bytes in C order.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: Any


def write_npz(file: IO[bytes], members: Iterable[Member]) -> None:
    """Write an archive as `numpy.savez_compressed` does, from arrays in files.

    Args:
        file: Open for writing and seeking.
        members: The arrays.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape, dtype, data in members:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                about = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                npy_format.write_array_header_1_0(member, about)
                data.seek(0)
                shutil.copyfileobj(data, member, 1 << 20)
