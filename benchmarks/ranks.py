"""Throughput of one process and of several ranks on the same machine, under the same recipe.

    python benchmarks/ranks.py
    python benchmarks/ranks.py --ranks 1 2 4 --backbone vgg-snn --size 48 --epochs 4 --json ranks.json

Each case is a run of `tmkt-train recipe`, with torchrun where it has several ranks. Its figure is the median of the
samples per second over its epochs but the first. Cases take turns, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from made_digits import made_digits
from timing import write_json

from tmkt_data.spec import PrepareSpec


def samples_per_s(cache: Path, out: Path, given: argparse.Namespace, num_ranks: int, num_threads: int) -> float:
    """Train a run; return its median of the samples per second, without the first epoch."""
    settings = {
        "data.prepare.time_bins": 4,
        "data.prepare.size": given.size,
        "model.backbone": given.backbone,
        "train.epochs": given.epochs,
        "train.batch_size": given.batch_size,
        "train.num_threads": num_threads,
        "train.device": "cpu",
        "optim.warmup_epochs": 0,
    }
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks)] if num_ranks > 1 else []
    words = ["-m", "tmkt_train", "recipe", "scnn_digits", "--cache", str(cache), "--out", str(out)]
    words += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    whole = [sys.executable, *launcher, *words]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return statistics.median(row["samples_per_s"] for row in rows[1:])


def main() -> None:
    """Train every case, print the table, write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="numbers of ranks, one thread each")
    parser.add_argument("--backbone", default="scnn")
    parser.add_argument("--size", type=int, default=28, help="pixels of a side")
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64, help="samples of a batch over all ranks")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write")
    given = parser.parse_args()
    cases = [(1, max(given.ranks)), *((ranks, 1) for ranks in given.ranks)]
    found: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as name:
        cache = made_digits(Path(name), given.per_class, PrepareSpec(time_bins=4, size=given.size))
        for repeat in range(given.repeats):
            for ranks, threads in cases:
                out = Path(name) / f"run-{repeat}-{ranks}-{threads}"
                found[ranks, threads].append(samples_per_s(cache, out, given, ranks, threads))
    figures: dict[str, Any] = {}
    print(f"{'ranks':>6}{'threads each':>14}{'samples/s':>12}")
    for (ranks, threads), rates in found.items():
        rate = statistics.median(rates)
        figures[f"{ranks} x {threads}"] = {"samples_per_s": rate, "least": min(rates), "most": max(rates)}
        print(f"{ranks:>6}{threads:>14}{rate:>12.0f}")
    write_json(given.json, {"ranks": figures}, ("torch", "spikingjelly"))


if __name__ == "__main__":
    main()
