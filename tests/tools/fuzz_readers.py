"""Feed damaged recordings to every own decoder: each must decode or give one line, and nothing else.

    python tests/tools/fuzz_readers.py --inputs 10000000 --seed 0
    python tests/tools/fuzz_readers.py --inputs 1000000 --seed 0 --pieces
    NUMBA_BOUNDSCHECK=1 python tests/tools/fuzz_readers.py --inputs 1000000 --seed 1

Inputs are small valid files with bytes changed, cut, doubled or filled in; the same seed gives the same ones.
"""

from __future__ import annotations

import argparse
import atexit
import io
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tmkt_data.errors import EventError
from tmkt_data.events.events import EVENT_DTYPE, Events
from tmkt_data.events.read import Reading, decode_recording
from tmkt_data.events.stream import read_pieces

MAX_EVENTS_PER_BYTE = 12
"""No format holds more events in a byte than 12 of a vector in 2 bytes; deflate may pack arrays, hence the factor."""
MAGIC_VALUES = [
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
    b"%",
    b"#",
    b"\n",
]
ROWS = [(1000, 5, 9, True), (1001, 6, 9, False), (2500, 7, 120, True)]
FOLDER = Path(tempfile.mkdtemp(prefix="tmkt-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
PIECE_BYTES = 16
_U4 = np.dtype([("t", "<u4"), ("x", "u1"), ("y", "u1"), ("p", "?")])


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _npz(save: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    t, x, y, p = (np.array(column) for column in zip(*ROWS, strict=True))
    save(buffer, t=t, x=x, y=y, p=p, sensor_size=np.array([128, 128]))
    return buffer.getvalue()


def _mat() -> bytes:
    buffer = io.BytesIO()
    t, x, y, p = (np.array(column, np.float64) for column in zip(*ROWS, strict=True))
    savemat(buffer, {"ts": t, "x": x, "y": y, "p": p}, do_compression=True)
    return buffer.getvalue()


def seeds() -> dict[str, tuple[str, bytes]]:
    """Return a file name and the bytes of a small valid recording for each format."""
    packet = struct.pack("<hhiiiiii", 1, 0, 8, 4, 0, 4, 3, 3)
    packet += b"".join(struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in ROWS) + bytes(8)
    evt2 = [0x8000000F, 0x1A002809, 0x0A403009, 0x80000027, 0x11003878]
    evt21 = [(8 << 60) | (15 << 32), (1 << 60) | (40 << 54) | (5 << 43) | (9 << 32) | 0x50000003]
    evt3 = [0x8000, 0x63E8, 0x0009, 0x2805, 0x3006, 0x4A55, 0x50F1, 0x63E9, 0x2007]
    return {
        "atis": ("a.bin", b"".join(struct.pack(">BBBH", x, y, p << 7, t) for t, x, y, p in ROWS)),
        "atis-wrap": (
            "a.bin",
            b"".join((x << 32 | y << 24 | p << 23 | (t - 1001) % 2**23).to_bytes(5, "big") for t, x, y, p in ROWS * 2),
        ),
        "aedat2": (
            "a.aedat",
            b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n"
            + b"".join(struct.pack(">2I", y << 8 | x << 1 | p, t) for t, x, y, p in ROWS),
        ),
        "davis": (
            "a.aedat",
            b"#!AER-DAT2.0\r\n# AEChip: DAVIS346B\r\n"
            + b"".join(struct.pack(">2I", y << 22 | x << 12 | p << 11, t) for t, x, y, p in ROWS),
        ),
        "aedat3": ("a.aedat", b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + packet + packet),
        "dat": (
            "a.dat",
            b"% Version 2\n% Width 304\n% Height 240\n\x0c\x08"
            + b"".join(struct.pack("<2I", t, p << 28 | y << 14 | x) for t, x, y, p in ROWS),
        ),
        "dat-wrap": (
            "a.dat",
            b"\x00\x08"
            + b"".join(struct.pack("<2I", (t - 1001) % 2**32, p << 28 | y << 14 | x) for t, x, y, p in ROWS),
        ),
        "evt2": ("a.raw", b"% evt 2.0\n% geometry 640x480\n" + struct.pack("<5I", *evt2)),
        "evt21": ("a.raw", b"% evt 2.1\n% end\n" + struct.pack("<2Q", *evt21)),
        "evt3": ("a.raw", b"% format EVT3;height=480;width=640\n% end\n" + struct.pack("<9H", *evt3)),
        "es": ("a.es", b"Event Stream\x02\x00\x00\x01\x80\x00\x80\x00" + bytes([255, 7, 5, 0, 9, 0, 2, 6, 0, 9, 0])),
        "npy": ("a.npy", _npy(np.array(ROWS, EVENT_DTYPE))),
        "npy-wrap": ("a.npy", _npy(np.array([((t - 1001) % 2**32, *row) for t, *row in ROWS], _U4))),
        "npz": ("a.npz", _npz(np.savez)),
        "npz-deflated": ("a.npz", _npz(np.savez_compressed)),
        "mat": ("a.mat", _mat()),
    }


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """Change a file in one to four places."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(0, len(changed) + 1))
        match int(random.integers(0, 7)):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << int(random.integers(0, 8))
            case 1 if changed:
                changed[at % len(changed)] = int(random.integers(0, 256))
            case 2:
                del changed[at:]
            case 3:
                value = MAGIC_VALUES[int(random.integers(0, len(MAGIC_VALUES)))]
                changed[at : at + len(value)] = value
            case 4:
                changed[at:at] = random.bytes(int(random.integers(1, 9)))
            case 5:
                end = at + int(random.integers(1, 17))
                changed[at:at] = changed[at:end]
            case 6:
                del changed[at : at + int(random.integers(1, 9))]
    return bytes(changed)


def check(name: str, data: bytes) -> str:
    """Decode one input; return `decoded` or `refused`.

    Raises:
        AssertionError: An error of more than one line or without its place, or a record that cannot be.
    """
    try:
        events = decode_recording(data, Path(name), Reading())
    except EventError as problem:
        text = str(problem)
        assert text.startswith((f"{name}: ", f"{name}, ")), text
        assert "\n" not in text, text
        return "refused"
    assert isinstance(events, Events)
    assert len(events) <= MAX_EVENTS_PER_BYTE * len(data) + 200 * len(data) * name.endswith((".npz", ".mat"))
    if events.sensor_size is not None and len(events):
        assert events.extent[2] < events.sensor_size.width
        assert events.extent[3] < events.sensor_size.height
    return "decoded"


def check_pieces(name: str, data: bytes) -> str:
    """Decode one input at once and in pieces of a few bytes, which must end in the same way.

    Raises:
        AssertionError: They do not, but for times that step back too far to be put in order in pieces, and for archives
            whose other members are damaged.
    """
    path = FOLDER / name
    path.write_bytes(data)
    try:
        pieces = list(read_pieces(path, Reading(), PIECE_BYTES))
    except EventError as problem:
        text = str(problem)
        assert text.startswith((f"{name}: ", f"{name}, ")), text
        assert "\n" not in text, text
        if "time steps back to" not in text:
            assert check(name, data) == "refused", text
        return "refused"
    try:
        whole = decode_recording(data, path, Reading())
    except EventError:
        if not name.endswith(".npz"):
            raise
        return "decoded"
    for column in "txyp":
        parts = [getattr(piece, column) for piece in pieces]
        np.testing.assert_array_equal(np.concatenate(parts) if parts else np.empty(0), getattr(whole, column))
    for count in ("num_read", "num_wraps"):
        assert sum(getattr(piece, count) for piece in pieces) == getattr(whole, count), count
    dropped: Counter[str] = Counter()
    for piece in pieces:
        dropped.update(piece.num_dropped)
    assert dropped == whole.num_dropped
    return "decoded"


def fuzz(
    num_inputs: int, seed: int, formats: list[str] | None = None, *, in_pieces: bool = False
) -> Iterator[tuple[str, Counter[str], float]]:
    """Feed `num_inputs` damaged files, shared out evenly; yield the format, what became of them, and the seconds."""
    checked = check_pieces if in_pieces else check
    chosen = {name: seed_file for name, seed_file in seeds().items() if not formats or name in formats}
    if in_pieces:
        chosen.pop("mat", None)
    for number, (kind, (name, data)) in enumerate(chosen.items()):
        random = np.random.default_rng([seed, number])
        ends: Counter[str] = Counter()
        started = time.perf_counter()
        for index in range(num_inputs // len(chosen)):
            given = damaged(data, random)
            try:
                ends[checked(name, given)] += 1
            except BaseException:
                sys.stdout.write(f"{kind}, seed {seed}, input {index}: {given.hex()}\n")
                raise
        yield kind, ends, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pieces", action="store_true", help="decode each at once and in pieces, and compare")
    parser.add_argument("--format", action="append", choices=sorted(seeds()))
    options = parser.parse_args()
    total = 0
    for kind, ends, seconds in fuzz(options.inputs, options.seed, options.format, in_pieces=options.pieces):
        num = ends.total()
        total += num
        line = f"{num:>10,} inputs  {ends['decoded']:>10,} decoded  {ends['refused']:>10,} refused"
        sys.stdout.write(f"{kind:<13} {line}  {num / seconds:>9,.0f}/s\n")
        sys.stdout.flush()
    sys.stdout.write(f"{total:,} inputs, no other end than these\n")


if __name__ == "__main__":
    main()
