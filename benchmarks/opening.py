"""Open a cache of a million made samples, as one file and as shards: time and memory.

    python benchmarks/opening.py --samples 1000000 --shards 20
    python benchmarks/opening.py --samples 40000 --shards 400 --read 7200

The samples have frames of 4 x 4 pixels, ids of 23 letters and 100 classes. Each opening runs in a process of its own
that has opened a small cache before, so that imports do not count. Given are the least processor time of three, which
other work on the machine changes less than the time on the clock, and how far the memory of the process rose.
With `--read`, so many samples in random order are read twice, batches of 120, both sides; the
second time counts. For Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tmkt_data import PairedFrames
from tmkt_data.cache.format import EVENT_TABLES, IMAGE_TABLES, Table, frame_arrays, text_table
from tmkt_data.cache.reader import Cache
from tmkt_data.cache.writer import FramesFile, seal, write_tables
from tmkt_data.files import checksum
from tmkt_data.spec import PrepareSpec

SPEC = PrepareSpec(time_bins=1, size=4)
HEADER = {
    "format": "tmkt-cache",
    "format_version": "3",
    "dataset": "folder",
    "spec": SPEC.to_json(),
    "facts": json.dumps({"sensor_size": [4, 4], "placement": [0, 0, 4, 4], "motion": "none", "split_layout": "drawn"}),
    "notes": "[]",
    "skipped": "[]",
    "tool_version": "made",
    "plan": "0" * 64,
}
NUM_CLASSES = 100


def tables_of(first: int, end: int) -> dict[str, Table]:
    """Return the tables of some samples, each with a twin."""
    per_class = 1_000_000 // NUM_CLASSES
    number = np.arange(first, end)
    label = (number // per_class % NUM_CLASSES).astype("<i4")
    ids = text_table([f"class{at // per_class:03d}/image_{at:08d}" for at in number.tolist()])
    codes = (number % 5).clip(1, 3).astype("u1")
    tables: dict[str, Table] = {"class_names": text_table([f"class{at:03d}" for at in range(NUM_CLASSES)])}
    tables |= {f"events/{name}": np.ones(len(ids), kind) for name, kind in EVENT_TABLES.items()}
    tables |= {f"images/{name}": np.ones(len(ids), kind) for name, kind in IMAGE_TABLES.items()}
    tables["events/twin"] = np.arange(len(ids), dtype="<i8")
    tables["events/frames_xxh3"][:] = checksum(np.zeros((1, 2, 4, 4), "u1"))
    tables["images/frames_xxh3"][:] = checksum(np.zeros((4, 4), "u1"))
    tables["events/overflow_start"] = np.zeros(len(ids) + 1, "<i8")
    tables |= {"events/overflow_cell": np.zeros(0, "<i8"), "events/overflow_count": np.zeros(0, "<u4")}
    for side in ("events", "images"):
        tables |= {f"{side}/id": ids, f"{side}/label": label}
        tables |= {f"{side}/split/{protocol}": codes for protocol in ("twin-disjoint", "kt-paper")}
    return tables


def write(path: Path, first: int, end: int) -> str:
    """Write a cache; return its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = FramesFile(path, frame_arrays(SPEC, end - first, end - first))
    for array in frames.arrays.values():
        frames.write(array.name, 0, np.zeros(array.shape, array.dtype))
    frames.close()
    digest = write_tables(path, HEADER, sorted(tables_of(first, end).items()))
    seal(path, digest, frames.digests)
    return digest


def write_shards(index: Path, num_samples: int, num_shards: int) -> None:
    """Write the same samples as shards and their index."""
    from tmkt_data.cache.shard_index import write_index
    from tmkt_data.cache.shard_set import ShardSet

    bounds = [num_samples * at // num_shards for at in range(num_shards + 1)]
    names = [f"{index.name}.shards/{at:05d}-of-{num_shards:05d}.h5" for at in range(1, num_shards + 1)]
    digests = [write(index.parent / names[at], bounds[at], bounds[at + 1]) for at in range(num_shards)]
    sizes = np.repeat(np.diff(bounds)[:, None], 2, axis=1)
    content = HEADER, sorted(tables_of(0, num_samples).items())
    write_index(ShardSet.of(index, names, digests, sizes), content, frame_arrays(SPEC, num_samples, num_samples))


def measure(kind: str, path: Path, small: Path) -> None:
    """Open here; print processor seconds, seconds, and the MB that came to the peak."""
    opener = {"Cache": Cache, "PairedFrames": PairedFrames}[kind]
    opener(small)
    before = _resident("VmRSS")
    busy, started = time.process_time(), time.perf_counter()
    opened = opener(path)
    busy, taken = time.process_time() - busy, time.perf_counter() - started
    print(busy, taken, _resident("VmHWM") - before, opened.__class__.__name__)


def read(path: Path, count: int) -> float:
    """Return the processor seconds that a sample takes in random order, when each was read before."""
    frames = PairedFrames(path)
    order = np.random.default_rng(0).integers(0, len(frames), count)
    busy = 0.0
    for _ in range(2):
        busy = time.process_time()
        for at in range(0, count, 120):
            frames.read(order[at : at + 120])
        busy = time.process_time() - busy
    return busy / count


def _resident(name: str) -> float:
    """Return a line of the memory of this process in MB; the peak of `getrusage` counts that of its parent, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1e3


def main() -> None:
    """Write the caches and open each in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000, help="number of samples")
    parser.add_argument("--shards", type=int, default=20, help="number of shards; 0 for the single file alone")
    parser.add_argument("--read", type=int, default=0, help="samples to read in random order")
    parser.add_argument("--open", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.open:
        measure(given.open[0], Path(given.open[1]), Path(given.open[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        one, index, small = (Path(name) / f"{part}.h5" for part in ("one", "index", "small"))
        write(small, 0, 100)
        write(one, 0, given.samples)
        paths = {"one file": one}
        if given.shards:
            write_shards(index, given.samples, given.shards)
            paths[f"{given.shards} shards"] = index
        for form, path in paths.items():
            if given.read:
                print(f"{form:<10} {read(path, given.read) * 1e6:.0f} µs of a core a sample, random order", flush=True)
                continue
            for kind in ("Cache", "PairedFrames"):
                command = [sys.executable, __file__, "--open", kind, str(path), str(small)]
                runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
                busy, taken, peak = min(tuple(map(float, run.stdout.split()[:3])) for run in runs)
                print(f"{form:<10} {kind:<13} {busy:.2f} s of a core, {taken:.2f} s, {peak:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
