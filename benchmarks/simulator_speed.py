"""Recordings per second of processor time of `tmkt-data simulate`, images read and files written included.

    python benchmarks/simulator_speed.py --images ../shared/data/caltech51/101_ObjectCategories

One thread; the first recording, which compiles or loads the kernels, is not counted. Processor time rather than time on
the clock, so that other programs disturb it less.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tmkt_data.datasets.simulated import RecordedCamera, plan_simulation
from tmkt_data.datasets.simulated_source import simulate_folder
from tmkt_data.simulate.camera import CameraSettings
from tmkt_data.simulate.paths import Path as ImagePath

NUM_RUNS = 3


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, required=True, help="folder of class folders with images")
    parser.add_argument("--count", type=int, default=40, help="recordings in each run (default 40)")
    arguments = parser.parse_args()
    for kind in ("saccades", "random-walk", "jitter"):
        camera = RecordedCamera(CameraSettings(path=ImagePath(kind=kind)))
        seconds, events = [], 0.0
        for _ in range(NUM_RUNS):
            with tempfile.TemporaryDirectory() as folder:
                plan = plan_simulation(arguments.images, Path(folder) / "out", camera)
                every = max(1, len(plan.images) // (arguments.count + 1))
                steps = simulate_folder(replace(plan, images=plan.images[::every][: arguments.count + 1]))
                next(steps)
                started = time.process_time()
                done = [recorded.num_events or 0 for recorded in steps]
                seconds.append((time.process_time() - started) / len(done))
                events = statistics.median(done)
        print(
            f"{kind:12} {1 / min(seconds):5.1f} recordings per second and core "
            f"(runs: {', '.join(f'{1 / one:.1f}' for one in seconds)}), median {events:,.0f} events, sensor 240 x 180"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
