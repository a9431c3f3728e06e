"""One training step of KT with VGG-SNN on a CPU: tmkt beside a plain reference and a plain use of spikingjelly.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --batch 2 --size 16 --repeats 1 --json step.json

All contenders start from the same weights, see the same batch, and do the same mathematics: two streams, batch norm
per step, TET, alignment by CKA of the membrane potentials, learned coefficients, AdamW. `reference` is written here
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
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tmkt_train.batches import Batch
from tmkt_train.method import build_method
from tmkt_train.mixer import Mixer
from tmkt_train.models import SpikingNetwork, build_model
from tmkt_train.objective import LossWeights

STEPS, CLASSES = 10, 101
CONTENDERS = ("reference", "spikingjelly", "tmkt")
TOLERANCE = 1e-4
LEAST = 0.5 + 2**-24
"""The float32 after 0.5, so that `>=` here is `>` there; the same in float64, so that all fire alike."""
Loss = Callable[[], Tensor]


class Spike(torch.autograd.Function):
    """1 where the potential is above 0.5; backward, the triangle of height 2 and half-width 0.5 around it."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor) -> Tensor:
        """Fire."""
        ctx.save_for_backward(potential)
        return (potential >= LEAST).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Weigh by the surrogate."""
        (potential,) = ctx.saved_tensors
        return grad * (2 - 4 * (potential - LEAST).abs()).clamp_min(0)


class Reference(nn.Module):
    """The network of a model, step by step."""

    def __init__(self, model: SpikingNetwork) -> None:
        """Take the weights of a VGG-SNN."""
        super().__init__()
        body = dict(model.body.named_children())
        shapes = [body[f"conv{number}"].weight.shape for number in range(1, 9)]
        self.convs = nn.ModuleList(nn.Conv2d(shape[1], shape[0], 3, padding=1, bias=False) for shape in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(conv.out_channels) for conv in self.convs)
        for number, conv in enumerate(self.convs, start=1):
            conv.load_state_dict(body[f"conv{number}"].state_dict())
        self.heads = nn.ModuleDict({"event": model.event_head, "image": model.image_head})

    def forward(self, frames: Tensor, head: str) -> tuple[Tensor, Tensor]:
        """Return logits (T, B, K) and potentials of the last neurons (T, B, D) of one stream."""
        potentials: list[Any] = [0.0] * 8
        logits, taps = [], []
        for x in frames:
            for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                charge = potentials[number] + (norm(conv(x)) - potentials[number]) / 2
                x = Spike.apply(charge)
                potentials[number] = charge * (1 - x.detach())
                if number in (1, 3, 5, 7):
                    x = functional.avg_pool2d(x, 2)
            logits.append(self.heads[head](x.flatten(1)))
            taps.append(potentials[7].flatten(1))
        return torch.stack(logits), torch.stack(taps)


class StepNorm(nn.BatchNorm2d):
    """Batch norm that is called once a step."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalize (T, B, C, H, W)."""
        return torch.stack([super(StepNorm, self).forward(step) for step in values])


class Jelly(nn.Module):
    """The network of a model from layers of spikingjelly, all steps of a stream at once."""

    def __init__(self, model: SpikingNetwork) -> None:
        """Take the weights of a VGG-SNN."""
        from spikingjelly.activation_based import layer, neuron, surrogate

        super().__init__()
        body = dict(model.body.named_children())
        parts: list[nn.Module] = []
        for number in range(1, 9):
            outputs, inputs = body[f"conv{number}"].weight.shape[:2]
            conv = layer.Conv2d(inputs, outputs, 3, padding=1, bias=False, step_mode="m")
            conv.load_state_dict(body[f"conv{number}"].state_dict())
            self.last = neuron.LIFNode(
                tau=2.0,
                v_threshold=LEAST,
                v_reset=0.0,
                surrogate_function=surrogate.PiecewiseQuadratic(alpha=2.0),
                detach_reset=True,
                step_mode="m",
                store_v_seq=number == 8,
            )
            parts += [conv, StepNorm(outputs), self.last]
            if number % 2 == 0:
                parts.append(layer.AvgPool2d(2, step_mode="m"))
        self.body = nn.Sequential(*parts, nn.Flatten(start_dim=2))
        self.heads = nn.ModuleDict({"event": model.event_head, "image": model.image_head})

    def forward(self, frames: Tensor, head: str) -> tuple[Tensor, Tensor]:
        """Return logits (T, B, K) and potentials of the last neurons (T, B, D) of one stream."""
        from spikingjelly.activation_based import functional as jelly

        jelly.reset_net(self)
        logits = self.heads[head](self.body(frames))
        return logits, self.last.v_seq.flatten(2)


