"""Damage small HDF5 recordings in many ways and read each.

    python tests/tools/fuzz_hdf5.py --count 200000

Prints how many were decoded, and how many refused in one line; on some of these the HDF5 library itself crashes or
never ends, in the process that is there for it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events, validate_events
from tmkt_data.events.formats import hdf5


class Result(NamedTuple):
    tried: int
    decoded: int
    refused: int
    isolated: int
    """Of the refused, those on which the library crashed or did not end."""


def seeds(folder: Path) -> list[bytes]:
    """Small valid files: contiguous columns, compressed chunks, a table, a user block."""
    t = np.arange(40, dtype="i8") * 7
    columns = {"t": t, "x": (t % 11).astype("u2"), "y": (t % 5).astype("u2"), "p": (t % 2).astype("u1")}
    made = []
    for name, options in (("plain", {}), ("packed", {"chunks": (16,), "compression": "gzip", "shuffle": True})):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for key, column in columns.items():
                file.create_dataset(f"events/{key}", data=column, **options)
            file["t_offset"] = np.int64(5)
        made.append(folder / f"{name}.h5")
    table = np.zeros(40, [("x", "u2"), ("y", "u2"), ("p", "i2"), ("t", "i8")])
    for key, column in columns.items():
        table[key] = column
    for name, options in (("table", {}), ("latest", {"libver": "latest"}), ("block", {"userblock_size": 512})):
        with h5py.File(folder / f"{name}.h5", "w", **options) as file:
            file.create_group("CD").create_dataset("events", data=table, chunks=(8,), fletcher32=name == "latest")
            file["CD/events"].attrs["geometry"] = "40x30"
        made.append(folder / f"{name}.h5")
    return [path.read_bytes() for path in made]


def mutate(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out))
        match rng.randrange(6):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 2:
                out[at : at + 8] = rng.choice([b"\xff" * 8, bytes(8), b"\x00" * 7 + b"\x80", rng.randbytes(8)])
            case 3:
                del out[at : len(out) if rng.random() < 0.2 else at + rng.randint(1, 64)]
            case 4:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                piece = other[start : start + rng.randint(1, 200)]
                out[at : at + len(piece)] = piece
            case _:
                out[at:at] = rng.randbytes(rng.randint(1, 16))
        out = out or bytearray(1)
    return bytes(out)


def run(count: int, seed: int, time_limit_s: float = 2.0) -> Result:
    """Read `count` damaged files; anything but a recording or an error of one line is raised."""
    hdf5.TIME_LIMIT_S = time_limit_s
    found = Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        valid = seeds(Path(name))
        path = Path(name) / "a.h5"
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            data = mutate(rng, rng.choice(valid), valid)
            path.write_bytes(hdf5.MAGIC + data[8:])
            found[_outcome(path, number)] += 1
    return Result(count, found["decoded"], count - found["decoded"], found["isolated"])


def _outcome(path: Path, number: int) -> str:
    try:
        whole = hdf5.load_hdf5(path)
        if number % 4 == 0:
            _compare(whole, list(hdf5.hdf5_pieces(path, 7, sensor_size=None, keys=None, unit=None)), number)
    except EventError as refused:
        text = str(refused)
        if not text.startswith("a.h5: ") or "\n" in text:
            raise AssertionError(f"input {number}: {text!r}") from refused
        return "isolated" if "library crashed" in text else "refused"
    return "decoded"


def _compare(whole: Events, pieces: list[Events], number: int) -> None:
    """Pieces, put in order, are the whole."""
    columns = [np.concatenate([getattr(piece, name) for piece in pieces]) for name in "txyp"]
    together = validate_events(*columns)
    for name in "txyp":
        if not np.array_equal(getattr(together, name), getattr(whole, name)):
            raise AssertionError(f"input {number}: {name} differs in pieces")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.perf_counter()
    result = run(given.count, given.seed)
    seconds = time.perf_counter() - started
    sys.stdout.write(
        f"{result.tried:,} files in {seconds:.0f} s: {result.decoded:,} decoded, {result.refused:,} refused, of these "
        f"{result.isolated} after the library had crashed or not ended\n"
    )


if __name__ == "__main__":
    main()
