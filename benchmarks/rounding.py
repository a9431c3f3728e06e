"""Accuracy of the precisions of a GPU over seeds, with their rounding reproduced on a CPU.

    python benchmarks/rounding.py --seeds 5 --work rounding
    python benchmarks/rounding.py --recipe scnn_nmnist --cache nmnist.h5 --work rounding --set train.epochs=10
    python benchmarks/rounding.py --quick

Trains a recipe in each precision with each seed, and compares accuracies with those of tf32 seed by seed. Without
`--cache` it draws digits. Trainings whose result is in `--work` are not repeated, so that several processes can share
the seeds (`--first-seed`). This is no run on a GPU; what is computed in which precision:

- tf32: operands of each convolution (forward, input gradient, weight gradient) are rounded to 10 mantissa bits, to the
  nearest, ties to even; products are added in float32.
- float16, bfloat16: what passes between stages, its gradients, the weights that convolutions see and their gradients
  have this dtype; products are added in float32, and norm, neurons and pooling compute in it; the loss is scaled in
  float16, and steps that overflow are skipped. Parameters, running statistics, linear layers, losses and the optimizer
  stay in float32.
- float32: the same without rounding. "kernels": float32 as a user trains on a CPU, whose only difference is the order
  of summation. How far both are apart is what no rounding can be blamed for.

A GPU differs from this in the order of every sum, in how cuDNN rounds to tf32, in algorithms of cuDNN that transform
their operands, and in that both streams are one pass: their weight gradient is rounded once, not one by one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from made_digits import made_digits
from precision_verdict import Beside, beside_tf32, verdict
from timing import write_json
from torch import Tensor, nn
from torch.func import functional_call

from tmkt_train.network.network import Body
from tmkt_train.network.neurons import keeps_membrane, membrane, store_membrane
from tmkt_train.network.stages import RunStage, Signal, Stage
from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.training.environment import compute_dtype
from tmkt_train.training.progress import Finished
from tmkt_train.training.run import Run, start_run

Rounded = Literal["kernels", "float32", "tf32", "float16", "bfloat16"]

_KEPT = ("test_accuracy", "last_epoch_test_accuracy", "val_accuracy", "best_epoch", "num_skipped_steps", "train_loss")
_QUICK = (
    *("train.epochs=1", "train.steps_per_epoch=1", "train.batch_size=4", "optim.warmup_epochs=0"),
    *("data.prepare.size=16", "data.prepare.time_bins=4"),
)
_DROPPED = 13
"""Mantissa bits of float32 that tf32 lacks."""


def round_to_tf32(values: Tensor) -> Tensor:
    """Round float32 to 10 mantissa bits, to the nearest, ties to even; infinity and NaN stay.

    Example:
        >>> round_to_tf32(torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-10])).tolist()
        [1.0, 1.001953125, 1.0009765625]
    """
    bits = values.view(torch.int32)
    rounded = ((bits >> _DROPPED) & 1).add_(bits).add_((1 << (_DROPPED - 1)) - 1).bitwise_and_(-(1 << _DROPPED))
    return torch.where(values.isnan(), values, rounded.view(torch.float32))


class _Operand(torch.autograd.Function):
    """Round what a convolution reads; its gradient stays as it is."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return round_to_tf32(values)

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad


class _Result(torch.autograd.Function):
    """Give the result of a convolution as it is, and round its gradient, an operand of both gradients."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return round_to_tf32(grad)


def convolve(conv: nn.Conv2d, values: Tensor, dtype: torch.dtype, to_tf32: bool) -> Tensor:
    """Compute a convolution and its gradient from rounded operands, with sums in float32.

    Args:
        conv: The convolution.
        values: Its input, float32.
        dtype: Half precision that operands and gradients are rounded to; float32 does not round.
        to_tf32: Whether operands in float32 are rounded to tf32.
    """
    if to_tf32:
        weight = {"weight": _Operand.apply(conv.weight)}
        result: Tensor = _Result.apply(functional_call(conv, weight, (_Operand.apply(values),)))
        return result
    # A cast forth and back rounds on the way forward, and its gradient on the way back.
    weight = {"weight": conv.weight.to(dtype).float()}
    found: Tensor = functional_call(conv, weight, (values.to(dtype).float(),))
    return found


def run_rounded(stage: Stage, signal: Signal, *, run: RunStage, to_tf32: bool) -> Signal:
    """Compute a stage as the kernels for a GPU do: norm and neurons in float32, the result in the dtype of the signal.

    `run` computes norm and neurons.
    """
    dtype, values = signal.values.dtype, signal.values.float()
    if stage.neurons is not None:
        values = run(Stage(stage.norm, stage.neurons), Signal(values)).values
        if keeps_membrane(stage.neurons):
            store_membrane(stage.neurons, membrane(stage.neurons).to(dtype).float())
    elif stage.norm is not None:
        values = run(Stage(stage.norm), Signal(values)).values
    if stage.pooling is not None:
        values = stage.pooling(values)
    if stage.convolution is not None:
        values = convolve(stage.convolution, values, dtype, to_tf32)
    return Signal(values.to(dtype))


class RoundedBody(Body):
    """The layers of a body, under their names, whose stages are computed by `run_rounded`."""

    def __init__(self, body: Body, to_tf32: bool) -> None:
        """Take the layers of a body."""
        super().__init__()
        for name, layer in body.named_children():
            self.add_module(name, layer)
        self.feature_size, self.alignment_size = body.feature_size, body.alignment_size
        # In a tuple, so that its layers do not have two names.
        self._body, self._to_tf32 = (body,), to_tf32

    @property
    def tapped(self) -> nn.Module | None:
        """See `Body.tapped`."""
        return self._body[0].tapped

    def forward(self, frames: Signal, run: RunStage) -> Tensor:
        """See `Body.forward`."""
        return self._body[0](frames, partial(run_rounded, run=run, to_tf32=self._to_tf32))  # type: ignore[no-any-return]


def rounded(run: Run, precision: Rounded) -> Run:
    """Return a run whose network rounds as a precision does on a GPU."""
    if precision == "kernels":
        return run
    model: Any = run.setup.model
    model.body = RoundedBody(model.body, to_tf32=precision == "tf32")
    model.compute_dtype = compute_dtype(precision)
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "float16")
    return replace(run, setup=replace(run.setup, scaler=scaler))


def train(settings: list[str], given: argparse.Namespace, cache: Path, precision: Rounded) -> dict[str, Any]:
    """Train once; return what is kept of the result."""
    recipe = load_recipe(find_recipe(given.recipe), settings)
    with tempfile.TemporaryDirectory() as name:
        run = start_run(recipe, cache=cache, out=Path(name) / "run")
        (result,) = (step.result for step in rounded(run, precision).train() if isinstance(step, Finished))
        rows = (Path(name) / "run" / "metrics.jsonl").read_text().splitlines()
    result = {**result, "train_loss": json.loads(rows[-1])["train_loss"]}
    return {"seed": recipe.seed, "precision": precision} | {key: result[key] for key in _KEPT if key in result}


def trainings(given: argparse.Namespace, cache: Path) -> Iterator[dict[str, Any]]:
    """Train every precision with one seed after the other; yield each result, those that are there too."""
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        for precision in given.precisions:
            path = given.work / f"{precision}-{seed}.json"
            if not path.is_file():
                settings = [*given.settings, f"seed={seed}", "train.device=cpu", "train.num_threads=1"]
                path.write_text(json.dumps(train(settings, given, cache, precision)))
            row = json.loads(path.read_text())
            print(f"seed {seed}  {precision:<9} {row['test_accuracy']:7.1%}", flush=True)
            yield row


def print_table(accuracies: dict[str, dict[str, Beside]]) -> None:
    """Print mean, spread and difference of each precision, and the verdict, for each accuracy."""
    for key, found in accuracies.items():
        print(f"\n{key}, %")
        for precision, one in found.items():
            print(f"  {precision:<9} {one.text}")
        print(f"  {verdict(found)}")


def main() -> None:
    """Train, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="scnn_digits", help="recipe (default scnn_digits)")
    parser.add_argument("--cache", type=Path, help="cache for it (default: digits are drawn)")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE of all runs")
    parser.add_argument("--precisions", nargs="+", choices=get_args(Rounded), default=list(get_args(Rounded)))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--first-seed", type=int, default=42, help="the first of them (default 42)")
    parser.add_argument("--work", type=Path, help="folder for results (default: a temporary one)")
    parser.add_argument("--quick", action="store_true", help="one step on few digits: shows that it runs")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    if given.quick:
        given.settings = [*_QUICK, *given.settings]
    with tempfile.TemporaryDirectory() as name:
        given.work = given.work or Path(name)
        given.work.mkdir(parents=True, exist_ok=True)
        recipe = load_recipe(find_recipe(given.recipe), given.settings)
        cache = given.cache or made_digits(given.work, 12 if given.quick else 80, recipe.data.prepare.to_spec())
        rows = list(trainings(given, cache))
    accuracies = {key: beside_tf32(rows, key) for key in ("test_accuracy", "last_epoch_test_accuracy")}
    print_table(accuracies)
    figures = {
        "runs": rows,
        "summary": {key: {name: one.to_json() for name, one in found.items()} for key, found in accuracies.items()},
        "verdict": {key: verdict(found) for key, found in accuracies.items()},
    }
    write_json(given.json, figures, ("torch", "spikingjelly"), {"recipe": given.recipe, "settings": given.settings})


if __name__ == "__main__":
    main()
