"""One training step of KT with VGG-SNN on a CPU: tmkt beside a plain reference and a plain use of spikingjelly.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --batch 2 --size 16 --repeats 1 --json step.json

All contenders start from the same weights, see the same batch, and do the same mathematics: two streams, batch norm
per step, TET, alignment by CKA of the membrane potentials, learned coefficients, AdamW. `reference` is written
from the equations, one step after the other, in plain torch. `spikingjelly` runs all steps of a stream at once with
the layers of spikingjelly. `tmkt` is what a run does.

Each run of a contender is a process of its own, so that its peak memory is its own; contenders take turns. A time is
the median over the repeats of one step after one to warm up, a ratio the median of the ratios inside each repeat.
Memory is the peak of the whole process; `idle` is a process that has loaded all of it and has done nothing.

The losses must agree within 1e-4 in float64. In float32 they need not: where rounding flips a single spike of the first
layer, a fifth of the spikes of the last layer change. Both are printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from step_references import Jelly, Loss, Reference, plain_loss
from timing import write_json
from torch import Tensor

from tmkt_train.data.batches import Batch
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.methods import build_method
from tmkt_train.method.mixer import Mixer
from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import FrameShape, Heads, SpikingNetwork
from tmkt_train.network.stages import LayerChoices
from tmkt_train.recipe.schema import LossTable, MixTable

STEPS, CLASSES = 10, 101
CONTENDERS = ("reference", "spikingjelly", "tmkt")
TOLERANCE = 1e-4


def our_loss(model: SpikingNetwork, batch: Batch) -> tuple[Loss, list[Tensor]]:
    """Return the loss as a run of the method `kt` computes it, and what it trains."""
    mixer = Mixer(STEPS, MixTable(), start=None, slide="cubic")
    method = build_method("kt", LossTable(), mixer=mixer, feature_size=model.feature_size).to(batch.events.dtype)
    return lambda: method(model, batch, 0.0).loss, [*model.parameters(), *method.parameters()]


def make_batch(batch: int, size: int, kind: torch.dtype) -> Batch:
    """Make images, the same at each step, and counts of events."""
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(batch, 1, size, size, generator=draw).expand(STEPS, batch, 2, size, size)
    events = torch.poisson(torch.full((STEPS, batch, 2, size, size), 0.3), generator=draw)
    labels = torch.arange(batch) % CLASSES
    rows = np.arange(batch)
    return Batch(
        images.to(kind, memory_format=torch.contiguous_format),
        events.to(kind),
        labels,
        rows,
        DrawKeys(0, 0, rows.astype(np.uint64), 0 * rows),
    )


def run_contender(name: str, batch: int, size: int, kind: torch.dtype, steps: int) -> dict[str, Any]:
    """Train for some steps in this process; the last one is timed."""
    torch.manual_seed(0)
    losses: list[float] = []
    seconds = cpu_seconds = 0.0
    if name != "idle":
        shape, heads = FrameShape(STEPS, 2, (size, size)), Heads(CLASSES, separate=True)
        model = build_model("vgg-snn", shape, heads, LayerChoices("per-step"))
        model = model.to(kind)
        data = make_batch(batch, size, kind)
        networks = {"reference": Reference, "spikingjelly": Jelly}
        if name in networks:
            loss_of, parameters = plain_loss(networks[name](model).to(kind), data)
        else:
            loss_of, parameters = our_loss(model, data)
        del model
        optimizer = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=0.01)
        for _ in range(steps):
            started, cpu_started = time.perf_counter(), time.process_time()
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            del loss
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "losses": losses,
        "s": seconds,
        "cpu_s": cpu_seconds,
        "peak_bytes": peak,
        "threads": torch.get_num_threads(),
    }


def start(name: str, given: argparse.Namespace, batch: int, kind: str, steps: int) -> dict[str, Any]:
    """Run a contender, or "losses" of all, in a process of its own and return what it found."""
    command = [sys.executable, __file__, "--contender", name, "--batch", str(batch), "--size", str(given.size)]
    command += ["--kind", kind, "--steps", str(steps)]
    if given.threads:
        command += ["--threads", str(given.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare_losses(given: argparse.Namespace) -> dict[str, float]:
    """Return the loss of each contender in float64, which must agree."""
    # Another process: what one that starts others has used counts as the peak of those.
    losses: dict[str, float] = start("losses", given, min(given.batch, 2), "float64", 1)
    for name, loss in losses.items():
        assert abs(loss - losses["reference"]) < TOLERANCE, f"{name}: loss {loss}, reference {losses['reference']}"
    return losses


def summarize(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return medians, and medians of the ratios to the reference in the same repeat."""
    rows: dict[str, dict[str, Any]] = {}
    for name, found in runs.items():
        row: dict[str, Any] = {"loss": found[0]["losses"][0] if found[0]["losses"] else None}
        for figure in ("s", "cpu_s", "peak_bytes"):
            values = [run[figure] for run in found]
            ratios = [mine[figure] / theirs[figure] for mine, theirs in zip(found, runs["reference"], strict=True)]
            row[figure] = statistics.median(values)
            row[f"{figure}_all"] = values
            row[f"{figure}_ratio"] = statistics.median(ratios)
            row[f"{figure}_ratio_range"] = [min(ratios), max(ratios)]
        rows[name] = row
    return rows


def print_table(rows: dict[str, dict[str, Any]], losses: dict[str, float]) -> None:
    """Print times and memory beside the reference, and the losses."""
    print(
        f"{'':<14}{'step':>9}{'ratio':>20}{'CPU time':>10}{'ratio':>7}{'peak':>10}{'ratio':>7}"
        f"{'loss, float32':>15}{'float64':>11}"
    )
    for name, row in rows.items():
        low, high = row["s_ratio_range"]
        single = "" if row["loss"] is None else f"{row['loss']:.6f}"
        double = f"{losses[name]:.6f}" if name in losses else ""
        print(
            f"{name:<14}{row['s']:8.2f}s{row['s_ratio']:8.2f} ({low:.2f}-{high:.2f}){row['cpu_s']:9.2f}s"
            f"{row['cpu_s_ratio']:7.2f}{row['peak_bytes'] / 1e9:7.2f} GB{row['peak_bytes_ratio']:7.2f}"
            f"{single:>15}{double:>11}"
        )


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="samples of a step (default 8)")
    parser.add_argument("--size", type=int, default=48, help="height and width of the frames (default 48)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of each figure (default 5)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: as many as it takes)")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    parser.add_argument("--contender", choices=(*CONTENDERS, "idle", "losses"), help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=("float32", "float64"), default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.contender:
        kind = {"float32": torch.float32, "float64": torch.float64}[given.kind]
        run = partial(run_contender, batch=given.batch, size=given.size, kind=kind, steps=given.steps)
        if given.contender == "losses":
            print(json.dumps({name: run(name)["losses"][0] for name in CONTENDERS}))
        else:
            print(json.dumps(run(given.contender)))
        return
    losses = compare_losses(given)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*CONTENDERS, "idle")}
    for _ in range(given.repeats):
        for name, found in runs.items():
            found.append(start(name, given, given.batch, "float32", given.steps))
    rows = summarize(runs)
    print(
        f"VGG-SNN, {given.size} x {given.size}, T = {STEPS}, two streams of {given.batch}, "
        f"{runs['tmkt'][0]['threads']} threads"
    )
    print_table(rows, losses)
    more = {"batch": given.batch, "size": given.size, "threads": runs["tmkt"][0]["threads"], "losses_float64": losses}
    write_json(given.json, rows, ("torch", "spikingjelly"), more)


if __name__ == "__main__":
    main()
