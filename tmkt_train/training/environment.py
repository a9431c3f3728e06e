"""Where a training runs: device, numerics, memory, and the versions that a result depends on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tmkt_data.cache.reader import read_cache_info
from tmkt_train.choices import Precision
from tmkt_train.errors import RunError
from tmkt_train.network.collectives import num_ranks
from tmkt_train.network.execution import lif_implementation
from tmkt_train.network.imported import source_digest
from tmkt_train.recipe.recipe import Recipe

_CONTAINER = ("memory.max", "memory.current")
_FIRST_WITH_TF32 = (8, 0)
CODE_CHANGED = "the code of the network has changed since the run was started: results may differ"
_PACKAGES = ("tmkt", "torch", "spikingjelly", "numpy")


def choose_device(recipe: Recipe) -> torch.device:
    """Return the device of a recipe.

    Raises:
        RunError: The recipe asks for a GPU and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if recipe.train.device == "cuda" and not has_gpu:
        raise RunError("train.device: found 'cuda', but torch finds no GPU here; set train.device=auto")
    return torch.device("cuda" if has_gpu and recipe.train.device != "cpu" else "cpu")


def choose_precision(recipe: Recipe, device: torch.device) -> Precision:
    """Return the precision that a recipe computes in on a device, `auto` resolved.

    Raises:
        RunError: The device does not compute in it.
    """
    wanted, found = recipe.train.precision, f"train.precision: found '{recipe.train.precision}'"
    if device.type != "cuda":
        if wanted in ("float16", "bfloat16"):
            raise RunError(f"{found}, but this training runs on a CPU, in float32; set train.precision=auto")
        return "float32"
    if wanted == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise RunError(f"{found}, but {name} computes in float16 at most; set train.precision=float16")
    if wanted in ("auto", "tf32"):
        # Older GPUs take it for float32 without a word.
        return "tf32" if torch.cuda.get_device_capability(device) >= _FIRST_WITH_TF32 else "float32"
    return wanted


def describe_device(recipe: Recipe, device: torch.device, name: str) -> str:
    """Describe in words where a training computes, with how many threads, and in which precision unless float32."""
    num_threads, precision = torch.get_num_threads(), choose_precision(recipe, device)
    words = [name, f"{num_threads} thread{'s' if num_threads > 1 else ''}"]
    if precision != "float32":
        words.append(f"{precision} (train.precision = auto)" if recipe.train.precision == "auto" else precision)
    elif recipe.train.precision == "tf32":
        words.append("float32 (TF32 needs a GPU since Ampere)")
    if num_ranks() > 1:
        words.append(f"{num_ranks()} ranks")
    return ", ".join(words)


def compute_dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of what passes between the layers of a network."""
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision, torch.float32)


@contextmanager
def numerics(recipe: Recipe, num_threads: int | None = None) -> Iterator[None]:
    """Make torch reproducible for as long as the context lasts, with the precision and the threads of a recipe.

    TF32 is for convolutions alone, as in the references; other products of float32 stay in it. `num_threads`, those
    that the run was started with, are used where the recipe leaves them open.
    """
    # cuBLAS is deterministic only with a fixed workspace, and reads this when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    memory: Any = torch.utils.deterministic
    threads = torch.get_num_threads()
    was_deterministic = torch.get_deterministic_debug_mode()
    fills_memory = memory.fill_uninitialized_memory
    conv_precision = _conv_precision()
    chosen = recipe.train.num_threads
    torch.set_num_threads((num_threads or threads) if chosen == "auto" else chosen)
    # use_deterministic_algorithms would load the compiler, which takes seconds; loaded later, it reads the variable.
    torch.set_deterministic_debug_mode("error")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    # Filling only helps code that reads memory before writing it, and takes an eighth of the time on a CPU.
    memory.fill_uninitialized_memory = False
    _set_conv_precision("ieee" if recipe.train.precision == "float32" else "tf32")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(was_deterministic)
        memory.fill_uninitialized_memory = fills_memory
        _set_conv_precision(conv_precision)


def _conv_precision() -> str:
    cudnn: Any = torch.backends.cudnn
    # The older name raises once a caller has used the newer one for a part of cuDNN.
    if hasattr(cudnn, "conv"):
        return str(cudnn.conv.fp32_precision)
    return "tf32" if cudnn.allow_tf32 else "ieee"


def _set_conv_precision(value: str) -> None:
    cudnn: Any = torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        cudnn.conv.fp32_precision = value
    else:
        cudnn.allow_tf32 = value == "tf32"


def describe_environment(recipe: Recipe, device: torch.device, cache: Path, cache_digest: str) -> dict[str, Any]:
    """Return what a result depends on apart from the recipe: versions, machine, cache."""
    return {
        **{name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": choose_precision(recipe, device),
        "num_threads": torch.get_num_threads(),
        **({"num_ranks": num_ranks()} if num_ranks() > 1 else {}),
        **({"lif_implementation": lif_implementation(device)} if not recipe.model.is_imported else {}),
        **({"network_digest": source_digest(recipe.model.backbone)} if recipe.model.is_imported else {}),
        "cache": str(cache.resolve()),
        "cache_digest": cache_digest,
    }


def threads_of(environment: Mapping[str, Any]) -> int | None:
    """Return the threads of a process when a run was started; None if it had another number of ranks than now."""
    return int(environment["num_threads"]) if environment.get("num_ranks", 1) == num_ranks() else None


def environment_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what may change the last digits of a resumed run, one line each."""
    # A process on its own does not say that it is one.
    before, now = {"num_ranks": 1, **before}, {"num_ranks": 1, **now}
    return [
        f"{name} was {before[name]} and is {now[name]}: the last digits may differ"
        for name in (*_PACKAGES, "python", "device", "precision", "num_threads", "num_ranks")
        if name in before and before[name] != now[name]
    ] + ([CODE_CHANGED] if before.get("network_digest") != now.get("network_digest") else [])


