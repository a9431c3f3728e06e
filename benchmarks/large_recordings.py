"""How much memory and time a recording larger than memory takes: a made .dat file, read in pieces, then prepared.

    python benchmarks/large_recordings.py --gigabytes 2

Writes the file into a temporary folder and removes it. Memory is the largest resident size of a process of its own,
with the interpreter and the libraries in it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EVENTS_PER_BLOCK = 2_000_000
WORK = {
    "tmkt-data events": ["-m", "tmkt_data", "events", "{file}"],
    "tmkt-data prepare": [
        *("-m", "tmkt_data", "prepare", "folder", "--root", "{root}", "--out", "{root}/a.h5", "--allow-unpaired"),
        *("--workers", "1"),
    ],
    "prepare, filtered": [
        *("-m", "tmkt_data", "prepare", "folder", "--root", "{root}", "--out", "{root}/b.h5", "--allow-unpaired"),
        *("--workers", "1", "--refractory-us", "1000", "--background-us", "5000", "--hot-pixels", "3"),
    ],
}
WATCHED = (
    "import resource, runpy, sys; sys.argv = sys.argv[1:]\n"
    """
sys.argv[0] = "tmkt-data"
import atexit
atexit.register(lambda: print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
runpy.run_module("tmkt_data", run_name="__main__", alter_sys=False)
"""
)


def write_recording(path: Path, gigabytes: float) -> int:
    """Write random events of a 1280 x 720 sensor, in order of time; return how many."""
    rng = np.random.default_rng(0)
    words = np.empty((EVENTS_PER_BLOCK, 2), "<u4")
    words[:, 0] = np.sort(rng.integers(0, 1_000_000, EVENTS_PER_BLOCK))
    pixels = rng.integers(0, [1280, 720, 2], (EVENTS_PER_BLOCK, 3))
    words[:, 1] = pixels[:, 0] | pixels[:, 1] << 14 | pixels[:, 2] << 28
    count = 0
    with path.open("wb") as file:
        file.write(b"% Version 2\n% Width 1280\n% Height 720\n\x0c\x08")
        while file.tell() < gigabytes * 1e9:
            file.write(words.tobytes())
            words[:, 0] += 1_000_000
            count += EVENTS_PER_BLOCK
    return count


def run(arguments: list[str]) -> tuple[float, float]:
    """Return seconds and megabytes of a command."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", WATCHED, *arguments[1:]], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, int(done.stderr.rsplit("PEAK ", 1)[1].split()[0]) / 1e3


def main() -> None:
    """Write, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "events" / "one").mkdir(parents=True)
        (root / "tmkt.toml").write_text('sensor_size = [1280, 720]\nimages = ""\n')
        path = root / "events" / "one" / "a.dat"
        count = write_recording(path, given.gigabytes)
        print(f"{path.stat().st_size:,} bytes, {count:,} events")
        for label, arguments in WORK.items():
            seconds, megabytes = run([part.format(file=path, root=root) for part in arguments])
            print(f"{label:<20} {seconds:6.1f} s  {megabytes:5.0f} MB  {count / seconds / 1e6:5.1f} M events/s")


if __name__ == "__main__":
    main()
