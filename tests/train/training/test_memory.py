from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.training.memory import StepMemory, count_step_memory, fitting_batch
from tmkt_train.training.out_of_memory import explain_device_error, explain_out_of_memory, is_out_of_memory
from tmkt_train.training.setup import build_network, build_setup

from ..conftest import make_recipe

pytest.importorskip("triton")

# Later versions of torch have a class of their own.
DEVICE_ERROR = getattr(torch, "AcceleratorError", RuntimeError)

MEASURED = json.loads((Path(__file__).parents[3] / "docs/measurements/gpu-h200.json").read_text())
PEAKS = {
    ("vggsnn_ncaltech", "tf32"): MEASURED["step"]["vgg-snn"]["contenders"],
    ("vggsnn_ncaltech", "bfloat16"): MEASURED["step"]["vgg-snn"]["contenders"],
    ("resnet18_cepdvs", "tf32"): MEASURED["earlier"]["networks"]["resnet18"]["contenders"],
    ("resnet18_cepdvs", "bfloat16"): MEASURED["earlier"]["networks"]["resnet18"]["contenders"],
}


@pytest.mark.parametrize(("name", "precision"), list(PEAKS))
def test_the_count_is_near_the_peak_that_was_measured_on_a_gpu(name, precision):
    recipe = load_recipe(find_recipe(name))
    prepare = recipe.data.prepare
    frames = SimpleNamespace(num_time_bins=prepare.time_bins, num_channels=2, size=(prepare.size,) * 2, num_classes=101)
    dtype = torch.float32 if precision == "tf32" else torch.bfloat16
    counted = count_step_memory(recipe, frames, dtype).of(120)
    peak = PEAKS[name, precision][f"ours {precision}"]["allocated_gb"] * 1e9
    assert 0.85 * peak < counted < peak


def test_a_gpu_that_other_processes_fill_is_told_with_the_batch_that_fits_beside_them(tiny_cache, monkeypatch):
    recipe = make_recipe(train__precision="bfloat16", train__batch_size=100_000, train__drop_last=False)
    setup = replace(
        build_setup(make_recipe(train__drop_last=False), tiny_cache, torch.device("cpu")), device=torch.device("cuda")
    )
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2 * 10**9)
    fits = fitting_batch(recipe, setup)
    assert 1000 < fits < 100_000
    assert explain_out_of_memory(recipe, setup) == (
        "CUDA out of memory (other processes hold about 77.0 GB) with train.batch_size = 100000; about "
        f"{fits} fit: start a new run with that, or with train.precision=bfloat16"
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        DEVICE_ERROR("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 369920000 bytes."),
        MemoryError("Unable to allocate 8.00 PiB"),
    ],
)
def test_every_library_that_runs_out_of_memory_is_understood(error):
    assert is_out_of_memory(error)
    assert explain_device_error(error) == "out of memory; end other programs, or use smaller batches"


def test_a_gpu_that_another_process_has_for_itself_is_told_from_one_without_memory():
    error = DEVICE_ERROR("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors")
    assert not is_out_of_memory(error)
    assert explain_device_error(error).startswith("the GPU is busy: another process may have it for itself; wait for")
    assert explain_device_error(RuntimeError("CUDA error: an illegal memory access was encountered")) is None
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_limit_of_a_process_counts_as_its_memory():
    pytest.importorskip("resource")
    script = (
        "import resource, torch; from tmkt_train.training.environment import available_bytes, _proc_bytes\n"
        "limit = _proc_bytes('self/status', 'VmSize') + 10**9\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "print(available_bytes(torch.device('cpu')))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert 0 < int(found) <= 10**9


def test_memory_of_a_step_on_a_cpu_is_counted_in_what_its_kernels_save():
    recipe = load_recipe(find_recipe("scnn_digits"))
    frames = SimpleNamespace(num_time_bins=4, num_channels=2, size=(20, 20), num_classes=10)
    counted = count_step_memory(recipe, frames, torch.float32, on_cpu=True)
    weights = sum(p.nbytes for p in build_network(recipe, frames).parameters())
    assert counted.fixed == 4 * weights
    # Both inputs, and about three tensors of the size of the first layer's output.
    first_layer = 2 * 4 * 15 * 16 * 16 * 4
    assert first_layer < counted.per_sample < 4 * first_layer


def test_the_largest_batch_is_the_last_that_fits():
    memory = StepMemory(fixed=1000, per_sample=30)
    assert memory.largest_batch(1000 + 30 * 7) == 7
    assert memory.of(7) == 1210
    assert memory.largest_batch(1000 + 30 * 7 - 1) == 6
    assert memory.largest_batch(900) == 0
