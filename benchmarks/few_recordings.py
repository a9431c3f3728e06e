"""What images are worth: `tmkt` against `event-only` with few recordings per class and all images.

    python benchmarks/few_recordings.py RECIPE --cache FILE --out DIR [--per-class 10,30,all] [--jobs 2]

Every run takes the same number of steps, whatever the number of recordings. Runs that are finished are kept, so the
script goes on where it was stopped. Prints a Markdown table: test accuracy, mean and standard deviation over seeds, and
the paired difference of the two methods.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tmkt_data import PairedFrames, read_cache_info

METHODS = ("event-only", "tmkt")


class Job(NamedTuple):
    """One training."""

    method: str
    per_class: str
    seed: int
    folder: Path
    command: list[str]


def main() -> None:
    """Run what is missing and print the table."""
    options = _options()
    jobs = [
        _job(options, method, per_class, seed)
        for seed in options.seeds
        for per_class in options.per_class
        for method in METHODS
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for job, problem in zip(jobs, pool.map(_run, jobs), strict=True):
            if problem:
                sys.exit(f"{job.folder}: {problem}")
    _print_table(options, jobs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-class", type=lambda text: text.split(","), default=["10", "30", "all"])
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[42, 1024, 90210])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def _job(options: argparse.Namespace, method: str, per_class: str, seed: int) -> Job:
    kept = None if per_class == "all" else int(per_class)
    num_train = len(PairedFrames(options.cache, "train", per_class=kept, seed=seed))
    epochs = math.ceil(options.steps / math.ceil(num_train / options.batch_size))
    folder = options.out / f"{method}-{per_class}-seed{seed}"
    spec = read_cache_info(options.cache).spec
    settings = {
        "method.name": method,
        "data.recordings_per_class": f'"{per_class}"' if kept is None else str(kept),
        "data.prepare.test_share": '"default"' if spec.test_share is None else str(spec.test_share),
        "data.prepare.val_share": str(spec.val_share),
        "train.epochs": str(epochs),
        "train.batch_size": str(options.batch_size),
        "train.num_threads": "1",
    }
    command = ["tmkt-train", "recipe", options.recipe, "--cache", str(options.cache), "--seed", str(seed)]
    command += ["--out", str(folder)]
    for setting in (*(f"{key}={value}" for key, value in settings.items()), *options.set):
        command += ["--set", setting]
    return Job(method, per_class, seed, folder, command)


def _run(job: Job) -> str | None:
    if (job.folder / "result.json").is_file():
        return None
    command = ["tmkt-train", "resume", str(job.folder)] if job.folder.is_dir() else job.command
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"{job.folder.name}: exit {done.returncode}", file=sys.stderr, flush=True)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip().splitlines()[-1]


def _print_table(options: argparse.Namespace, jobs: list[Job]) -> None:
    results = {(job.method, job.per_class, job.seed): _result(job.folder) for job in jobs}
    first = results[METHODS[0], options.per_class[0], options.seeds[0]]
    print(
        f"test recordings: {first['num_test']}, seeds: {', '.join(map(str, options.seeds))}, steps: {options.steps}\n"
    )
    print("| recordings per class | training recordings | event-only | tmkt | difference, seed by seed |")
    print("|---|---|---|---|---|")
    for per_class in options.per_class:
        scores = {
            method: [100 * results[method, per_class, seed]["test_accuracy"] for seed in options.seeds]
            for method in METHODS
        }
        gains = [tmkt - plain for plain, tmkt in zip(*(scores[method] for method in METHODS), strict=True)]
        num_train = results["tmkt", per_class, options.seeds[0]]["num_train"]
        cells = [_mean_sd(scores[method]) for method in METHODS]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        print(f"| {per_class} | {num_train} | {cells[0]} | {cells[1]} | {_mean_sd(gains, sign=True)} ({each}) |")


def _result(folder: Path) -> dict[str, float]:
    return json.loads((folder / "result.json").read_text())


def _mean_sd(values: list[float], *, sign: bool = False) -> str:
    mean = format(statistics.fmean(values), "+.1f" if sign else ".1f")
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
