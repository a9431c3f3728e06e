"""Flip every bit of a cache that is not of an array, and compare what is decoded.

    python -m tests.faults.metadata_bits --storage plain --json bits.json
    python -m tests.faults.metadata_bits --storage compressed --every 100 --first 7

Each try has to give the same data or an error of one line. Bits are tried in child processes: one that a signal ends,
or that does not finish, is seen from outside.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from tests.data import trees
from tests.faults.tally import Tally
from tmkt_data.cache.compress import compress_cache
from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import CacheError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare

STORAGES = ("plain", "compressed")
TIMEOUT_S = 60
_VERDICTS = {"e": "equal", "r": "refused", "w": "wrong", "t": "traceback", "l": "lines"}
GOOD = ("equal", "refused")


class Decoded(NamedTuple):
    """All that a reader gets of a cache, but for the version of tmkt that wrote it, which no digest covers."""

    header: dict[str, str]
    arrays: dict[str, np.ndarray[Any, Any]]

    @classmethod
    def of(cls, path: Path) -> Decoded:
        cache = Cache(path)
        arrays = dict(cache.tables)
        arrays["read events"] = cache.event_frames(np.arange(cache.info.num_recordings))
        arrays["read images"] = cache.image_frames(np.arange(cache.info.num_images))
        if cache.has_spikes:
            arrays["read spikes"] = cache.image_spikes(np.arange(cache.info.num_images))
        return cls({name: text for name, text in cache.header.items() if name != "tool_version"}, arrays)

    def equals(self, other: Decoded) -> bool:
        return (
            self.header == other.header
            and self.arrays.keys() == other.arrays.keys()
            and all(
                array.dtype == other.arrays[name].dtype and np.array_equal(array, other.arrays[name])
                for name, array in self.arrays.items()
            )
        )


def write_cache(folder: Path, storage: str) -> Path:
    """Write a small cache that has every kind of array."""
    root = trees.write_nmnist(folder / "tree", per_digit=1, test_per_digit=1, digits=2)
    spec = default_spec("nmnist").from_dict({"time_bins": 2, "size": 4, "bake": "poisson", "canvas": "fixed"})
    path = folder / "plain.h5"
    for _ in prepare_cache(plan_prepare(open_catalogue("nmnist", root), spec, path)):
        pass
    if storage == "plain":
        return path
    for _ in compress_cache(path, folder / "compressed.h5"):
        pass
    return folder / "compressed.h5"


def metadata_bytes(path: Path) -> list[int]:
    """Return the offsets of all bytes of a cache that hold no values of an array."""
    is_metadata = np.ones(path.stat().st_size, bool)

    def exclude(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            chunks = [] if item.chunks is None else [item.id.get_chunk_info(n) for n in range(item.id.get_num_chunks())]
            for chunk in chunks:
                is_metadata[chunk.byte_offset : chunk.byte_offset + chunk.size] = False
            if item.chunks is None and item.id.get_offset() is not None:
                is_metadata[item.id.get_offset() :][: item.nbytes] = False

    with h5py.File(path, locking=False) as file:
        file.visititems(exclude)
    return np.flatnonzero(is_metadata).tolist()


class Bits:
    """Tries of single bits of a cache, in child processes."""

    def __init__(self, path: Path) -> None:
        self._whole, self._folder = path.read_bytes(), path.parent
        self._expected = Decoded.of(path)

    def verdicts(self, bits: Sequence[int]) -> Iterator[tuple[int, str, str]]:
        """Yield each bit, its verdict, and what was said."""
        at = 0
        while at < len(bits):
            for verdict, said in self._in_a_child(bits[at:]):
                yield bits[at], verdict, said
                at += 1

    def _in_a_child(self, bits: Sequence[int]) -> Iterator[tuple[str, str]]:
        """Yield verdicts until one ends the child."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            self._try_all(bits, writer)
        os.close(writer)
        done = 0
        with os.fdopen(reader, "rb") as answers:
            while done < len(bits):
                if not select.select([answers], [], [], TIMEOUT_S)[0]:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    yield "hang", ""
                    return
                line = answers.readline().decode()
                if not line:
                    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    yield "signal", f"exit {status}"
                    return
                yield _VERDICTS[line[0]], line[1:].strip()
                done += 1
        os.waitpid(child, 0)

    def _try_all(self, bits: Sequence[int], writer: int) -> None:
        """Try bits one after the other, write a line for each, and end this process."""
        try:
            for number, bit in enumerate(bits):
                letter, said = self._try(bit, self._folder / f"flipped-{os.getpid()}-{number}.h5")
                os.write(writer, f"{letter}{said[:300]!r}\n".encode() if said else f"{letter}\n".encode())
        finally:
            os._exit(0)

    def _try(self, bit: int, path: Path) -> tuple[str, str]:
        changed = bytearray(self._whole)
        changed[bit // 8] ^= 1 << bit % 8
        # A file of its own for each: HDF5 keeps what it knows of a file that it could not close.
        path.write_bytes(changed)
        try:
            return ("e", "") if Decoded.of(path).equals(self._expected) else ("w", "other data")
        except CacheError as refused:
            text = str(refused)
            return ("r", "") if path.name in text and "\n" not in text else ("l", text)
        except BaseException as other:  # noqa: BLE001 - a verdict
            return "t", f"{type(other).__name__}: {other}"
        finally:
            path.unlink()


def campaign(folder: Path, storage: str, *, every: int = 1, first: int = 0) -> dict[str, Any]:
    """Flip bits of the metadata of a cache.

    Args:
        folder: An empty folder to write to.
        storage: How its arrays are stored, one of `STORAGES`.
        every: Try one of so many bits.
        first: The first bit to try.

    Returns:
        A row of the summary: number of bits, tries, verdicts by name, and failures.
    """
    started = time.perf_counter()
    path = write_cache(folder, storage)
    all_bits = [8 * at + bit for at in metadata_bytes(path) for bit in range(8)]
    tally = Tally(GOOD)
    for bit, verdict, said in Bits(path).verdicts(all_bits[first::every]):
        tally.add(verdict, said, byte=bit // 8, bit=bit % 8)
    seconds = round(time.perf_counter() - started)
    return {"storage": storage, "bits": len(all_bits), **tally.summary(), "seconds": seconds}


def main() -> None:
    """Run the campaign that the command line asks for; exit 1 where a try was not good."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.metadata_bits", description=__doc__.splitlines()[0])
    parser.add_argument("--storage", action="append", choices=STORAGES, help="Can be repeated.  [default: both]")
    parser.add_argument("--every", type=int, default=1, help="Try one of so many bits.")
    parser.add_argument("--first", type=int, default=0, help="The first bit to try.")
    parser.add_argument("--json", type=Path, help="File to write the summary to.")
    options = parser.parse_args()
    rows = []
    memory = Path("/dev/shm")
    for storage in options.storage or STORAGES:
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            rows.append(campaign(Path(folder), storage, every=options.every, first=options.first))
        row = rows[-1]
        sys.stdout.write(
            f"{storage}: {row['tries']:,} of {row['bits']:,} bits in {row['seconds']} s, {row['verdicts']}\n"
        )
        for failure in row["failures"]:
            sys.stdout.write(f"    {failure}\n")
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["failures"] for row in rows))


if __name__ == "__main__":
    main()
