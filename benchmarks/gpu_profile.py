"""Where a training step spends the GPU: time by class of kernels, and the share of the time in which it is busy."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from functools import cache
from typing import Any

import torch
from gpu_contenders import (
    REFERENCE,
    VGG_SNN,
    Contender,
    NotThereError,
    System,
    Take,
    build,
    draw_batch,
    settings_of,
    small,
)
from gpu_work import Work, line_of, release, synchronize
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

CLASSES = {
    "neurons, spikingjelly": r"lif|LIF|spik|neuron",
    "change of memory order": r"nchwToNhwc|nhwcToNchw|nchw2nhwc|nhwc2nchw|transpose|convertTensor|permute",
    "convolution, grad weight": r"wgrad|bwd_filter|backward_filter|BwdFilter",
    "convolution, grad input": r"dgrad|bwd_data|backward_data|BwdData",
    "convolution, forward": r"fprop|implicit_convolve|conv2d|Conv2d|convolve|winograd|conv_depthwise",
    "optimizer": r"adam|Adam|multi_tensor|amp_",
    "batch norm": r"batch_norm|bn_fw|bn_bw|BatchNorm|batchnorm",
    "pooling": r"pool",
    "matrix product": r"gemm|gemv|cublas|cutlass|nvjet|splitK|xmma",
    "copies": r"Memcpy|Memset|memcpy|memset|copy|CatArray|cat_|fill",
    "reductions": r"reduce|softmax|norm|cross_entropy|nll",
    "element-wise": r"elementwise|vectorized|unrolled|index|gather|scatter|where",
}
_STEPS = 3
Spans = list[tuple[float, float]]
Kernels = list[tuple[str, float, float]]


def run_profile(work: Work) -> None:
    """Profile the reference and the fastest candidates."""
    system = small(VGG_SNN) if work.is_tiny else VGG_SNN
    wanted = [Contender("ours", "bfloat16", is_graph=True), Contender("ours", "tf32", is_graph=True)]
    wanted += [Contender("ours", "bfloat16"), Contender("ours", "tf32")]
    for contender in (*wanted, REFERENCE):
        if work.left_s() < 8:
            work.put(contender.name, {"error": "no time left"})
            continue
        try:
            work.put(contender.name, _profile(work, contender, system))
        except NotThereError as error:
            work.put(contender.name, {"not there": str(error)})
        except Exception as error:  # noqa: BLE001
            work.put(contender.name, {"error": line_of(error)})
        release(work.device)


def _profile(work: Work, contender: Contender, system: System) -> dict[str, Any]:
    batch = draw_batch(system, work.device)
    with settings_of(contender, system):
        take, _ = build(contender, system, batch)
        for _ in range(4):
            take()
        synchronize(work.device)
        kernels, wall_ms = _record(work, take)
    return summarize(kernels, wall_ms, _STEPS)


def _record(work: Work, take: Take) -> tuple[Kernels, float]:
    """Return what ran on the device in a few steps, and their time in ms."""
    on_gpu = work.device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    # Starting the profiler takes a second, once a process.
    with profile(activities=[activity]):
        take()
    with profile(activities=[activity]) as profiler:
        synchronize(work.device)
        started = time.perf_counter()
        for _ in range(_STEPS):
            take()
        synchronize(work.device)
        wall_ms = (time.perf_counter() - started) * 1e3
    return kernels_of(profiler, work.device), wall_ms


def kernels_of(profiler: profile, device: torch.device) -> Kernels:
    """Return what ran on the device: name, start and end in ms."""
    place = DeviceType.CUDA if device.type == "cuda" else DeviceType.CPU
    # Ranges that code has given a name span kernels and the gaps between them.
    return [
        (event.name, event.time_range.start / 1e3, event.time_range.end / 1e3)
        for event in profiler.events() or []
        if event.device_type == place and not getattr(event, "is_user_annotation", False)
    ]


@cache
def our_kernels() -> frozenset[str]:
    """Return the names of the kernels in tmkt; none where Triton is missing."""
    try:
        from tmkt_train.network.cuda import kernels
    except ImportError:
        return frozenset()
    modules = [
        importlib.import_module(f"{kernels.__name__}.{one.name}") for one in pkgutil.iter_modules(kernels.__path__)
    ]
    return frozenset(
        name for module in modules for name, value in vars(module).items() if "JITFunction" in type(value).__name__
    )


def class_of(name: str) -> str:
    """Return the class of a kernel by its name."""
    if name.split("(")[0] in our_kernels():
        return "stages, ours"
    return next((kind for kind, pattern in CLASSES.items() if re.search(pattern, name)), "other")


def summarize(kernels: Kernels, wall_ms: float, steps: int) -> dict[str, Any]:
    """Return milliseconds a step by class and of the longest kernels, launches, and the busy share.

    Args:
        kernels: Name, start and end of each in ms.
        wall_ms: Time in which they ran.
        steps: Steps in it.
    """
    classes: dict[str, float] = {}
    names: dict[str, list[float]] = {}
    for name, start, end in kernels:
        kind = class_of(name)
        classes[kind] = classes.get(kind, 0.0) + (end - start) / steps
        names.setdefault(name, []).append(end - start)
    busy_ms = covered([(start, end) for _, start, end in kernels])
    longest = sorted(names.items(), key=lambda item: -sum(item[1]))[:30]
    return {
        "ms": wall_ms / steps,
        "busy_share": busy_ms / wall_ms,
        "gaps_ms": (wall_ms - busy_ms) / steps,
        "launches": len(kernels) / steps,
        "classes_ms": dict(sorted(((k, round(v, 3)) for k, v in classes.items()), key=lambda item: -item[1])),
        "kernels": [
            {"name": name[:120], "class": class_of(name), "ms": round(sum(t) / steps, 4), "launches": len(t) / steps}
            for name, t in longest
        ],
    }


def covered(spans: Spans) -> float:
    """Return the length of the union of spans."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
