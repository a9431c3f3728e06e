"""Encoders that imitate events beside Poisson spikes and `torch.rand`: time to make the frames of a batch.

    python benchmarks/encoders.py
    python benchmarks/encoders.py --images 120 --side 48 --bins 10 --repeats 9 --json encoders.json

Each figure is the median over repeats, with the spread of all, in CPU time of one thread; a ratio is the median of the
ratios to Poisson spikes inside each repeat, as machines are noisy. Images are made, with the spectrum of natural ones.
Frames are float32 with two channels, at event scale log1p.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from image_side import BILINEAR, made_photograph
from timing import Case, ratio, summary, take_times, write_json

REFERENCE = "poisson"


def cpu_time(run: Callable[[], Any]) -> Callable[[], float]:
    """Return a contender that takes the CPU time of its thread, without waits for others on a busy machine."""

    def timed() -> float:
        started = time.thread_time()
        run()
        return time.thread_time() - started

    return timed


def contenders(num_images: int, side: int, num_time_bins: int) -> Case:
    """Return what makes one batch of frames, by name."""
    import torch

    from tmkt_data.images.encode import poisson_frames
    from tmkt_data.images.log_intensity import gradient_frames, saccade_frames, unit_response
    from tmkt_data.random_keys import Purpose, draw_key
    from tmkt_data.simulate.saccade import DrawnKeys, SaccadePath, paths_in_cells, random_paths

    torch.set_num_threads(1)
    photographs = (made_photograph(seed).convert("L").resize((side, side), BILINEAR) for seed in range(num_images))
    images = np.stack([np.asarray(photograph) for photograph in photographs])
    rates = torch.from_numpy(images.astype(np.float32) / 255)[:, None, None]
    uids = np.arange(num_images, dtype=np.uint64)
    words = DrawnKeys(0, 0, uids, np.zeros(num_images, np.int64))
    keys = draw_key(*words, Purpose.POISSON)
    # The published path on a tight canvas of N-Caltech101: 227 columns and rows and the motion.
    path, scale = SaccadePath(), np.full((num_images, 2), side / 234)
    response = np.log1p(3 * unit_response(2))

    def saccade() -> Any:
        return saccade_frames(images, paths_in_cells(path, num_time_bins, scale), num_time_bins, response=response)

    def drawn() -> Any:
        return (torch.rand(num_images, num_time_bins, 2, side, side) <= rates).float()

    def microsaccade() -> Any:
        paths = random_paths(path, num_time_bins, scale, words)
        return saccade_frames(images, paths, num_time_bins, response=response)

    runs: Case = {
        REFERENCE: lambda: poisson_frames(images, num_time_bins, key=keys),
        "saccade": saccade,
        "microsaccade": microsaccade,
        "gradient": lambda: gradient_frames(images, response=response),
        "torch.rand": drawn,
    }
    return {name: cpu_time(run) for name, run in runs.items()}


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=120, help="images of a batch (default 120)")
    parser.add_argument("--side", type=int, default=48, help="rows and columns of a frame (default 48)")
    parser.add_argument("--bins", type=int, default=10, help="time bins (default 10)")
    parser.add_argument("--repeats", type=int, default=9, help="repeats of each figure (default 9)")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    times = take_times(contenders(given.images, given.side, given.bins), given.repeats)
    print(f"frames of {given.images} images, {given.side} x {given.side}, T = {given.bins}")
    rows: dict[str, Any] = {}
    for name, taken in times.items():
        ratios = [one / other for one, other in zip(taken, times[REFERENCE], strict=True)]
        rows[name] = summary(taken) | {"most_ms": max(taken) * 1e3, "ratio": ratio(taken, times[REFERENCE])}
        spread = f"{rows[name]['ms']:.2f} ({min(taken) * 1e3:.2f} to {max(taken) * 1e3:.2f}) ms"
        print(f"  {name:<14} {spread:>30} {rows[name]['ratio']:>7.2f} ({min(ratios):.2f} to {max(ratios):.2f}) x")
    write_json(given.json, {"encoders": rows}, ("torch",))


if __name__ == "__main__":
    main()
