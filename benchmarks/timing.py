"""How the benchmarks measure: contenders in turn, medians, and ratios inside each repeat, as machines are noisy."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Case = dict[str, Callable[[], Any]]


_BURST_S = 0.05
"""How long a contender runs in one repeat, about: short ones several times."""


def measure(title: str, case: Case, repeats: int, unit: str, per: float = 1.0) -> dict[str, dict[str, float]]:
    """Run the contenders in turn, and print the median of each and how many times longer it takes than the first.

    In each repeat a contender that takes less than 50 ms runs again and again for that long, and the median counts, so
    that none pays for the memory and the caches that another has left.

    Args:
        title: What is measured.
        case: Contenders by name; one that returns a float has taken the time itself, of the part that is meant.
        repeats: Times that count; each runs once before.
        unit: What one figure is for, such as "a recording".
        per: How many of them one run does.

    Returns:
        Of each contender `ms`, the median, `least_ms`, and `ratio`, the median of the ratios inside each repeat.
    """
    times = take_times(case, repeats, per)
    ours = next(iter(times.values()))
    print(f"\n{title}")
    rows: dict[str, dict[str, float]] = {}
    for name, taken in times.items():
        rows[name] = summary(taken) | {"ratio": ratio(taken, ours)}
        print(f"  {name:<38} {rows[name]['ms']:10.3f} ms {unit:<12} {rows[name]['ratio']:9.2f} x", flush=True)
    return rows


def _burst(run: Callable[[], Any]) -> float:
    taken: list[float] = []
    until = time.perf_counter() + _BURST_S
    while not taken or time.perf_counter() < until:
        started = time.perf_counter()
        result = run()
        taken.append(result if isinstance(result, float) else time.perf_counter() - started)
    return statistics.median(taken)


def take_times(case: Case, repeats: int, per: float = 1.0) -> dict[str, list[float]]:
    """Run the contenders in turn, once before it counts; return the seconds of each in each repeat, over `per`."""
    for run in case.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in case}
    for _ in range(repeats):
        for name, run in case.items():
            times[name].append(_burst(run) / per)
    return times


def summary(taken: list[float]) -> dict[str, float]:
    """Return the median of some seconds and the least of them, in ms."""
    return {"ms": statistics.median(taken) * 1e3, "least_ms": min(taken) * 1e3}


def ratio(theirs: list[float], ours: list[float]) -> float:
    """Return the median of the ratios inside each repeat."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def write_json(
    path: Path | None, figures: dict[str, Any], packages: tuple[str, ...], more: dict[str, Any] | None = None
) -> None:
    """Write figures with the machine, the versions of packages and more; nothing where no path is given."""
    if path is None:
        return
    about: dict[str, Any] = {"machine": platform.platform(), "processor": _processor(), "cores": os.cpu_count()}
    about["python"] = platform.python_version()
    for name in ("tmkt", "numpy", "numba", *packages):
        try:
            about[name] = version(name)
        except PackageNotFoundError:
            about[name] = None
    path.write_text(json.dumps(about | (more or {}) | {"figures": figures}, indent=2))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
