"""Read caches of every storage by many threads and processes at the same time, and compare each row.

python -m tests.faults.readers --reads 10000 --json readers.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.data import trees
from tmkt_data.cache.compress import compress_cache
from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import CacheError
from tmkt_data.files import checksum
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare

SPECS: dict[str, dict[str, object]] = {"uint8": {}, "float32": {"representation": "voxel"}}
STORAGES = tuple(f"{layout} {dtype}" for dtype in SPECS for layout in ("contiguous", "compressed"))
WAYS = ("threads", "fork", "spawn")
NUM_THREADS, NUM_PROCESSES, ROWS = 8, 3, 4


def write_cache(folder: Path, storage: str) -> Path:
    """Write a cache of a storage, one of `STORAGES`."""
    layout, dtype = storage.split()
    root = trees.write_nmnist(folder / "tree", per_digit=12, test_per_digit=3, digits=4)
    spec = default_spec("nmnist").from_dict({"size": 16, "bake": "poisson", **SPECS[dtype]})
    path = folder / "contiguous.h5"
    for _ in prepare_cache(plan_prepare(open_catalogue("nmnist", root), spec, path)):
        pass
    if layout == "compressed":
        for _ in compress_cache(path, folder / "compressed.h5"):
            pass
    return folder / f"{layout}.h5"


class Readers:
    """Readers of one cache, all of which share the open `Cache`.

    Args:
        path: The cache.
    """

    def __init__(self, path: Path) -> None:
        whole = Cache(path)
        self._expected = {name: frames.rows(np.arange(frames.shape[0])) for name, frames in whole.arrays.items()}
        # Not read from yet: whoever comes first opens the frames.
        self._cache = Cache(path)

    def read(self, seed: int) -> str:
        """Return how one read of some rows of one array ends."""
        rng = np.random.default_rng(seed)
        name = sorted(self._expected)[seed % len(self._expected)]
        rows = rng.integers(0, len(self._expected[name]), ROWS)
        try:
            found = self._cache.arrays[name].rows(rows)
        except CacheError as refused:
            return f"refused: {refused}"
        return "equal" if checksum(found) == checksum(self._expected[name][rows]) else "wrong"

    def in_threads(self, seeds: range) -> Counter[str]:
        """Return the ends of reads in threads."""
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            return Counter(pool.map(self.read, seeds))

    def in_processes(self, seeds: range, method: str) -> Counter[str]:
        """Return the ends of reads in threads of several processes, this one included."""
        context: Any = multiprocessing.get_context(method)
        ends, shares = context.SimpleQueue(), [seeds[part :: NUM_PROCESSES + 1] for part in range(NUM_PROCESSES + 1)]
        children = [context.Process(target=_put, args=(ends, self.in_threads, share)) for share in shares[1:]]
        for child in children:
            child.start()
        total = self.in_threads(shares[0])
        for child in children:
            child.join()
            if child.exitcode:
                total[f"exit {child.exitcode}"] += 1
            else:
                total += ends.get()
        return total

    def ends(self, way: str, seeds: range) -> Counter[str]:
        """Return the ends of reads in one of `WAYS`."""
        return self.in_threads(seeds) if way == "threads" else self.in_processes(seeds, way)


def _put(ends: Any, read: Callable[[range], Counter[str]], seeds: range) -> None:
    ends.put(read(seeds))


def campaign(folder: Path, storage: str, reads: int) -> dict[str, Any]:
    """Read a cache in every way; return a row of the summary: reads and how they ended, by way."""
    started = time.perf_counter()
    path = write_cache(folder, storage)
    ends: dict[str, dict[str, int]] = {}
    for at, way in enumerate(WAYS):
        # A reader of each way, so that the first reads of all are at the same time.
        ends[way] = dict(Readers(path).ends(way, range(at * reads, at * reads + -(-reads // len(WAYS)))))
    return {"storage": storage, "ends": ends, "seconds": round(time.perf_counter() - started)}


def main() -> None:
    """Run the campaign that the command line asks for; exit 1 where a read did not give its rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.readers", description=__doc__.splitlines()[0])
    parser.add_argument("--reads", type=int, default=10_000, help="Reads of each storage.")
    parser.add_argument("--json", type=Path, help="File to write the summary to.")
    options = parser.parse_args()
    rows = []
    for storage in STORAGES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(campaign(Path(folder), storage, options.reads))
        sys.stdout.write(f"{storage}: {rows[-1]['ends']} in {rows[-1]['seconds']} s\n")
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps({"reads": rows}, indent=1) + "\n")
    sys.exit(any(set(ends) != {"equal"} for row in rows for ends in row["ends"].values()))


if __name__ == "__main__":
    main()
