"""A million made samples from files to an epoch, as one file and as shards: time, memory and files of each step.

    python benchmarks/million.py --samples 1000000 --shards 20 --json million.json
    python benchmarks/million.py --samples 20000 --shards 4 --folder /scratch

The recordings are those of growth.py: ATIS files of 64 events in 100 classes, prepared to T = 4, 16 x 16. Each step is
the command that a user gives, in a process of its own: `prepare` to one file; `prepare --shards`; `plan`, one `prepare
--plan --shard` for each shard, one after the other, and `--finish`. Either form is then verified, opened, and read once
in random order, batches of 120, both sides. At the end the digests of both forms are compared, and a table in Markdown
is printed. A million samples take 13 GB and as many files while it runs. For Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from timing import write_json

HERE = Path(__file__).parent
BATCH = 120
LOOK_S = 0.02
INSIDE = {
    "tree": "from growth import make_tree; make_tree(folder / 'tree', int(sys.argv[2]))",
    "open": "began(); PairedFrames(path, 'train', pairing='same-class')",
    "epoch": f"""
frames = PairedFrames(path, "train", pairing="same-class")
order = np.random.default_rng(0).permutation(len(frames))
began()
for at in range(0, len(order), {BATCH}):
    frames.read(order[at : at + {BATCH}])
""",
    "digest": "print(read_cache_info(path).digest)",
}
"""What is no command; each is run by a process of its own."""
BEFORE = """
import sys, time
from pathlib import Path
import numpy as np
from tmkt_data import PairedFrames
from tmkt_data.cache.reader import read_cache_info
folder = path = Path(sys.argv[1])
started = time.perf_counter()
def began():
    global started
    started = time.perf_counter()
"""
AFTER = "\nprint(time.perf_counter() - started)"


class Step(NamedTuple):
    """What a step took.

    Attributes:
        seconds: Time on the clock; of opening and the epoch without the start of the process.
        cpu_s: Processor time of the whole process.
        peak_mb: Peak memory of the process, with the pages of files that it has mapped.
        private_mb: Peak of its memory without those pages; both looked at every 20 ms.
        files: Files that lie in the folder of the cache after the step.
        mb: Their size.
    """

    seconds: float
    cpu_s: float
    peak_mb: float
    private_mb: float
    files: int
    mb: float


def run(command: list[str], folder: Path) -> tuple[Step, str]:
    """Run a command; return what it took, and what it printed."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, cwd=HERE, stdout=out, stderr=subprocess.STDOUT)
        peak, ended = {"VmHWM": 0.0, "RssAnon": 0.0}, threading.Event()
        watch = threading.Thread(target=_watch, args=(child.pid, peak, ended))
        watch.start()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        watch.join()
        out.seek(0)
        said = out.read()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)[:300]}\n{said[-2000:]}")
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    cpu_s = usage.ru_utime + usage.ru_stime
    step = Step(seconds, cpu_s, peak["VmHWM"], peak["RssAnon"], len(sizes), sum(sizes) / 1e6)
    return step, said


def _watch(process: int, peak: dict[str, float], ended: threading.Event) -> None:
    # The peak that `wait4` gives is at least the memory that this process had when it started the other.
    while not ended.wait(LOOK_S):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            return
        for name, _, value in (line.partition(":") for line in lines):
            if name in peak:
                peak[name] = max(peak[name], int(value.split()[0]) * 1.024 / 1e3)


def command(*given: object) -> list[str]:
    """Return a command of tmkt-data."""
    return [sys.executable, "-m", "tmkt_data", *map(str, given)]


def inside(name: str, path: Path, *given: object) -> list[str]:
    """Return a command that runs one of `INSIDE`."""
    code = INSIDE[name] if name == "tree" else INSIDE[name] + ("" if name == "digest" else AFTER)
    return [sys.executable, "-c", BEFORE + code, str(path), *map(str, given)]


def prepare_steps(folder: Path, num_shards: int, workers: int) -> Iterator[tuple[str, Step]]:
    """Prepare the tree in the three ways."""
    asked = ["folder", "--root", folder / "tree", "--time-bins", 4, "--size", 16]
    one, local, shards = (folder / form / "cache.h5" for form in ("one", "local", "shards"))
    work, cut, plan = ["--workers", workers], ["--shards", num_shards], folder / "plan"
    yield "one file", run(command("prepare", *asked, "--out", one, *work), one.parent)[0]
    yield "shards, one process", run(command("prepare", *asked, "--out", local, *cut, *work), local.parent)[0]
    yield "plan", run(command("plan", *asked, "--out", plan, "--cache", shards, *cut), shards.parent)[0]
    made = [
        run(command("prepare", "--plan", plan, "--shard", f"{number}/{num_shards}", *work), shards.parent)[0]
        for number in range(1, num_shards + 1)
    ]
    yield "shards, a process each", together(made)
    yield "finish", run(command("prepare", "--plan", plan, "--finish"), shards.parent)[0]


