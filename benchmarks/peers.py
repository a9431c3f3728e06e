"""tmkt beside tonic, spikingjelly and one pass in C, in the same run: decode and count, prepare, read, encode, start.

    python benchmarks/peers.py
    python benchmarks/peers.py --recordings 60 --repeats 3 --json peers.json

Every figure is the median over repeats; a ratio is the median of the ratios inside each repeat, as machines are noisy.
Peers that are not installed (tonic: pip install 'tmkt[bench]') and a C compiler that is missing are left out and named.
One thread each, but where two workers are said. The recordings are made: 116 000 random events of a 240 x 180 sensor,
ATIS bytes, T = 10.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image

EVENTS, WIDTH, HEIGHT, BINS, SIDE = 116_000, 240, 180, 10, 48
C_PASS = r"""
#include <stdint.h>
long count(const uint8_t *d, long n, int w, int h, int bins, uint32_t *out) {
    const uint8_t *e = d + 5 * (n - 1);
    int64_t first = ((d[2] & 0x7f) << 16) | (d[3] << 8) | d[4];
    int64_t span = (((e[2] & 0x7f) << 16) | (e[3] << 8) | e[4]) - first + 1, edges[65];
    for (int k = 0; k <= bins; k++) edges[k] = first + (k * span + bins - 1) / bins;
    int k = 0;
    for (long i = 0; i < n; i++, d += 5) {
        int64_t t = ((d[2] & 0x7f) << 16) | (d[3] << 8) | d[4];
        while (t >= edges[k + 1]) k++;
        out[((k * 2 + (d[2] >> 7)) * h + d[1]) * w + d[0]]++;
    }
    return n;
}
"""
Case = dict[str, Callable[[], Any]]


def write_recording(path: Path, seed: int) -> None:
    """Write random events in order of time."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 300_000, EVENTS))
    x, y, p = rng.integers(0, [[WIDTH], [HEIGHT], [2]], (3, EVENTS))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes())


def c_counter(folder: Path) -> Callable[[Path], Any] | None:
    """Compile the pass that is the limit; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    (folder / "count.c").write_text(C_PASS)
    command = [compiler, "-O3", "-march=native", "-shared", "-fPIC", "-o", "count.so", "count.c"]
    subprocess.run(command, cwd=folder, check=True)
    count = ctypes.CDLL(str(folder / "count.so")).count
    count.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]

    def run(path: Path) -> Any:
        data = path.read_bytes()
        out = np.zeros((BINS, 2, HEIGHT, WIDTH), np.uint32)
        count(data, len(data) // 5, WIDTH, HEIGHT, BINS, out.ctypes.data)
        return out

    return run


def tonic_frames() -> Callable[[Path], Any] | None:
    """Return tonic's decoder followed by its frames; None where it is not installed."""
    try:
        import tonic
    except ImportError:
        return None
    to_frame = tonic.transforms.ToFrame(sensor_size=(WIDTH, HEIGHT, 2), n_time_bins=BINS)
    return lambda path: to_frame(tonic.io.read_mnist_file(str(path), dtype=tonic.io.events_struct))


def jelly_frames() -> Callable[[Path], Any] | None:
    """Return spikingjelly's decoder and frames, from their file alone: the package around it loads audio."""
    home = importlib.util.find_spec("spikingjelly")
    if home is None or home.origin is None:
        return None
    package = types.ModuleType("spikingjelly.datasets")
    package.__path__ = [str(Path(home.origin).parent / "datasets")]
    sys.modules.setdefault(package.__name__, package)
    try:
        utils = importlib.import_module("spikingjelly.datasets.utils")
    except ImportError:
        return None

    def run(path: Path) -> Any:
        events = utils.load_ATIS_bin(str(path))
        return utils.integrate_events_by_fixed_frames_number(events, "time", BINS, HEIGHT, WIDTH)

    return run


