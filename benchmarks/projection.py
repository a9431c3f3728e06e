"""Time, network and storage of sets from 10^5 to 10^8 recordings, and what bounds each: arithmetic, not a measurement.

    python benchmarks/projection.py
    python benchmarks/projection.py --shared-gb-s 20 --opens 5000 --json projection.json

The costs of a recording on one core are measured here first, with files in the bytes of N-Caltech101, each with a JPEG
of its own: prepared to T = 10, 48 x 48, and read in pairs. What a site has is assumed, and stands in `Site`: change it
to yours. A stage takes as long as the slowest of its parts, which work at the same time; that part is named.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from timing import write_json

SIZES = (10**5, 10**6, 10**7, 10**8)
SAMPLES_PER_GPU_S = 2717.0
"""VGG-SNN at 48 x 48, T = 10, bfloat16 on one H200: docs/performance.md, "A training step on a GPU"."""
BATCH_PER_GPU, GRADIENT_BYTES = 120, 4 * 9_688_165
"""Of VGG-SNN with one head of 101 classes, gradients in float32."""
TIME_BINS, SIDE, SENSOR, CLASSES = 10, 48, (240, 180), 10


class Costs(NamedTuple):
    """What one recording with its image costs.

    Attributes:
        prepare_s: Seconds of one core from files to rows of the cache.
        pair_s: Seconds of one core to read a pair in random order.
        raw_bytes: Bytes of its file and its image.
        cache_bytes: Bytes of its rows in the cache.
        files: Files to open.
    """

    prepare_s: float
    pair_s: float
    raw_bytes: float
    cache_bytes: float
    files: float = 2.0


class Site(NamedTuple):
    """What a site has; rates are in bytes a second, and shared by all nodes where they say so.

    Attributes:
        nodes: Nodes that work at once.
        cores: Cores of a node.
        gpus: GPUs of the whole training.
        link: Network of a node.
        shared: The shared file system, all nodes together.
        opens: Files that it opens a second, all nodes together.
        memory: Memory of the nodes that train, which holds the cache after its first reading if it is smaller.
    """

    nodes: int
    cores: int
    gpus: int
    link: float
    shared: float
    opens: float
    memory: float


class Stage(NamedTuple):
    """Seconds that a stage takes, and the part that bounds it."""

    seconds: float
    bound: str


def slowest(parts: dict[str, float]) -> Stage:
    """Return the time of parts that work at the same time: that of the slowest."""
    bound = max(parts, key=parts.__getitem__)
    return Stage(parts[bound], bound)


def prepare_stage(costs: Costs, site: Site, count: int) -> Stage:
    """Return the time to prepare a number of recordings from a shared file system to it."""
    rate = min(site.shared, site.nodes * site.link)
    return slowest(
        {
            "cores": count * costs.prepare_s / (site.nodes * site.cores),
            "storage": count * (costs.raw_bytes + costs.cache_bytes) / rate,
            "opening files": count * costs.files / site.opens,
        }
    )


def epoch_stage(costs: Costs, site: Site, count: int) -> Stage:
    """Return the time of an epoch over a number of recordings, after the first.

    Between nodes each gradient crosses a link twice in a step, as in a ring, while the next layers are computed.
    """
    rate = min(site.shared, site.nodes * site.link)
    fits = count * costs.cache_bytes <= site.memory
    steps = count / (site.gpus * BATCH_PER_GPU)
    return slowest(
        {
            "GPU": count / (site.gpus * SAMPLES_PER_GPU_S),
            "cores": count * costs.pair_s / (site.nodes * site.cores),
            "storage": 0.0 if fits else count * costs.cache_bytes / rate,
            "gradients on the network": steps * 2 * GRADIENT_BYTES / site.link if site.nodes > 1 else 0.0,
        }
    )


def make_tree(folder: Path, count: int, events: int) -> None:
    """Write recordings in the bytes of N-Caltech101 over 0.3 s, each with a JPEG of 300 x 225 as its twin."""
    rng = np.random.default_rng(0)
    (folder / "tmkt.toml").write_text(f"sensor_size = [{SENSOR[0]}, {SENSOR[1]}]\n")
    for number in range(count):
        name = f"c{number % CLASSES}"
        for kind in ("events", "images"):
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
        t = np.sort(rng.integers(0, 300_000, events))
        x, y, p = rng.integers(0, [[SENSOR[0]], [SENSOR[1]], [2]], (3, events))
        rows = np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8)
        (folder / "events" / name / f"i{number:05d}.bin").write_bytes(rows.tobytes())
        coarse = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((300, 225), Image.Resampling.BICUBIC).save(
            folder / "images" / name / f"i{number:05d}.jpg", quality=90
        )


def prepare_seconds(folder: Path, count: int, events: int) -> float:
    """Make a set in a folder and prepare it to its `cache.h5`; return the CPU seconds of that."""
    from tmkt_data import PrepareSpec, open_catalogue, plan_prepare, prepare_cache

    folder.mkdir()
    make_tree(folder, count, events)
    spec = PrepareSpec(time_bins=TIME_BINS, size=SIDE)
    started = time.process_time()
    for _ in prepare_cache(plan_prepare(open_catalogue("folder", folder), spec, folder / "cache.h5"), workers=1):
        pass
    return time.process_time() - started


def pair_seconds(cache: Path) -> float:
    """Read all pairs of a cache once in random order; return the CPU seconds of one."""
    from tmkt_data import PairedFrames

    frames = PairedFrames(cache, "train")
    order = np.random.default_rng(0).permutation(len(frames))
    frames.read(order[:120])
    started = time.process_time()
    for at in range(0, len(order), 120):
        frames.read(order[at : at + 120])
    return (time.process_time() - started) / len(order)


def measure(count: int, events: int) -> Costs:
    """Prepare and read a made set here, on one core, and return what a recording costs.

    A few are prepared to load the kernels, then a quarter, whose time is taken away, so that start-up does not count.
    """
    with tempfile.TemporaryDirectory() as name:
        few, quarter, whole = (Path(name, part) for part in ("few", "quarter", "whole"))
        prepare_seconds(few, CLASSES, events)
        less = prepare_seconds(quarter, count // 4, events)
        prepare_s = (prepare_seconds(whole, count, events) - less) / (count - count // 4)
        grown = (whole / "cache.h5").stat().st_size - (quarter / "cache.h5").stat().st_size
        raw = sum(path.stat().st_size for path in whole.rglob("*") if path.suffix in (".bin", ".jpg"))
        return Costs(prepare_s, pair_seconds(whole / "cache.h5"), raw / count, grown / (count - count // 4))


def sites(given: argparse.Namespace) -> dict[str, Site]:
    """Return the three sites of the table."""
    link, shared = given.link_gb_s * 1e9, given.shared_gb_s * 1e9
    return {
        "one machine: 8 cores, 1 GPU, own SSD": Site(1, 8, 1, 2e9, 2e9, 50_000, 32e9),
        "one node: 32 cores, 4 GPUs": Site(1, 32, 4, link, shared, given.opens, 256e9),
        "16 nodes: 512 cores, 64 GPUs": Site(16, 32, 64, link, shared, given.opens, 16 * 256e9),
    }


def duration(seconds: float) -> str:
    """Return a time as one number and a unit."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def table(costs: Costs, places: dict[str, Site]) -> list[dict[str, Any]]:
    """Return a row for each size and site: storage, and time and bound of both stages."""
    return [
        {
            "recordings": count,
            "site": name,
            "raw_bytes": count * costs.raw_bytes,
            "cache_bytes": count * costs.cache_bytes,
            "prepare": prepare_stage(costs, site, count)._asdict(),
            "epoch": epoch_stage(costs, site, count)._asdict(),
        }
        for count in SIZES
        for name, site in places.items()
    ]