def tet(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the classification loss of each step."""
    entropies = torch.stack([functional.cross_entropy(step, labels) for step in logits])
    return 0.999 * entropies + 0.001 * (logits - 0.5).square().mean((1, 2))


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """Return CKA of (B, D) and (B, D)."""
    x, y = x - x.mean(0), y - y.mean(0)
    k, m = x @ x.T, y @ y.T
    return (k * m).sum() / (k.norm() * m.norm() + 1e-7)


def plain_loss(network: nn.Module, batch: Batch) -> tuple[Loss, list[Tensor]]:
    """Return the loss of KT for a network of two heads, and what it trains."""
    eta = nn.Parameter(batch.events.new_ones(STEPS))

    def loss() -> Tensor:
        logits_1, taps_1 = network(batch.image, "image")
        logits_2, taps_2 = network(batch.events, "event")
        sigma = eta.sigmoid()
        apart = torch.stack([1 - alignment(x, y).abs() for x, y in zip(taps_1, taps_2, strict=True)])
        event = ((1 - sigma) * tet(logits_2, batch.labels)).mean()
        return tet(logits_1, batch.labels).mean() + event + 0.5 * (sigma * apart).mean()

    return loss, [*network.parameters(), eta]


def our_loss(model: SpikingNetwork, batch: Batch) -> tuple[Loss, list[Tensor]]:
    """Return the loss as a run of the method `kt` computes it, and what it trains."""
    mixer = Mixer(0, STEPS, 0.5, 0.5, "constant", "sequential", False, "cubic")
    method = build_method(
        "kt", weights=LossWeights(), mixer=mixer, num_steps=STEPS, feature_size=model.feature_size
    ).to(batch.events.dtype)
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
        rows.astype(np.uint64),
        0 * rows,
        0,
    )


def run_contender(name: str, batch: int, size: int, kind: torch.dtype, steps: int) -> dict[str, Any]:
    """Train for some steps in this process; the last one is timed."""
    torch.manual_seed(0)
    losses: list[float] = []
    seconds = cpu_seconds = 0.0
    if name != "idle":
        model = build_model(
            "vgg-snn", num_classes=CLASSES, num_channels=2, size=(size, size), batch_norm="per-step",
            num_steps=STEPS, separate_heads=True,
        )  # fmt: skip
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


def start_contender(name: str, given: argparse.Namespace, batch: int, kind: str, steps: int) -> dict[str, Any]:
    """Run a contender in a process of its own and return what it found."""
    command = [sys.executable, __file__, "--contender", name, "--batch", str(batch), "--size", str(given.size)]
    command += ["--kind", kind, "--steps", str(steps)]
    if given.threads:
        command += ["--threads", str(given.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare_losses(given: argparse.Namespace) -> dict[str, float]:
    """Return the loss of each contender in float64, which must agree."""
    batch = min(given.batch, 2)
    losses = {name: start_contender(name, given, batch, "float64", 1)["losses"][0] for name in CONTENDERS}
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
    parser.add_argument("--contender", choices=(*CONTENDERS, "idle"), help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=("float32", "float64"), default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.contender:
        kind = {"float32": torch.float32, "float64": torch.float64}[given.kind]
        print(json.dumps(run_contender(given.contender, given.batch, given.size, kind, given.steps)))
        return
    losses = compare_losses(given)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*CONTENDERS, "idle")}
    for _ in range(given.repeats):
        for name, found in runs.items():
            found.append(start_contender(name, given, given.batch, "float32", given.steps))
    rows = summarize(runs)
    print(
        f"VGG-SNN, {given.size} x {given.size}, T = {STEPS}, two streams of {given.batch}, "
        f"{runs['tmkt'][0]['threads']} threads"
    )
    print_table(rows, losses)
    if given.json is not None:
        about = {"machine": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
        about |= {name: version(name) for name in ("tmkt", "numpy", "numba", "torch", "spikingjelly")}
        about |= {"batch": given.batch, "size": given.size, "threads": runs["tmkt"][0]["threads"]}
        given.json.write_text(json.dumps(about | {"losses_float64": losses, "figures": rows}, indent=2))


if __name__ == "__main__":
    main()
