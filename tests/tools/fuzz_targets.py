"""Everything that reads foreign bytes: the decoders of `fuzz_readers`, and lists, pickles, images and archives."""

from __future__ import annotations

import atexit
import gzip
import io
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import fuzz_readers
import numpy as np

from tmkt_data.datasets.cepdvs import CLASS_NAMES, read_labels
from tmkt_data.datasets.esimagenet import read_sizes
from tmkt_data.datasets.folder_settings import read_settings
from tmkt_data.errors import TmktError
from tmkt_data.events.formats.pickles import read_pickle
from tmkt_data.events.read import Reading, decode_recording
from tmkt_data.events.slices import read_slices
from tmkt_data.events.stream import read_pieces
from tmkt_data.images.archives import read_cifar
from tmkt_data.images.decode import decode_image, read_idx
from tmkt_data.sources.archives import unpack_archives
from tmkt_data.sources.doctor import read_digests

FOLDER = Path(tempfile.mkdtemp(prefix="tmkt-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


class Target(NamedTuple):
    """A reader and small valid inputs of it."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def _as_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def run(data: bytes) -> object:
        path = FOLDER / name
        path.write_bytes(data)
        return read(path)

    return run


def _unpack(path: Path) -> int:
    target = FOLDER / "out"
    count = sum(1 for _ in unpack_archives({path: "."}, target))
    for found in sorted(FOLDER.rglob("*"), reverse=True):
        if not found.resolve().is_relative_to(FOLDER.resolve()):
            raise AssertionError(f"{found} lies outside")
        if target in found.parents:
            found.rmdir() if found.is_dir() else found.unlink()
    target.rmdir()
    return count


def _archives() -> tuple[bytes, bytes]:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.bin", b"12345" * 20)
        archive.writestr("b/2.bin", b"")
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        entry = tarfile.TarInfo("a/1.bin")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"12345"))
    return zipped.getvalue(), tarred.getvalue()


def _decoder(name: str) -> Target:
    file_name, data = fuzz_readers.seeds()[name]
    path = Path(file_name)
    return Target(lambda data: decode_recording(data, path, Reading()), (data,))


def _pieces(name: str) -> Target:
    file_name, data = fuzz_readers.seeds()[name]
    return Target(_as_file(file_name, lambda path: list(read_pieces(path, Reading(), 16))), (data,))


def targets() -> dict[str, Target]:
    """Return every target by name."""
    columns = {"t": np.arange(3), "x": np.zeros(3, "u1"), "y": np.zeros(3, "u1"), "p": np.zeros(3, "u1")}
    batch = {b"data": np.zeros((1, 3072), "u1"), b"labels": [3]}
    idx = b"\x00\x00\x08\x03" + np.array([2, 3, 4], ">u4").tobytes() + bytes(24)
    zipped, tarred = _archives()
    others = {
        "pickle": Target(lambda data: read_pickle(data, "here"), tuple(pickle.dumps(columns, n) for n in (2, 3, 4, 5))),
        "cifar": Target(_as_file("data_batch_1", read_cifar), (bytes(3073), pickle.dumps(batch, 2))),
        "idx": Target(_as_file("idx", lambda path: read_idx(path, 3)), (idx, gzip.compress(idx))),
        "slices": Target(_as_file("a.csv", read_slices), (b"class,start,end\n1,5,9\n11,9,2000\n",)),
        "cepdvs list": Target(
            _as_file("pathFile.csv", read_labels),
            (f"h\n0    {CLASS_NAMES[2]}\n1 a b c {CLASS_NAMES[9]}\n".encode(),),
        ),
        "esimagenet list": Target(_as_file("trainlabel.txt", read_sizes), (b"a.npz 1 200 150\nb.npz 999 1 256\n",)),
        "settings": Target(
            _as_file("tmkt.toml", read_settings), (b'sensor_size = [240, 180]\nunit = "ms"\nimages = ""\n',)
        ),
        "digests": Target(_as_file("sums", read_digests), (b"0" * 64 + b"  a/b c\n",)),
        "zip": Target(_as_file("a.zip", _unpack), (zipped,)),
        "tar": Target(_as_file("a.tar.gz", _unpack), (tarred,)),
        "image": Target(lambda data: decode_image(data, place="here"), (_png(),)),
    }
    names = fuzz_readers.seeds()
    pieces = {f"{name} in pieces": _pieces(name) for name in names if name != "mat"}
    return {name: _decoder(name) for name in names} | pieces | others


def _png() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def ends_well(target: Target, data: bytes) -> bool:
    """Read some bytes; return whether they were taken.

    Raises:
        AssertionError: An error of more than one line.
        Exception: Anything but a `TmktError`: a fault.
    """
    try:
        target.read(data)
    except TmktError as refused:
        text = str(refused)
        if "\n" in text or not text:
            raise AssertionError(f"no line: {text!r}") from refused
        return False
    return True
