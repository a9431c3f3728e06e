"""How long tmkt takes to start, and how much memory it takes: commands, kernels, first batch, prepare, workers.

    python benchmarks/start_and_memory.py
    python benchmarks/start_and_memory.py --recordings 50 --repeats 1 --json start.json

Each figure is that of a process of its own. Memory of workers is what they add to the machine: pages that several
processes share count once (PSS, read from /proc; left out where there is none).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from contenders import write_recording
from timing import Case, measure, write_json

# What a first `prepare` and a first batch load: every kernel of the way from ATIS bytes to spikes, called once.
KERNELS = """
import sys, time
import numpy as np
started = time.perf_counter()
import numba
loaded = time.perf_counter()
from tmkt_data.prepare.atis import AtisCounter
from tmkt_data.images.encode import poisson_frames
from tmkt_data.images.frames import ImageTarget, frame_of_pixels
from tmkt_data.events.events import SensorSize
from tmkt_data.events.read import read_events
from tmkt_data.prepare.read_ahead import KnownFile, ReadAhead
from tmkt_data.kernels.pack import pack_counts, pack_halves
from tmkt_data.spec import PrepareSpec
from pathlib import Path
path = Path(sys.argv[1])
data = ReadAhead([KnownFile(str(path), path.stat().st_size)]).bytes_of(0)
for resize, kind in (("sum", np.uint8), ("bilinear", np.float16)):
    counter = AtisCounter(SensorSize(240, 180), PrepareSpec(canvas="tight", resize=resize))
    counter.store(data, np.zeros((10, 2, 48, 48), kind))
read_events(path)
pack_counts(np.zeros(9, np.uint32), np.zeros(9, np.uint8))
pack_halves(np.zeros(9, np.float32), np.zeros(9, np.uint16))
poisson_frames(np.zeros((4, 4), np.uint8), 2, key=1)
frame_of_pixels(np.zeros((200, 300, 3), np.uint8), (200, 300), ImageTarget(48, 48), "value")
print(loaded - started, time.perf_counter() - loaded)
"""
FIRST_BATCH = """
import sys, time
from tmkt_data import PairedFrames
started = time.perf_counter()
frames = PairedFrames(sys.argv[1], "train", protocol="kt-paper")
opened = time.perf_counter()
frames.read(range(min(120, len(frames))))
print(opened - started, time.perf_counter() - opened)
"""
PREPARE = """
import resource, sys
from tmkt_data import PrepareSpec, open_catalogue, plan_prepare, prepare_cache
plan = plan_prepare(open_catalogue("ncaltech101", sys.argv[1]), PrepareSpec(canvas="tight"), sys.argv[2])
for _ in prepare_cache(plan, workers=2, fresh=True):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
WORKERS = """
import os, sys
from pathlib import Path
from torch.utils.data import DataLoader
from tmkt_data import PairedFrames
count = int(sys.argv[2])
frames = PairedFrames(sys.argv[1], "train", protocol="kt-paper")
loader = DataLoader(frames, batch_size=60, num_workers=count, persistent_workers=True, multiprocessing_context="fork")
batches = iter(loader)
for _ in batches:
    pass
def pss(process):
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
print(pss(os.getpid()) + sum(pss(worker.pid) for worker in batches._workers))
"""


def run(code: str, *arguments: object, **environment: str) -> list[float]:
    """Run Python code in a process of its own and return the numbers that it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return [float(word) for word in done.stdout.split()]


def medians(title: str, names: list[str], runs: list[list[float]], unit: str) -> dict[str, float]:
    """Print the median of each number over the runs, and return them by name."""
    found = {name: statistics.median(values) for name, values in zip(names, zip(*runs, strict=True), strict=True)}
    print(f"\n{title}")
    for name, value in found.items():
        print(f"  {name:<46} {value:10.3f} {unit}", flush=True)
    return found


def start(recording: Path, repeats: int) -> dict[str, Any]:
    """Measure the command lines, and the kernels: compiled once for a machine, loaded once for a process."""
    case: Case = {
        f"{module} --help": lambda module=module: subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, check=True
        )
        for module in ("tmkt_data", "tmkt_train")
    }
    figures: dict[str, Any] = {"start": measure("start", case, 3 * repeats, "a call")}
    with tempfile.TemporaryDirectory() as fresh:
        compiled = run(KERNELS, recording, NUMBA_CACHE_DIR=fresh)
        loaded = [run(KERNELS, recording, NUMBA_CACHE_DIR=fresh) for _ in range(repeats)]
    figures["kernels"] = medians("kernels, loaded", ["import of numba", "all kernels, called once"], loaded, "s")
    figures["kernels"] |= medians("kernels, compiled for a new machine", ["all kernels, compiled"], [compiled[1:]], "s")
    return figures


def memory(folder: Path, counts: list[int], repeats: int) -> dict[str, Any]:
    """Measure the first batch, the peak of `prepare` for several sizes of a set, and what workers take."""
    figures: dict[str, Any] = {"prepare, peak MB": {}}
    events = folder / "Caltech101" / "airplanes"
    print("\npeak memory of prepare, 2 workers")
    for count in counts:
        for number in range(len(list(events.glob("*.bin"))) + 1, count + 1):
            write_recording(events / f"image_{number:04d}.bin", number % 50)
        figures["prepare, peak MB"][str(count)] = run(PREPARE, folder, folder / "cache.h5")[0]
        print(f"  {count:>6} recordings {figures['prepare, peak MB'][str(count)]:38.0f} MB", flush=True)
    cache = folder / "cache.h5"
    batches = [run(FIRST_BATCH, cache) for _ in range(repeats)]
    figures["first batch"] = medians("first batch", ["open", "read 120 samples"], batches, "s")
    if Path("/proc/self/smaps_rollup").exists():
        rows = [[run(WORKERS, cache, workers)[0] for workers in (1, 4)] for _ in range(repeats)]
        figures["workers, MB"] = medians(
            "memory of a DataLoader and its workers", ["1 worker", "4 workers"], rows, "MB"
        )
    return figures


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, nargs="+", default=[100, 400, 800], help="sizes of the made set")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of each figure (default 3)")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder)
        write_recording(folder / "one.bin", 0)
        figures = start(folder / "one.bin", given.repeats)
        figures |= memory(folder, sorted(given.recordings), given.repeats)
    write_json(given.json, figures, ("torch", "h5py"))


def write_image(folder: Path) -> None:
    """Write one photograph in the layout of Caltech-101, for all recordings to stand beside."""
    from PIL import Image

    path = folder / "101_ObjectCategories" / "airplanes" / "image_0001.jpg"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (300, 200), (90, 120, 200)).save(path)


if __name__ == "__main__":
    main()
