"""tmkt beside tonic, spikingjelly and one pass in C, in the same run: decode and count, prepare, read, encode.

    python benchmarks/peers.py
    python benchmarks/peers.py --recordings 60 --repeats 3 --json peers.json
    python benchmarks/peers.py --layout 8709 --repeats 3

Every figure is the median over repeats; a ratio is the median of the ratios inside each repeat, as machines are noisy.
Peers that are not installed (tonic: pip install 'tmkt[bench]') and a C compiler that is missing are left out and named.
One thread each, but where two workers are said. The recordings are made: 116 000 random events of a 240 x 180 sensor,
ATIS bytes, T = 10.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from contenders import (
    BINS,
    HEIGHT,
    SIDE,
    WIDTH,
    c_counter,
    jelly,
    our_frames,
    tonic_disk,
    tonic_frames,
    write_recording,
)
from PIL import Image
from timing import Case, measure, write_json

BATCH = 120
FEW = 240
"""Recordings of tonic's first epoch, at most: its time is proportional to them."""
Figures = dict[str, dict[str, Any]]


def decode_and_count(folder: Path, repeats: int) -> Figures:
    """Measure a recording on disk to count frames of its own size."""
    path, npz = folder / "one.bin", folder / "one.npz"
    write_recording(path, 0)
    ours, in_c, tonic, other = our_frames((HEIGHT, WIDTH)), c_counter(folder), tonic_frames(), jelly()
    if in_c is not None and not np.array_equal(ours(path), in_c(path)):
        raise ValueError("the pass in C counts otherwise")
    case: Case = {"tmkt": partial(ours, path)}
    case |= {name: partial(run, path) for name, run in {"one pass in C": in_c, "tonic": tonic}.items() if run}
    if other is not None:
        other.write_events(path, npz)
        case["spikingjelly, in memory"] = partial(other.frames, path)
        case["spikingjelly, from its npz of events"] = partial(other.frames_of_npz, npz)
        case["spikingjelly, to its npz and from it"] = lambda: (
            other.write_events(path, npz),
            other.frames_of_npz(npz),
        )
    absent = {"a C compiler": in_c, "tonic": tonic, "spikingjelly": other}
    print("left out:", ", ".join(name for name, run in absent.items() if run is None) or "nobody")
    return {"decode and count": measure("decode and count, 240 x 180, from the file", case, repeats, "a recording")}


def write_tree(folder: Path, count: int) -> list[Path]:
    """Write recordings and small photographs in the layout of N-Caltech101; return the recordings."""
    paths = [folder / "Caltech101" / "airplanes" / f"image_{number:04d}.bin" for number in range(1, count + 1)]
    for number, path in enumerate(paths, start=1):
        write_recording(path, number)
        picture = folder / "101_ObjectCategories" / "airplanes" / f"image_{number:04d}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((300, 200)).save(picture)
    return paths


def prepare(folder: Path, paths: list[Path], repeats: int) -> Figures:
    """Measure the event side of `prepare`, from the first file to the finished cache, beside tonic's first epoch."""
    from tmkt_data import PrepareSpec, open_catalogue, plan_prepare, prepare_cache

    catalogue = dataclasses.replace(open_catalogue("ncaltech101", folder), images=())

    def run(workers: int, resize: Any) -> float:
        (folder / "a.h5").unlink(missing_ok=True)
        started = time.perf_counter()
        plan = plan_prepare(catalogue, PrepareSpec(canvas="tight", resize=resize), folder / "a.h5")
        for _ in prepare_cache(plan, workers=workers, fresh=True):
            pass
        return time.perf_counter() - started

    case: Case = {
        f"tmkt, {resize}, {workers} worker{'s' * (workers > 1)}": partial(run, workers, resize)
        for resize in ("sum", "bilinear")
        for workers in (1, 2)
    }
    few = paths[:FEW]
    disk = tonic_disk(few, folder / "tonic")
    if disk is not None:

        def theirs() -> float:
            shutil.rmtree(folder / "tonic", ignore_errors=True)
            started = time.perf_counter()
            disk[0]()
            return (time.perf_counter() - started) / len(few) * len(paths)

        case["tonic, first epoch, bilinear"] = theirs
    rows = measure(
        f"prepare {len(paths)} recordings: decode, frames, 48 x 48, cache", case, repeats, "a recording", len(paths)
    )
    if disk is not None:
        tonic_ms = rows["tonic, first epoch, bilinear"]["ms"]
        ours = {name: row["ms"] for name, row in rows.items() if name.startswith("tmkt")}
        print("  tonic takes", ", ".join(f"{tonic_ms / ms:.1f} x {name[6:]}" for name, ms in ours.items()))
    return {"prepare": rows}


