"""Compile the kernels of the networks, in as many processes as there are cores, before anything is timed."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch
from gpu_contenders import RESNET18, SCNN, VGG_SNN, Contender, System, build, draw_batch, settings_of, small
from gpu_work import Work, dtype_of, line_of

from tmkt_train.network.backbones import build_model
from tmkt_train.network.batch_norm import set_streams
from tmkt_train.network.execution import run_stage, who_ran
from tmkt_train.network.network import Heads
from tmkt_train.network.neurons import keep_membrane
from tmkt_train.network.stages import LayerChoices, Signal, Stage


def run_kernels(work: Work) -> None:
    """Run every stage of VGG-SNN, and a step of the other networks, in each dtype.

    What is compiled here, later steps find on the disk.
    """
    precisions = ("tf32",) if work.is_tiny else ("bfloat16", "tf32", "float16")
    # The longest jobs go first.
    others = [(name, precision) for precision in precisions for name in ("resnet18", "scnn")]
    stages = [(number, precision) for precision in precisions for number in range(9)]
    jobs: list[tuple[str | int, str]] = stages[:2] if work.is_tiny else [*others, *stages]
    num_processes = 1 if work.is_tiny else min(os.cpu_count() or 1, len(jobs))
    work.put("processes", num_processes)
    started, rows = time.perf_counter(), {}
    with ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn")) as pool:
        waiting = {}
        for what, precision in jobs:
            run = compile_network if isinstance(what, str) else compile_stage
            waiting[pool.submit(run, str(work.device), precision, what)] = f"{precision}, {what}"
        for future in as_completed(waiting):
            error = future.exception()
            rows[waiting[future]] = future.result() if error is None else {"error": line_of(error)}
            work.put("jobs", rows)
    work.put("wall_s", time.perf_counter() - started)
    work.put("sum_s", sum(row.get("seconds", 0.0) for row in rows.values()))


def compile_network(device: str, precision: str, name: str) -> dict[str, Any]:
    """Take one training step of a network; return seconds and who ran."""
    system = {"resnet18": RESNET18, "scnn": SCNN}[name]
    contender = Contender("ours", precision)
    started = time.perf_counter()
    with settings_of(contender, system):
        take, network = build(contender, system, draw_batch(system, torch.device(device)))
        take().item()
    return {"seconds": time.perf_counter() - started, "who": sorted(set(map(str, who_ran(network).values())))}


def compile_stage(device: str, precision: str, number: int, system: System = VGG_SNN) -> dict[str, Any]:
    """Run one stage of VGG-SNN on random values of the size that it has in training; return seconds and who ran."""
    place = torch.device(device)
    system = small(system) if place.type == "cpu" else system
    model: Any = build_model(system.backbone, system.shape, Heads(2, separate=False), LayerChoices()).to(place)
    set_streams(model, ("event",) if place.type == "cpu" else ("image", "event"))
    keep_membrane(model.body.tapped, True)
    stage: Stage = model.body.stages()[number]
    side = system.shape.size[0] // 2 ** sum(one.pooling is not None for one in model.body.stages()[:number])
    inputs = _num_inputs(stage)
    steps, frames = system.shape.num_time_steps, system.batch_size * (1 if place.type == "cpu" else 2)
    values = torch.randn(steps, frames, side, side, inputs, device=place).to(dtype_of(precision))
    values = values.permute(0, 1, 4, 2, 3).requires_grad_(stage.norm is not None)
    started = time.perf_counter()
    result = run_stage(stage, Signal(values)).values
    if number == len(model.body.stages()) - 1:
        result = result.sum() + model.body.tapped.v_seq.sum()
    result.float().sum().backward()
    if place.type == "cuda":
        torch.cuda.synchronize()
    who = sorted(set(map(str, who_ran(model).values())))
    return {"seconds": time.perf_counter() - started, "who": who}


def _num_inputs(stage: Stage) -> int:
    if stage.norm is not None:
        return int(stage.norm.weight.numel())
    if stage.convolution is None:
        raise ValueError("a stage has a norm or a convolution")
    return int(stage.convolution.in_channels)
