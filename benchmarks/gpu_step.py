"""A training step: time, memory and where it waits, contenders in turn in one process."""

from __future__ import annotations

import statistics
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from gpu_contenders import (
    CONTENDERS,
    REFERENCE,
    RESNET18,
    SCNN,
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
from gpu_work import Work, line_of, release, run_ms, synchronize
from torch import nn

from tmkt_train.data.batches import Batch
from tmkt_train.network.execution import who_ran

ROOT = Path(__file__).resolve().parents[1]
_WARM_UP = 4
_ROUNDS = 5
_STEPS_A_ROUND = 3


def run_step(work: Work) -> None:
    """Measure VGG-SNN at the paper's size."""
    _compare(work, VGG_SNN, CONTENDERS, "vgg-snn")


def run_networks(work: Work) -> None:
    """Measure SCNN and ResNet-18; what has no reference stands beside the plain layers in TF32."""
    plain = Contender("plain", "tf32")
    others = [one for one in CONTENDERS if one not in (REFERENCE, plain) and not one.is_tuned]
    for name, system in (("scnn", SCNN), ("resnet18", RESNET18)):
        _compare(work, system, (plain, *others), name)


def _compare(work: Work, system: System, contenders: tuple[Contender, ...], name: str) -> None:
    """Build all contenders, then time them in turn; the first is what ratios stand to."""
    if work.is_tiny:
        system = small(system)
    batch = draw_batch(system, work.device)
    rows: dict[str, dict[str, Any]] = {}
    takes: dict[Contender, Take] = {}
    for contender in contenders:
        if work.left_s() < 10 and takes:
            rows[contender.name] = {"error": "no time left"}
            continue
        try:
            with settings_of(contender, system):
                takes[contender], rows[contender.name] = _start(work, contender, system, batch)
        except NotThereError as error:
            rows[contender.name] = {"not there": str(error)}
        except Exception as error:  # noqa: BLE001
            rows[contender.name] = {"error": line_of(error)}
        release(work.device)
        work.put(name, {"batch": len(batch), "contenders": rows})
    _take_turns(work, system, takes, rows)
    work.put(name, {"batch": len(batch), "contenders": rows})


def _start(work: Work, contender: Contender, system: System, batch: Batch) -> tuple[Take, dict[str, Any]]:
    """Build a contender and warm it up; return what it takes to run it, and its memory, first step and waiting."""
    release(work.device)
    before = _memory(work, reset=True)
    take, network = build(contender, system, batch)
    first_ms = run_ms(work.device, take)
    losses = [float(take()) for _ in range(_WARM_UP)]
    alone = statistics.median(run_ms(work.device, take) for _ in range(_STEPS_A_ROUND))
    after = _memory(work)
    row = {
        "first_step_ms": first_ms,
        "ms": alone,
        "samples_per_s": len(batch) / alone * 1e3,
        "loss": losses[-1],
        "allocated_gb": (after[0] - before[0]) / 1e9,
        "reserved_gb": (after[1] - before[1]) / 1e9,
        "layers": _who_ran(network),
    }
    return take, row | {"waits": waits(work, take)}


def _who_ran(network: nn.Module) -> dict[str, int]:
    """Return how many layers were computed by whom."""
    return dict(Counter(map(str, who_ran(network).values())))


def _memory(work: Work, *, reset: bool = False) -> tuple[int, int]:
    """Return the peaks of allocated and reserved bytes; after a reset, what is held now."""
    if work.device.type != "cuda":
        return 0, 0
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def waits(work: Work, take: Take) -> list[str]:
    """Return where one warm step waits for the GPU, as file:line of the call."""
    if work.device.type != "cuda":
        return []
    synchronize(work.device)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            take()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [f"{one.filename}:{one.lineno}" for one in found if "called a synchronizing" in str(one.message)]
    return [place.removeprefix(f"{ROOT}/") for place in places]


def _take_turns(work: Work, system: System, takes: dict[Contender, Take], rows: dict[str, dict[str, Any]]) -> None:
    times: dict[Contender, list[float]] = {contender: [] for contender in takes}
    for _ in range(1 if work.is_tiny else _ROUNDS):
        for contender, take in list(takes.items()):
            if work.left_s() < 3 and all(times.values()):
                break
            # What one contender keeps for itself must not push another to the end of the memory.
            release(work.device)
            try:
                with settings_of(contender, system):
                    take()
                    for _ in range(_STEPS_A_ROUND):
                        times[contender].append(run_ms(work.device, take))
            except Exception as error:  # noqa: BLE001
                rows[contender.name]["error"] = line_of(error)
                del takes[contender]
    first = next(iter(times), None)
    for contender, taken in times.items():
        if not taken:
            continue
        row = rows[contender.name]
        row |= {"ms": statistics.median(taken), "least_ms": min(taken), "most_ms": max(taken)}
        row["samples_per_s"] = system.batch_size / row["ms"] * 1e3
        if first is not None and times[first]:
            row["ratio"] = row["ms"] / statistics.median(times[first])
