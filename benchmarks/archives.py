"""Prepare a dataset from archives read in place and from archives unpacked first: time, files and space.

    python benchmarks/archives.py
    python benchmarks/archives.py --recordings 70000 --events 4000

The set is N-MNIST with images of MNIST as PNG, made here. Each way is `tmkt-data prepare` in a process of its own, with
an empty cache directory; the caches have the same bytes, which is checked.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from timing import write_json

FORMS = {"zip, stored": ".zip", "zip, deflated": ".zip", "tar": ".tar"}


def make_tree(root: Path, recordings: int, events: int) -> None:
    """Write recordings and images in the folders of N-MNIST and MNIST."""
    rng = np.random.default_rng(0)
    for number in range(1, recordings + 1):
        place = f"Train/{number % 10}/{number:05d}"
        t = np.sort(rng.integers(0, 300_000, events))
        x, y, p = rng.integers(0, [[34], [34], [2]], (3, events))
        recording, image = root / "N-MNIST" / f"{place}.bin", root / "MNIST_png" / f"{place}.png"
        recording.parent.mkdir(parents=True, exist_ok=True)
        image.parent.mkdir(parents=True, exist_ok=True)
        recording.write_bytes(np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes())
        Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(image)


def pack(root: Path, path: Path, form: str) -> None:
    """Pack the tree."""
    files = [(file, file.relative_to(root)) for file in sorted(root.rglob("*")) if file.is_file()]
    if form == "tar":
        with tarfile.open(path, "w") as archive:
            for file, name in files:
                archive.add(file, name)
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if "deflated" in form else zipfile.ZIP_STORED) as zipped:
        for file, name in files:
            zipped.write(file, name)


def prepare(source: Path, folder: Path, *given: str) -> dict[str, float]:
    """Prepare from a source; seconds, and what was written beside the cache."""
    command = [sys.executable, "-m", "tmkt_data", "prepare", "nmnist", "--root", str(source), *given]
    command += ["--out", str(folder / "a.h5"), "--workers", "2"]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"TMKT_CACHES": str(folder / "caches")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    beside = list((folder / "caches").rglob("*"))
    size = sum(path.stat().st_size for path in beside if path.is_file())
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_s": cpu_s, "inodes": len(beside), "mb": size / 1e6}


def main() -> None:
    """Make, pack and prepare; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=1000, help="events of a recording")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        make_tree(top / "tree", given.recordings, given.events)
        # A first run compiles the kernels where no cache holds them.
        (top / "first").mkdir()
        prepare(top / "tree", top / "first")
        ways = {"files": (top / "tree", [])}
        for form, suffix in FORMS.items():
            archive = top / f"{form.replace(', ', '-')}{suffix}"
            pack(top / "tree", archive, form)
            ways |= {f"{form}, in place": (archive, []), f"{form}, unpacked": (archive, ["--unpack"])}
        written = set()
        print("| from | time | processor | inodes beside the cache | their size |\n|---|---|---|---|---|")
        for way, (source, options) in ways.items():
            folder = top / way.replace(", ", "-").replace(" ", "-")
            folder.mkdir()
            found = figures[way] = prepare(source, folder, *options)
            written.add((folder / "a.h5").read_bytes())
            times = f"{found['seconds']:.1f} s | {found['cpu_s']:.1f} s"
            print(f"| {way} | {times} | {found['inodes']:,} | {found['mb']:.1f} MB |", flush=True)
        if len(written) != 1:
            raise SystemExit("the caches differ")
    print("the caches have the same bytes")
    write_json(given.json, figures, ("h5py",), {"recordings": given.recordings, "events": given.events})


if __name__ == "__main__":
    main()
