"""One training step of TMKT with SCNN on a CPU, as in `scnn_digits`: our kernels beside the layers of spikingjelly.

    python benchmarks/scnn_step.py
    python benchmarks/scnn_step.py --threads 1 --repeats 20 --json scnn.json

Both contenders are the same network with the same weights, batch and objective, and take turns in one process; `plain`
calls spikingjelly's layers one by one. Times are CPU time and wall time of a step, the median over the repeats; ratios
are medians of the ratios inside each repeat.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import write_json
from torch import Tensor, nn

from tmkt_train.data.batches import Batch
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.methods import build_method
from tmkt_train.method.mixer import Mixer
from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import FrameShape, Heads, NetworkOutput, SpikingNetwork
from tmkt_train.network.stages import LayerChoices
from tmkt_train.recipe.schema import LossTable, MixTable, OptimTable
from tmkt_train.training.optimizer import build_optimizer

STEPS, CLASSES, SIZE = 10, 10, 34


class Plain(nn.Module):
    """A network whose layers run one by one."""

    def __init__(self, model: SpikingNetwork) -> None:
        """Wrap a network."""
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, head: Any = "event", tap: bool = False) -> NetworkOutput:
        """Run one stream."""
        output: NetworkOutput = self.model(frames, head=head, tap=tap, plain=True)
        return output

    def forward_pair(self, mixed: Tensor, events: Tensor, *, tap: bool = False) -> tuple[NetworkOutput, NetworkOutput]:
        """Run both streams."""
        return self(mixed, "image", tap), self(events, "event", tap)


class Contender:
    """A network with its optimizer."""

    def __init__(self, model: nn.Module, feature_size: int) -> None:
        """Build method and optimizer."""
        torch.manual_seed(1)
        mixer = Mixer(STEPS, MixTable(), start=0.5)
        loss = LossTable(alignment=0.5, modality=0.1, ratio=0.1)
        self.model = model
        self.method = build_method("tmkt", loss, mixer=mixer, feature_size=feature_size)
        self.optimizer = build_optimizer(OptimTable(learning_rate=4e-3), model, self.method)

    def step(self, batch: Batch) -> float:
        """Train on a batch; return the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        objective = self.method(self.model, batch, 0.1)  # type: ignore[arg-type]
        objective.loss.backward()
        self.optimizer.step()
        return objective.loss.item()


def make_batch(size: int) -> Batch:
    """Make images, the same at each step, and counts of events."""
    draw = torch.Generator().manual_seed(2)
    images = torch.rand(size, 1, SIZE, SIZE, generator=draw).expand(STEPS, size, 2, SIZE, SIZE).contiguous()
    events = torch.poisson(torch.full((STEPS, size, 2, SIZE, SIZE), 0.15), generator=draw)
    rows = np.arange(size)
    keys = DrawKeys(0, 0, rows.astype(np.uint64), 0 * rows)
    return Batch(images, events, torch.arange(size) % CLASSES, rows, keys)


def measure(contenders: dict[str, Contender], batch: Batch, repeats: int) -> dict[str, dict[str, Any]]:
    """Return times of a step and their ratios to `plain`; the first two steps warm up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    first: dict[str, float] = {}
    for _ in range(repeats + 2):
        for name, contender in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            loss = contender.step(batch)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            first.setdefault(name, loss)
    rows: dict[str, dict[str, Any]] = {}
    for name, found in times.items():
        pairs = list(zip(found[2:], times["plain"][2:], strict=True))
        rows[name] = {"loss": first[name]}
        for figure, at in (("s", 0), ("cpu_s", 1)):
            rows[name][figure] = statistics.median(mine[at] for mine, _ in pairs)
            rows[name][f"{figure}_ratio"] = statistics.median(mine[at] / theirs[at] for mine, theirs in pairs)
    return rows


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="samples of a step (default 32)")
    parser.add_argument("--repeats", type=int, default=20, help="steps that are timed (default 20)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: as many as it takes)")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = build_model("scnn", FrameShape(STEPS, 2, (SIZE, SIZE)), Heads(CLASSES, separate=False), LayerChoices())
    models = {"plain": Plain(copy.deepcopy(model)), "tmkt": model}
    contenders = {name: Contender(one, model.feature_size) for name, one in models.items()}
    rows = measure(contenders, make_batch(given.batch), given.repeats)
    print(f"SCNN, {SIZE} x {SIZE}, T = {STEPS}, two streams of {given.batch}, {torch.get_num_threads()} threads")
    for name, row in rows.items():
        print(
            f"{name:<8}{row['s'] * 1e3:9.1f} ms{row['s_ratio']:7.2f}{row['cpu_s'] * 1e3:11.1f} ms CPU"
            f"{row['cpu_s_ratio']:7.2f}{given.batch / row['s']:9.0f} samples/s   first loss {row['loss']:.6f}"
        )
    write_json(given.json, rows, ("torch", "spikingjelly"), {"batch": given.batch, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