def our_frames(side: tuple[int, int]) -> Callable[[Path], Any]:
    """Return what `prepare` does to an ATIS recording, onto frames of the size (height, width)."""
    from tmkt_data.kernels import atis_frames as kernels
    from tmkt_data.kernels.resize import axis_table
    from tmkt_data.time_bins import bin_edges

    height, width = side
    column, line = np.zeros(256, np.uint32), np.zeros((256, 2), np.uint32)
    column[:WIDTH] = axis_table(WIDTH, width, "sum").target
    line[:HEIGHT] = axis_table(HEIGHT, height, "sum").target[:, None] * width + np.array([0, height * width])
    line = line.reshape(-1)

    def run(path: Path) -> Any:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        _, _, x_last, y_last, first, last = kernels.atis_extent(data)
        out = np.zeros((BINS, 2, height, width), np.uint32)
        _, backwards = kernels.count_atis(data, bin_edges(first, last, BINS, "exact"), column, line, out.reshape(-1))
        if backwards or x_last >= WIDTH or y_last >= HEIGHT:
            raise ValueError(path)
        return out

    return run


def measure(
    title: str, case: Case, repeats: int, unit: str, per: float = 1.0, *, settle: bool = False
) -> dict[str, Any]:
    """Run the contenders in turn, and print the median of each and its ratio to the first.

    A contender that returns a float has taken the time itself, of the part that is meant. `settle` runs
    each once more before it is timed, so that none pays for the memory that the one before gave back.
    """
    for run in case.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in case}
    for _ in range(repeats):
        for name, run in case.items():
            if settle:
                run()
            started = time.perf_counter()
            result = run()
            taken = result if isinstance(result, float) else time.perf_counter() - started
            times[name].append(taken / per)
    ours = next(iter(times.values()))
    print(f"\n{title}")
    rows: dict[str, Any] = {}
    for name, taken in times.items():
        ratio = statistics.median(theirs / mine for theirs, mine in zip(taken, ours, strict=True))
        rows[name] = {"ms": statistics.median(taken) * 1e3, "ratio": ratio}
        print(f"  {name:<34} {rows[name]['ms']:10.3f} ms {unit:<14} {ratio:9.2f} x")
    return rows


def decode_and_count(folder: Path, repeats: int) -> dict[str, Any]:
    """Measure a recording on disk to count frames of its own size."""
    path = folder / "one.bin"
    write_recording(path, 0)
    peers = {"one pass in C": c_counter(folder), "tonic": tonic_frames(), "spikingjelly": jelly_frames()}
    ours = our_frames((HEIGHT, WIDTH))
    if peers["one pass in C"] is not None:
        assert np.array_equal(ours(path), peers["one pass in C"](path))
    case: Case = {"tmkt": lambda: ours(path)}
    case |= {name: (lambda run=run: run(path)) for name, run in peers.items() if run is not None}
    print("left out:", ", ".join(name for name, run in peers.items() if run is None) or "nobody")
    return measure("decode and count, 240 x 180", case, repeats, "a recording", settle=True)


