"""Prepare, open and read a cache by the code of today and by that of an earlier commit, in turn: is it slower now?

    python benchmarks/versions.py                    beside the code before caches were read back and forced to disk
    python benchmarks/versions.py --before HEAD~1 --repeats 15

Each version has a process of its own, which stays for all repeats. Ratios are of today over before.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from timing import ratio, summary, take_times

ROOT = Path(__file__).resolve().parents[1]
WORKER = """
import sys, time
from pathlib import Path
from tmkt_data import Cache, PairedFrames, default_spec, open_catalogue, plan_prepare, prepare_cache
root, path = map(Path, sys.argv[1:])

def prepare(out):
    out.unlink(missing_ok=True)
    list(prepare_cache(plan_prepare(open_catalogue("nmnist", root), default_spec("nmnist"), out)))

def read(frames):
    for first in range(0, len(frames), 64):
        frames.read(range(first, min(first + 64, len(frames))))

runs = {
    "prepare": lambda _: prepare(path.with_suffix(".again.h5")),
    "open": lambda _: [Cache(path) for _ in range(10)],
    "open and first pass": lambda _: read(PairedFrames(path)),
    "first pass": read,
    "pass": lambda _: read(kept),
    "samples": lambda _: [kept[at] for at in range(len(kept))],
}
prepare(path)
kept = PairedFrames(path)
for line in sys.stdin:
    frames, started = PairedFrames(path), time.perf_counter()
    runs[line.strip()](frames)
    print(time.perf_counter() - started, flush=True)
"""


def main() -> None:
    """Print the times of each step by both versions, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="2f19cc0", help="The earlier commit.  [default: 2f19cc0]")
    parser.add_argument("--recordings", type=int, default=2000, help="Recordings to make, as those of N-MNIST lie.")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT / "tests" / "data"), str(ROOT)]
    from trees import write_nmnist

    with tempfile.TemporaryDirectory(prefix="tmkt-versions-") as name:
        code = Path(name, "code")
        code.mkdir()
        packed = subprocess.check_output(["git", "archive", options.before, "tmkt_data"], cwd=ROOT)
        subprocess.run(["tar", "x"], cwd=code, input=packed, check=True)
        root = write_nmnist(Path(name, "root"), per_digit=options.recordings // 10, test_per_digit=1, digits=10)
        before, today = (_version(place, root, Path(name, f"{place.name}.h5")) for place in (code, ROOT))
        print(f"{'':20}{'before, ms':>14}{'today, ms':>14}{'median of ratios':>20}{'ratio of the least':>20}")
        for step in ("prepare", "open", "open and first pass", "first pass", "pass", "samples"):
            taken = take_times({"before": lambda: before(step), "today": lambda: today(step)}, options.repeats)  # noqa: B023
            old, new = summary(taken["before"]), summary(taken["today"])
            ratios = f"{ratio(taken['today'], taken['before']):20.3f}{new['least_ms'] / old['least_ms']:20.3f}"
            print(f"{step:20}{old['ms']:14.1f}{new['ms']:14.1f}{ratios}", flush=True)


def _version(code: Path, root: Path, cache: Path) -> Callable[[str], float]:
    """Start the process of a version, and return what runs a step in it and gives its seconds."""
    command, places = [sys.executable, "-c", WORKER, str(root), str(cache)], os.environ | {"PYTHONPATH": str(code)}
    process = subprocess.Popen(command, cwd=code, env=places, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(step: str) -> float:
        assert process.stdin and process.stdout  # noqa: PT018 - they are pipes
        print(step, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    return run


if __name__ == "__main__":
    main()
