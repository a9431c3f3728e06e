"""Damage small HDF5 recordings in many ways and read each, in child processes: the HDF5 library is C, and may crash.

    python tests/tools/fuzz_hdf5.py --count 200000

Prints how many were decoded, refused in one line, or killed their process.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

TIMEOUT_S = 60


class Result(NamedTuple):
    tried: int
    decoded: int
    refused: int
    died: list[str]


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


def work(seed: int, first: int, count: int) -> None:
    """Read `count` damaged files; before each its number is printed, after it one letter."""
    from tmkt_data.errors import EventError
    from tmkt_data.io.hdf5 import load_hdf5

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        valid = seeds(folder)
        path = folder / "a.h5"
        for number in range(first, first + count):
            rng = random.Random(f"{seed} {number}")
            path.write_bytes(mutate(rng, rng.choice(valid), valid))
            sys.stdout.write(f"{number} ")
            sys.stdout.flush()
            try:
                load_hdf5(path)
                sys.stdout.write("d\n")
            except EventError as refused:
                text = str(refused)
                sys.stdout.write("r\n" if text.startswith("a.h5: ") and "\n" not in text else f"x {text!r}\n")


def run(count: int, seed: int, batch: int = 2000) -> Result:
    decoded, refused, died = 0, 0, []
    first = 0
    while first < count:
        size = min(batch, count - first)
        command = [sys.executable, __file__, "--work", str(seed), str(first), str(size)]
        try:
            child = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
            output, code = child.stdout, child.returncode
        except subprocess.TimeoutExpired as late:
            output = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
            code = "no end"
        lines = output.splitlines()
        decoded += sum(line.endswith(" d") for line in lines)
        refused += sum(line.endswith(" r") for line in lines)
        strange = [line for line in lines if not line.endswith((" d", " r"))]
        ended = len(lines) - len(strange)
        if ended < size:
            died.append(f"{strange[-1] if strange else f'{first + ended}'} ended with {code}")
            first += ended + 1
        else:
            first += size
    return Result(count, decoded, refused, died)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=int, nargs=3)
    given = parser.parse_args()
    if given.work:
        work(*given.work)
        return
    started = time.perf_counter()
    result = run(given.count, given.seed)
    seconds = time.perf_counter() - started
    sys.stdout.write(
        f"{result.tried:,} files in {seconds:.0f} s: {result.decoded:,} decoded, {result.refused:,} refused, "
        f"{len(result.died)} killed their process or never ended\n"
    )
    for line in result.died[:20]:
        sys.stdout.write(f"  {line}\n")


if __name__ == "__main__":
    main()