def code_changes(recipe: Recipe, digest: str | None) -> tuple[str, ...]:
    """Return a note where the network of a user is other code than that of a digest; None: nothing is known of it."""
    now = source_digest(recipe.model.backbone) if recipe.model.is_imported and digest is not None else None
    return (CODE_CHANGED,) if now and now != digest else ()


def reset_peak_memory(device: torch.device) -> None:
    """Measure the peak memory of a GPU from here on; that of a process cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_reserved_bytes(device: torch.device) -> int:
    """Return the peak memory that torch has taken from a GPU so far, free blocks included; 0 on a CPU."""
    return int(torch.cuda.max_memory_reserved(device)) if device.type == "cuda" else 0


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory use so far, of the GPU if the training runs on one, else of this process; 0 if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if os.name != "posix":
        return 0
    # On Linux, the peak of `getrusage` is at least what the parent had when it started this process.
    known = _proc_bytes("self/status", "VmHWM")
    if known is not None:
        return known
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, KiB on Linux.
    return peak if sys.platform == "darwin" else peak * 1024


def available_bytes(device: torch.device) -> int:
    """Return the memory that is free, of the GPU or of this machine; 0 if unknown.

    On Linux that is what can be had without swapping, within the limits of the container and of the process.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = _proc_bytes("meminfo", "MemAvailable")
    if known is None:
        return 0
    known = min(known, _free_address_space() or known)
    try:
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii")) for name in _CONTAINER)
    except (OSError, ValueError):
        # No container, or one without a limit.
        return known
    return max(0, min(known, limit - used))


def _free_address_space() -> int | None:
    """Return what a limit on the memory of the process leaves (`ulimit -v`), at least 1; None without one."""
    import resource

    limit, used = resource.getrlimit(resource.RLIMIT_AS)[0], _proc_bytes("self/status", "VmSize")
    return None if limit == resource.RLIM_INFINITY or used is None else max(1, limit - used)


def _proc_bytes(file: str, name: str) -> int | None:
    """Return a line in kB of a file of /proc, in bytes; None where there is none."""
    try:
        lines = Path("/proc", file).read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    except (OSError, ValueError, StopIteration):
        return None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def cache_of(environment: Mapping[str, Any]) -> Path:
    """Return the path of the cache that a run was started with.

    Raises:
        RunError: There is no such file.
    """
    path = Path(str(environment["cache"]))
    if not path.is_file():
        raise RunError(f"{path}: the cache of this run was not found; give its new path with --cache")
    return path


def same_cache(environment: Mapping[str, Any], cache: Path | None, digest: str) -> Path:
    """Return the cache of a run, or what was given in place of it, before anything of it is used.

    Raises:
        RunError: There is no such file, or it has another digest.
        CacheError: It cannot be read.
    """
    path = cache or cache_of(environment)
    if (found := read_cache_info(path).digest) != digest:
        raise RunError(
            f"{path}: cache digest {found}, expected {digest} as when the run was started; give that cache with "
            "--cache, or start a new run"
        )
    return path