def main() -> None:
    """Measure, project, print a Markdown table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=400, help="recordings to measure with (default 400)")
    parser.add_argument("--events", type=int, default=60_000, help="events of each (default 60 000)")
    parser.add_argument("--link-gb-s", type=float, default=1.25, help="network of a node (default 1.25: 10 Gbit/s)")
    parser.add_argument("--shared-gb-s", type=float, default=5.0, help="shared file system, all nodes (default 5)")
    parser.add_argument(
        "--opens", type=float, default=10_000, help="files it opens a second, all nodes (default 10 000)"
    )
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    costs = measure(given.recordings, given.events)
    print(
        f"A recording of {given.events} events with its image: {costs.raw_bytes / 1e3:.0f} KB of files, "
        f"{costs.cache_bytes / 1e3:.0f} KB of cache; one core prepares it in {costs.prepare_s * 1e3:.2f} ms and reads "
        f"the pair in {costs.pair_s * 1e3:.3f} ms.\n"
    )
    rows = table(costs, sites(given))
    print("| recordings | files, cache | on | prepare | bound by | epoch | bound by |\n|---|---|---|---|---|---|---|")
    for row in rows:
        sizes = ", ".join(f"{row[name] / 1e12:.3g}" for name in ("raw_bytes", "cache_bytes"))
        stages = [f"{duration(row[name]['seconds'])} | {row[name]['bound']}" for name in ("prepare", "epoch")]
        print(f"| {row['recordings']:.0e} | {sizes} TB | {row['site']} | {' | '.join(stages)} |")
    write_json(given.json, {"costs": costs._asdict(), "rows": rows}, ("numba", "h5py"), {"events": given.events})


if __name__ == "__main__":
    main()
