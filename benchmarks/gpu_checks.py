"""What is there, what agrees: versions, a step in float64 beside the CPU, and the tests for a GPU."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from gpu_work import Work, synchronize

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("torch", "triton", "spikingjelly", "numpy", "numba", "h5py", "pydantic", "filelock", "pytest")
_PARTS = {
    "Triton": "triton",
    "kernels for a GPU": "tmkt_train.network.cuda.door",
    "recorded iterations": "tmkt_train.training.iteration",
    "frames on the device": "tmkt_train.data.device",
    "pytest": "pytest",
}


def run_versions(work: Work) -> None:
    """Record versions, the device, and how long imports take."""
    work.put("python", platform.python_version())
    work.put("machine", platform.platform())
    work.put("cores", os.cpu_count())
    for name in _PACKAGES:
        try:
            work.put(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            work.put(name, None)
    if work.device.type == "cuda":
        properties = torch.cuda.get_device_properties(0)
        work.put("device", properties.name)
        work.put("memory_gb", properties.total_memory / 1e9)
        work.put("multiprocessors", properties.multi_processor_count)
        work.put("cuda", torch.version.cuda)
        work.put("cudnn", torch.backends.cudnn.version())
    for name, module in _PARTS.items():
        work.attempt(name, lambda module=module: _import_s(module))
    work.attempt("a kernel of numba", _numba_s)
    work.attempt("all of tmkt_train", lambda: _import_s("tmkt_train.training.run"))


def _import_s(module: str) -> str:
    started = time.perf_counter()
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return f"not there: {error}"
    return f"imported in {time.perf_counter() - started:.2f} s"


def _numba_s() -> str:
    import numba

    started = time.perf_counter()
    compiled = numba.njit(lambda number: number + 1)
    if compiled(1) != 2:
        raise ArithmeticError("numba: a compiled function gave a wrong sum")
    return f"compiled in {time.perf_counter() - started:.2f} s"


def run_exactness(work: Work) -> None:
    """Compare a step in float64 with the CPU: loss, gradients and running statistics, by relative difference."""
    from gpu_contenders import RESNET18, SCNN, VGG_SNN, small

    for name, system in (("vgg-snn", VGG_SNN), ("scnn", SCNN), ("resnet18", RESNET18)):
        smaller = system._replace(batch_size=4, shape=system.shape if name == "scnn" else small(system).shape)
        if work.is_tiny:
            smaller = small(system)
        work.attempt(name, lambda smaller=smaller: _compare(smaller, work.device))


def _compare(system: Any, device: torch.device) -> dict[str, Any]:
    """Return the largest relative differences in norm, and the tensor that has the largest of each."""
    from gpu_contenders import draw_batch

    from tmkt_train.method.methods import build_method
    from tmkt_train.method.mixer import Mixer
    from tmkt_train.network.backbones import build_model
    from tmkt_train.network.network import Heads
    from tmkt_train.network.stages import LayerChoices
    from tmkt_train.recipe.load import find_recipe, load_recipe

    recipe = load_recipe(find_recipe(system.recipe))
    torch.manual_seed(0)
    model: Any = build_model(system.backbone, system.shape, Heads(system.num_classes, separate=True), LayerChoices())
    mixer = Mixer(system.shape.num_time_steps, recipe.mix, 0.5, recipe.slide)
    method = build_method("tmkt", recipe.loss, mixer=mixer, feature_size=model.feature_size)
    found: list[dict[str, torch.Tensor]] = []
    for place in (torch.device("cpu"), device):
        net, heads = copy.deepcopy(model).double().to(place), copy.deepcopy(method).double().to(place)
        if hasattr(net, "compute_dtype"):
            net.compute_dtype = torch.float64
        batch = draw_batch(system, place)
        images = None if batch.image is None else batch.image.double()
        batch = type(batch)(images, batch.events.double(), batch.labels, batch.indices, batch.keys)
        loss = heads(net, batch, 0.1).loss
        loss.backward()
        grads = {f"gradient of {key}": value.grad for key, value in net.named_parameters() if value.grad is not None}
        found.append({"loss": loss.detach(), **grads, **dict(net.named_buffers())})
        synchronize(place)
    ours, theirs = ({key: value.double().cpu() for key, value in one.items()} for one in reversed(found))
    apart = {key: float((ours[key] - theirs[key]).norm() / theirs[key].norm().clamp_min(1e-30)) for key in theirs}
    worst = max(apart, key=lambda key: apart[key])
    return {"loss": apart["loss"], "worst": apart[worst], "worst_of": worst, "tensors": len(apart)}


def run_tests(work: Work) -> None:
    """Run the tests that need a GPU, in a process of their own; on a CPU only find them."""
    if importlib.util.find_spec("pytest") is None:
        work.put("summary", "pytest is not there")
        return
    files = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text())
    work.put("files", [str(path.relative_to(ROOT)) for path in files])
    with tempfile.TemporaryDirectory() as folder:
        failures = Path(folder) / "failures.jsonl"
        try:
            lines, code = _run_pytest(files, work, failures)
        finally:
            work.put("failures", _failures(failures))
        work.put("summary", lines[-1] if lines else "")
        work.put("exit_code", code)
        work.put("output", lines[-30:])


def _run_pytest(files: list[Path], work: Work, failures: Path) -> tuple[list[str], int]:
    """Return the lines of pytest and its exit code; several processes compile kernels faster."""
    # Warnings of versions that nobody has tested here are no failures of the tests.
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", "-p", "gpu_report", "--tb=short"]
    if work.is_tiny:
        command.append("--collect-only")
    elif importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(min(8, os.cpu_count() or 1))]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"TMKT_FAILURES": str(failures), "PYTHONPATH": paths}
    limit_s = work.left_s() - 2
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [*command, *map(str, files)], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SystemExit(f"pytest took more than {limit_s:.0f} s") from None
        output.seek(0)
        return output.read().strip().splitlines(), code


def _failures(path: Path) -> dict[str, Any]:
    """Return the failures that were written down: how many, the tests by message, and a traceback of each message."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    found: dict[str, Any] = {}
    for row in rows:
        one = found.setdefault(f"{row['when']}: {row['message']}", {"tests": [], "traceback": row["traceback"]})
        one["tests"].append(row["test"])
    return {"count": len(rows), "by_message": found}
