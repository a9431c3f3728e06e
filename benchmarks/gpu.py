"""Everything that wants to be known on a machine with one GPU, in one call of minutes; needs no network.

    python3 benchmarks/gpu.py --json gpu.json
    python3 benchmarks/gpu.py --json gpu.json --minutes 4 --only versions,ceilings,step
    python3 benchmarks/gpu.py --json gpu.json --cpu

Nothing has to be installed but what tmkt imports; without `--only`, steps run in the order of the list below; with it,
`kernels` comes first if it is not named and a step needs it. Each step is a process of its own with a time limit: one
that fails or takes too long keeps what it found, its error stands in the JSON, and the next one starts. The JSON is
written again whenever there is something new, the table comes last. `--cpu` runs every step on a CPU with tiny sizes:
it shows that the script works, and its figures mean nothing.

Steps:
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from gpu_table import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
_LEAST_S = 5.0
"""Seconds below which a step is not started."""
_SLOWER = 5
"""How many times as long a step may take on a CPU, which may have other work, too."""
_GRACE_S = 5.0
"""Seconds that a step may run over before it is killed."""


class Step(NamedTuple):
    """A step: the module that has its function `run_<name>`, its limit in seconds, and what it shows."""

    module: str
    limit_s: float
    shows: str


STEPS: dict[str, Step] = {
    "versions": Step("gpu_checks", 60, "versions, device, and which parts of tmkt and of the machine are there"),
    "ceilings": Step("gpu_ceilings", 30, "copy on the device, and matrix products per precision"),
    "kernels": Step("gpu_kernels", 75, "kernels compiled by many processes, so that nothing later waits for them"),
    "step": Step("gpu_step", 120, "a training step at the paper's size beside the reference: time, memory, waiting"),
    "profile": Step("gpu_profile", 60, "where a step spends the GPU, by class of kernels, and its busy share"),
    "convolutions": Step("gpu_ceilings", 45, "cuDNN: layer x pass x precision x memory order"),
    "exactness": Step("gpu_checks", 60, "one step in float64 on the GPU beside the CPU: loss and gradients"),
    "tests": Step("gpu_checks", 120, "pytest -m gpu"),
    "networks": Step("gpu_step", 60, "the steps of SCNN and ResNet-18"),
    "training": Step("gpu_training", 180, "epochs of a recipe; stopped, killed and resumed; minutes for 300 epochs"),
    "curves": Step("gpu_curves", 200, "float16 and bfloat16 beside tf32: three seeds each, with a verdict"),
}


_COMPILED_FIRST = ("step", "profile", "networks", "training")
"""Steps whose time is that of a machine that has compiled their kernels: `kernels` runs before them."""


def parse(words: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    steps = "\n".join(f"  {name:<14}{step.shows}" for name, step in STEPS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}{steps}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    parser.add_argument("--only", metavar="STEP,...", help="only these steps, in this order (default: all)")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for everything (default 8)")
    parser.add_argument("--cpu", action="store_true", help="tiny sizes on the CPU, to try the script")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    given.only = list(STEPS) if given.only is None else given.only.split(",")
    unknown = [name for name in given.only if name not in STEPS]
    if unknown:
        parser.error(f"--only: found {', '.join(map(repr, unknown))}, expected some of: {', '.join(STEPS)}")
    if not given.cpu and "kernels" not in given.only and any(name in _COMPILED_FIRST for name in given.only):
        given.only.insert(0, "kernels")
    return given


def missing_libraries() -> list[str]:
    """Return what tmkt imports and is not here."""
    names = ("torch", "numpy", "numba", "h5py", "click", "rich", "xxhash", "pydantic", "filelock", "simplejpeg", "PIL")
    names += ("spikingjelly", "scipy", "jinja2", "matplotlib")
    return [name for name in names if importlib.util.find_spec(name) is None]


def run_step(name: str, limit_s: float, cpu: bool, part: Path) -> dict[str, Any]:
    """Run a step in a process of its own; return what it found, with seconds and, if it did not end well, an error."""
    command = [sys.executable, str(Path(__file__).resolve()), "--step", name, "--part", str(part)]
    command += ["--seconds", str(limit_s), *(["--cpu"] if cpu else [])]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    # cuBLAS is deterministic only with a fixed workspace.
    environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=errors, start_new_session=True)
        error = _wait(process, limit_s + _GRACE_S)
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    found: dict[str, Any] = json.loads(part.read_text()) if part.is_file() else {}
    if error is None and process.returncode != 0:
        error = next((line for line in reversed(lines) if line.strip()), "")
        error = f"exit code {process.returncode}: {error}"
        found["stderr"] = lines[-30:]
    if error is not None:
        found["error"] = error
    return found | {"seconds": round(time.monotonic() - started, 1)}


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> str | None:
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        # The step may have started processes itself.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"stopped after {limit_s:.0f} s"
    return None


def write(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the JSON in one go, so that it is whole whenever the machine goes away."""
    if path is None:
        return
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(figures, indent=1))
    new.replace(path)


def run_all(given: argparse.Namespace) -> dict[str, Any]:
    """Run the steps one after the other, as long as there is time."""
    figures: dict[str, Any] = {}
    until = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            limit_s = min(STEPS[name].limit_s * (_SLOWER if given.cpu else 1), until - time.monotonic() - _GRACE_S)
            if limit_s < _LEAST_S:
                figures[name] = {"error": "no time left"}
            else:
                print(f"=== {name}, at most {limit_s:.0f} s", flush=True)
                figures[name] = run_step(name, limit_s, given.cpu, Path(folder) / f"{name}.json")
            if "error" in figures[name]:
                print(f"{name}: {figures[name]['error']}", flush=True)
            write(given.json, figures)
    return figures


def main(words: list[str] | None = None) -> int:
    """Run the steps and print the table; 1 if the machine lacks what tmkt imports."""
    given = parse(words)
    sys.path.insert(0, str(ROOT))
    missing = missing_libraries()
    if missing:
        print(f"missing here: {', '.join(missing)}; install them, or put their wheels on PYTHONPATH", file=sys.stderr)
        write(given.json, {"missing": missing})
        return 1
    if given.step is not None:
        from gpu_work import Work

        work = Work(given.part, given.seconds, given.cpu)
        getattr(importlib.import_module(STEPS[given.step].module), f"run_{given.step}")(work)
        sys.stdout.flush()
        # All figures are written; torch's profiler has been seen to crash while a process ends.
        os._exit(0)
    figures = run_all(given)
    print("\n".join(table(figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
