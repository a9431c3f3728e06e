"""What a step of `gpu.py` works with: its device, its time, its figures, and how it measures."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Work:
    """Time, device and figures of a step.

    Attributes:
        is_tiny: Whether the step only shows that it works, on a CPU.
        device: Where it runs.
    """

    def __init__(self, path: Path, seconds: float, cpu: bool) -> None:
        self._path, self._until = path, time.monotonic() + seconds
        self._found: dict[str, Any] = {}
        self.is_tiny = cpu
        if not cpu and not torch.cuda.is_available():
            raise SystemExit("torch finds no GPU here; try the script with --cpu")
        self.device = torch.device("cpu" if cpu else "cuda")
        if cpu:
            torch.set_num_threads(1)

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return self._until - time.monotonic()

    def put(self, name: str, value: Any) -> None:
        """Record a figure; the file has it from now on."""
        self._found[name] = value
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._found))
        new.replace(self._path)

    def attempt(self, name: str, measure: Callable[[], Any]) -> Any:
        """Record what a function returns, or the line of its error; return None in that case."""
        try:
            value = measure()
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self.put(name, {"error": line_of(error)})
            release(self.device)
            return None
        self.put(name, value)
        return value


def line_of(error: BaseException) -> str:
    """Return an error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def synchronize(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Give memory that nothing uses back to the GPU."""
    import gc

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def run_ms(device: torch.device, run: Callable[[], Any]) -> float:
    """Return the milliseconds of one run, by events of the GPU."""
    if device.type != "cuda":
        started = time.perf_counter()
        run()
        return (time.perf_counter() - started) * 1e3
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def median_ms(device: torch.device, run: Callable[[], Any], repeats: int) -> float:
    """Return the median milliseconds over repeats, after two runs that do not count."""
    for _ in range(2):
        run()
    return statistics.median(run_ms(device, run) for _ in range(repeats))


def dtype_of(precision: str) -> torch.dtype:
    """Return the dtype that a precision stores."""
    return _DTYPES.get(precision, torch.float32)


@contextmanager
def tf32(allowed: bool, *, tuned: bool = False) -> Iterator[None]:
    """Let float32 products and convolutions use TF32 or not; `tuned`: cuDNN measures its algorithms first."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark
    # Only written: torch refuses to read these where somebody has set a part of cuDNN by its newer name.
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    cudnn.benchmark = tuned
    try:
        yield
    finally:
        cudnn.benchmark = before