def read(folder: Path, paths: list[Path], repeats: int) -> Figures:
    """Measure an epoch in random order, batches of 120 as float32 tensors, from each cache on disk."""
    import torch

    from tmkt_data import PairedFrames, PrepareSpec, open_catalogue, plan_prepare, prepare_cache

    catalogue = open_catalogue("ncaltech101", folder)
    for _ in prepare_cache(plan_prepare(catalogue, PrepareSpec(canvas="tight"), folder / "b.h5")):
        pass
    frames = PairedFrames(folder / "b.h5", "train", pairing="same-class", protocol="kt-paper")
    count, rng = len(frames), np.random.default_rng(0)

    def parts() -> list[Any]:
        order = rng.permutation(count)
        return [order[at : at + BATCH] for at in range(0, count, BATCH)]

    def ours(copied: bool) -> None:
        for part in parts():
            batch = frames.read(part)
            torch.from_numpy(batch.events)
            torch.from_numpy(np.array(batch.image if copied else batch.image[:, 0, 0]))

    stored, pictures = frames.cache.event_frames(range(count)), frames.cache.image_frames(range(count))
    scaled = pictures.astype(np.float32) / 255

    def gather(copied: bool) -> None:
        for part in parts():
            torch.from_numpy(np.take(stored, part, axis=0))
            image = np.take(scaled, part, axis=0)
            if copied:
                image = np.ascontiguousarray(np.broadcast_to(image[:, None, None], (len(part), BINS, 2, SIDE, SIDE)))
            torch.from_numpy(image)

    case: Case = {
        "tmkt, both sides": partial(ours, False),
        "tmkt, repeated images copied out": partial(ours, True),
        "gather from memory, both sides": partial(gather, False),
        "gather, repeated images copied out": partial(gather, True),
    }
    disk, other = tonic_disk(paths, folder / "tonic"), jelly()
    if disk is not None:
        case["tonic, its cache on disk, events"] = lambda: [
            torch.stack([torch.from_numpy(disk[1](int(i))) for i in part]) for part in parts()
        ]
    if other is not None:
        few = [folder / f"{number}.npz" for number in range(8)]
        for path, npz in zip(paths, few, strict=False):
            other.write_frames(path, npz)

        def theirs() -> float:
            started = time.perf_counter()
            torch.stack([torch.from_numpy(other.read_frames(npz)) for npz in few])
            return (time.perf_counter() - started) / len(few) * count

        case["spikingjelly, npz of frames, events"] = theirs
    title = f"read an epoch in random order, batches of {BATCH}, float32 tensors"
    return {"read": measure(title, case, repeats, "a sample", count)}


def poisson(repeats: int) -> Figures:
    """Measure the drawing of spike frames from 120 images."""
    import torch
    from spikingjelly.activation_based.encoding import PoissonEncoder

    from tmkt_data.images.encode import poisson_frames
    from tmkt_data.random_keys import Purpose, draw_key

    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE), dtype=np.uint8)
    keys = draw_key(0, 0, np.arange(BATCH, dtype=np.uint64), 0, Purpose.POISSON)
    rates = torch.from_numpy(images.astype(np.float32) / 255)[:, None].repeat(1, 2, 1, 1)
    encode = PoissonEncoder()

    def drawn() -> torch.Tensor:
        return (torch.rand(BATCH, BINS, 2, SIDE, SIDE) <= rates[:, None]).float()

    case: Case = {
        "tmkt": lambda: poisson_frames(images, BINS, 2, key=keys),
        "torch.rand": drawn,
        "spikingjelly's encoder": lambda: torch.stack([encode(rates) for _ in range(BINS)], dim=1),
    }
    return {"poisson": measure("Poisson spikes of 120 images", case, repeats, "a batch")}


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=240, help="recordings of the made tree (default 240)")
    parser.add_argument("--layout", type=int, help="recordings that are prepared, 0.6 MB each; N-Caltech101 has 8709")
    parser.add_argument("--repeats", type=int, default=7, help="repeats of each figure (default 7)")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = decode_and_count(folder, 5 * given.repeats)
        paths = write_tree(folder, given.recordings)
        whole = write_tree(folder / "whole", given.layout) if given.layout else paths
        figures |= prepare(folder / "whole" if given.layout else folder, whole, given.repeats)
        figures |= read(folder, paths, given.repeats)
    figures |= poisson(given.repeats)
    write_json(given.json, figures, ("torch", "spikingjelly", "tonic"))


if __name__ == "__main__":
    main()