def together(steps: list[Step]) -> Step:
    """Return steps one after the other as one: the sum of times, the most memory, the files after the last."""
    return Step(
        seconds=sum(step.seconds for step in steps),
        cpu_s=sum(step.cpu_s for step in steps),
        peak_mb=max(step.peak_mb for step in steps),
        private_mb=max(step.private_mb for step in steps),
        files=steps[-1].files,
        mb=steps[-1].mb,
    )


def read_steps(path: Path) -> Iterator[tuple[str, Step]]:
    """Verify a cache, open it, and read an epoch."""
    yield "verify", run(command("verify", path), path.parent)[0]
    for name in ("open", "epoch"):
        step, said = run(inside(name, path), path.parent)
        yield name, step._replace(seconds=float(said))


def measure(folder: Path, samples: int, num_shards: int, workers: int) -> dict[str, dict[str, Any]]:
    """Make the trees, run every step, and return what each took."""
    steps: dict[str, dict[str, Any]] = {}

    def add(found: Iterator[tuple[str, Step]], form: str = "") -> None:
        for name, step in found:
            steps[f"{form}{name}"] = step._asdict()
            print(f"{form + name:<26} {step.seconds:9.2f} s {step.peak_mb:7.0f} MB", flush=True)

    # A first run compiles the kernels where no cache holds them.
    first = folder / "first"
    run(inside("tree", first, 200), first / "tree")
    for _ in prepare_steps(first, 2, workers):
        pass
    made = run(inside("tree", folder, samples), folder / "tree")[0]
    steps["tree"] = made._asdict()
    print(f"{samples:,} recordings: {made.files:,} files, made in {made.seconds:.0f} s", flush=True)
    add(prepare_steps(folder, num_shards, workers))
    for form, name in (("one", "one file: "), ("shards", "shards: ")):
        add(read_steps(folder / form / "cache.h5"), name)
    digests = {
        form: run(inside("digest", folder / form / "cache.h5"), folder / form)[1].strip()
        for form in ("one", "local", "shards")
    }
    if len(set(digests.values())) != 1:
        raise SystemExit(f"digests differ: {digests}")
    print("the content digests of all forms are equal")
    return steps


def table(steps: dict[str, dict[str, Any]], samples: int) -> str:
    """Return the steps as a table in Markdown, as in docs/performance.md."""
    rows = [
        "| step | time | a sample | processor | peak memory | its own | files of the cache |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in steps.items():
        step = Step(**found)
        if name == "tree":
            continue
        rows.append(
            f"| {name} | {_time(step.seconds)} | {step.seconds / samples * 1e6:.1f} µs | {_time(step.cpu_s)} | "
            f"{step.peak_mb:.0f} MB | {step.private_mb:.0f} MB | {step.files:,}, {step.mb:,.0f} MB |"
        )
    tree = Step(**steps["tree"])
    beside = f"{_beside(steps, 'seconds')} by the clock, {_beside(steps, 'cpu_s')} of the processor"
    made = f"Made from {tree.files:,} files, {tree.mb:,.0f} MB. Time of the shards beside that of one file: {beside}."
    return "\n".join([*rows, "", made])


def _beside(steps: dict[str, dict[str, Any]], kind: str) -> str:
    one = steps["one file"][kind]
    tasks = sum(steps[name][kind] for name in ("plan", "shards, a process each", "finish"))
    return f"{steps['shards, one process'][kind] / one:.2f} in one process, {tasks / one:.2f} in tasks"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"


def main() -> None:
    """Measure, print the table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000, help="number of recordings")
    parser.add_argument("--shards", type=int, default=20, help="number of shards")
    parser.add_argument("--workers", type=int, default=2, help="threads of each prepare")
    parser.add_argument("--folder", type=Path, help="where the files are made and removed again")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        steps = measure(Path(name), given.samples, given.shards, given.workers)
    print(f"\n{table(steps, given.samples)}")
    more = {"samples": given.samples, "shards": given.shards, "workers": given.workers}
    write_json(given.json, steps, ("h5py",), more)


if __name__ == "__main__":
    main()