def prepare_and_read(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Measure preparing an N-Caltech101 tree, tonic's first epoch over it, and reading what each has written."""
    from tmkt_data import PairedFrames, PrepareSpec, open_catalogue, plan_prepare, prepare_cache

    for number in range(1, count + 1):
        write_recording(folder / "Caltech101" / "airplanes" / f"image_{number:04d}.bin", number)
        picture = folder / "101_ObjectCategories" / "airplanes" / f"image_{number:04d}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((300, 200)).save(picture)
    catalogue = open_catalogue("ncaltech101", folder)

    def prepare(workers: int, resize: str) -> float:
        plan = plan_prepare(catalogue, PrepareSpec(canvas="tight", resize=resize), folder / "a.h5")
        started = time.perf_counter()
        taken = 0.0
        for step in prepare_cache(plan, workers=workers, fresh=True):
            if step.stage == "recordings" and step.done == count:
                taken = time.perf_counter() - started
        return taken

    case: Case = {
        "tmkt, sum": lambda: prepare(1, "sum"),
        "tmkt, sum, 2 workers": lambda: prepare(2, "sum"),
        "tmkt, bilinear": lambda: prepare(1, "bilinear"),
    }
    disk = tonic_disk(folder, count)
    if disk is not None:
        case["tonic, first epoch, bilinear"] = disk[0]
    found = {"prepare": measure("prepare: decode, frames, 48 x 48, cache", case, repeats, "a recording", count)}
    for _ in prepare_cache(plan_prepare(catalogue, PrepareSpec(canvas="tight"), folder / "b.h5")):
        pass
    frames = PairedFrames(folder / "b.h5", "train", pairing="same-class", protocol="kt-paper")
    order = np.random.default_rng(0)

    def epoch() -> None:
        rows = order.permutation(len(frames))
        for at in range(0, len(rows), 120):
            frames.read(rows[at : at + 120])

    reading: Case = {"tmkt, both sides, float32": epoch}
    if disk is not None:
        reading["tonic, events alone, from disk"] = lambda: [disk[1](int(i)) for i in order.permutation(count)]
    frames_of = frames.cache.event_frames(range(count))
    pictures = frames.cache.image_frames(range(count)).astype(np.float32) / 255

    def gather() -> None:
        rows = order.permutation(len(frames))
        for at in range(0, len(rows), 120):
            part = rows[at : at + 120]
            np.take(frames_of, part, axis=0)
            np.broadcast_to(pictures[part][:, None, None], (len(part), BINS, 2, SIDE, SIDE))

    reading["gather from memory"] = gather
    found["read"] = measure(
        "read an epoch in random order, batches of 120", reading, repeats, "a sample", count, settle=True
    )
    return found


def tonic_disk(folder: Path, count: int) -> tuple[Callable[[], Any], Callable[[int], Any]] | None:
    """Return tonic's first epoch through a cache on disk, and the reading of one sample from it."""
    run = tonic_frames()
    if run is None:
        return None
    import tonic
    import torch

    class Recordings:
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> tuple[Any, int]:
            if not 0 <= index < count:
                raise IndexError
            frames = run(folder / "Caltech101" / "airplanes" / f"image_{index + 1:04d}.bin")
            small = torch.nn.functional.interpolate(
                torch.from_numpy(frames.astype(np.float32)), size=(SIDE, SIDE), mode="bilinear", align_corners=True
            )
            return small.numpy(), 0

    cache = folder / "tonic"

    def first() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        dataset = tonic.DiskCachedDataset(Recordings(), cache_path=str(cache))
        for index in range(count):
            dataset[index]

    filled = tonic.DiskCachedDataset(Recordings(), cache_path=str(cache))
    return first, lambda index: filled[index]


def poisson(repeats: int) -> dict[str, Any]:
    """Measure the drawing of spike frames from 120 images."""
    import torch

    from tmkt_data.encode import poisson_frames
    from tmkt_data.random_keys import Purpose, draw_key

    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 256, (120, SIDE, SIDE), dtype=np.uint8)
    keys = [np.uint64(draw_key(0, 0, number, 0, Purpose.POISSON)) for number in range(120)]
    rates = torch.from_numpy(images.astype(np.float32) / 255)[:, None, None]

    def ours() -> None:
        for image, key in zip(images, keys, strict=True):
            poisson_frames(image, BINS, 2, key=key)

    def theirs() -> None:
        (torch.rand(120, BINS, 2, SIDE, SIDE) <= rates).float()

    return measure(
        "Poisson spikes of 120 images", {"tmkt": ours, "torch.rand": theirs}, repeats, "a batch", settle=True
    )


def start(repeats: int) -> dict[str, Any]:
    """Measure how long the command lines take to say what they can."""
    case: Case = {
        f"{module} --help": lambda module=module: subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, check=True
        )
        for module in ("tmkt_data", "tmkt_train")
    }
    return measure("start", case, repeats, "a call")


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=200, help="recordings of the made tree (default 200)")
    parser.add_argument("--repeats", type=int, default=7, help="repeats of each figure (default 7)")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {"decode and count": decode_and_count(folder, 5 * given.repeats)}
        found |= prepare_and_read(folder, given.recordings, given.repeats)
    found["poisson"] = poisson(given.repeats)
    found["start"] = start(given.repeats)
    if given.json is not None:
        about = {"machine": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
        about |= {name: version(name) for name in ("tmkt", "numpy", "numba", "torch", "spikingjelly")}
        given.json.write_text(json.dumps(about | {"figures": found}, indent=2))


if __name__ == "__main__":
    main()
