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


def measure(
    title: str, case: Case, repeats: int, unit: str, per: float = 1.0, *, settle: bool = False
) -> dict[str, dict[str, float]]:
    """Run the contenders in turn, and print the median of each and how many times longer it takes than the first.

    Args:
        title: What is measured.
        case: Contenders by name; one that returns a float has taken the time itself, of the part that is meant.
        repeats: Times that count; each runs once before.
        unit: What one figure is for, such as "a recording".
        per: How many of them one run does.
        settle: Run each once more before it is timed, so that none pays for the memory that the one before gave back.

    Returns:
        Of each contender `ms`, the median, `least_ms`, and `ratio`, the median of the ratios inside each repeat.
    """
    for run in case.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in case}
    for _ in range(repeats):
        for name, run in case.items():
            if settle:
                run()
            started = time.perf_counter()
            result = run()
            taken = result if isinstance(result, float) else time.perf_counter() - started
            times[name].append(taken / per)
    ours = next(iter(times.values()))
    print(f"\n{title}")
    rows: dict[str, dict[str, float]] = {}
    for name, taken in times.items():
        ratio = statistics.median(theirs / mine for theirs, mine in zip(taken, ours, strict=True))
        rows[name] = {"ms": statistics.median(taken) * 1e3, "least_ms": min(taken) * 1e3, "ratio": ratio}
        print(f"  {name:<38} {rows[name]['ms']:10.3f} ms {unit:<12} {ratio:9.2f} x", flush=True)
    return rows


def write_json(path: Path | None, figures: dict[str, Any], packages: tuple[str, ...]) -> None:
    """Write figures with the machine and the versions of packages; nothing where no path is given."""
    if path is None:
        return
    about: dict[str, Any] = {"machine": platform.platform(), "processor": _processor(), "cores": os.cpu_count()}
    about["python"] = platform.python_version()
    for name in ("tmkt", "numpy", "numba", *packages):
        try:
            about[name] = version(name)
        except PackageNotFoundError:
            about[name] = None
    path.write_text(json.dumps(about | {"figures": figures}, indent=2))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
