"""One iteration of training: forward, backward, optimizer step; on a GPU replayed as one CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tmkt_train.data.batches import Batch
from tmkt_train.method.methods import BatchDraws
from tmkt_train.method.objective import Objective
from tmkt_train.network.collectives import num_ranks, sum_over_ranks
from tmkt_train.network.network import SpikingNetwork
from tmkt_train.training.setup import TrainingSetup

_WARM_UP = 2
"""Iterations that run call by call before one is recorded: they load libraries, compile kernels, and make the state of
the optimizer."""


Check = Callable[[Tensor], None]


class Step(NamedTuple):
    """What an iteration gives: the loss that was minimized and means over the batch by name, all scalars.

    `num_skipped` counts terms that were skipped because the batch was too small.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor | float]
    num_skipped: int


class Iteration:
    """Runs iterations call by call; they change its setup in place. A run records `description`: how they run."""

    description = "call by call"

    def __init__(self, setup: TrainingSetup) -> None:
        self.setup = setup

    def __call__(self, batch: Batch, progress: float, check: Check = lambda _: None) -> Step:
        """Train on a batch.

        Args:
            batch: The batch.
            progress: Training progress, in [0, 1].
            check: Called with the loss, before the weights change unless they are changed by a replay; may raise.

        Returns:
            Loss and metrics; their tensors are valid until the next iteration.

        Raises:
            RunError: The method needs images, and the batch has none.
        """
        draws = self.setup.method.draw(batch.keys, progress)
        step = self._run(batch, draws, check)
        return step._replace(metrics={**step.metrics, **draws.metrics})

    def _run(self, batch: Batch, draws: BatchDraws, check: Check) -> Step:
        setup = self.setup
        setup.optimizer.zero_grad(set_to_none=True)
        objective = setup.method.compute(setup.model, batch, draws)
        step = Step(objective.loss.detach(), _metrics(objective, batch.labels), objective.num_skipped)
        check(step.loss)
        self._descend(objective.loss)
        return step

    def _descend(self, loss: Tensor) -> None:
        setup = self.setup
        setup.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        setup.scaler.step(setup.optimizer)
        setup.scaler.update()


class _Objectives(nn.Module):
    """Method and network as one module that gives one differentiable tensor, as `DistributedDataParallel` wants it."""

    def __init__(self, setup: TrainingSetup) -> None:
        super().__init__()
        self.model, self.method = setup.model, setup.method

    def forward(self, batch: Batch, draws: BatchDraws) -> Objective:
        objective = self.method.compute(self.model, batch, draws)
        terms = {name: value.detach() for name, value in objective.terms.items()}
        return objective._replace(terms=terms, logits=objective.logits.detach())


class RankIteration(Iteration):
    """Runs the iterations of one of several ranks: each on its part of the batch, all with the mean of the gradients.

    Loss and metrics are means over the whole batch, the same on every rank, so that all of them find a loss that is not
    finite. The network has the weights of the first rank from the start.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        super().__init__(setup)
        with warnings.catch_warnings():
            # Later versions call the argument forward_sync_buffers.
            warnings.simplefilter("ignore", FutureWarning)
            self._objectives = DistributedDataParallel(
                _Objectives(setup),
                broadcast_buffers=False,
                # Nothing is known of a network of the user's own.
                find_unused_parameters=setup.method.leaves_parameters_out or type(setup.model) is not SpikingNetwork,
                gradient_as_bucket_view=True,
            )

    def _run(self, batch: Batch, draws: BatchDraws, check: Check) -> Step:
        self.setup.optimizer.zero_grad(set_to_none=True)
        objective: Objective = self._objectives(batch, draws)
        share = len(batch) / batch.global_size
        own = Step(objective.loss.detach(), _metrics(objective, batch.labels), objective.num_skipped)
        step = _mean_over_ranks(own, share)
        check(step.loss)
        # Gradients are divided by the number of ranks.
        self._descend(objective.loss * (share * num_ranks()))
        return step


def _mean_over_ranks(step: Step, share: float) -> Step:
    """Return a step with means over the whole batch, of which this rank has a share."""
    tensors = {name: value for name, value in step.metrics.items() if isinstance(value, Tensor)}
    values = torch.stack([value.double() for value in (step.loss, *tensors.values())])
    loss, *means = sum_over_ranks(values * share).unbind()
    return Step(loss, {**step.metrics, **dict(zip(tensors, means, strict=True))}, step.num_skipped)


def predict(logits: Tensor) -> Tensor:
    """Return the class of the largest mean logit over the steps: (T, B, K) to (B,), int64."""
    return logits.detach().mean(dim=0).argmax(dim=1)


def _metrics(objective: Objective, labels: Tensor) -> dict[str, Tensor | float]:
    accuracy = (predict(objective.logits) == labels).double().mean()
    terms = {f"loss_terms.{name}": value.detach() for name, value in objective.terms.items()}
    return {"train_accuracy": accuracy, **terms, **objective.metrics}


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    step: Step


class ReplayedIteration(Iteration):
    """Records an iteration as a CUDA graph and replays it: no launches, no gaps between kernels.

    Batches of another size than the recorded one, such as the last of an epoch, run call by call, and so does
    everything where recording fails. A replay gives the same bits. The optimizer has to be capturable, with learning
    rates that are tensors on the device.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        super().__init__(setup)
        self._seen: dict[tuple[Any, ...], int] = {}
        self._recordings: dict[tuple[Any, ...], _Recording] = {}
        self._problem: str | None = None

    @property
    def description(self) -> str:  # type: ignore[override]
        """How iterations run, for the record of a run."""
        if self._problem is not None:
            return f"call by call, as recording failed: {self._problem}"
        return "CUDA graph" if self._recordings else "call by call"

    def _run(self, batch: Batch, draws: BatchDraws, check: Check) -> Step:
        key = (draws.phase, batch.events.shape, batch.image is None, draws.points is None)
        if key not in self._recordings and not self._may_record(key, batch, draws):
            return super()._run(batch, draws, check)
        step = _replay(self._recordings[key], _inputs(batch, draws))
        check(step.loss)
        return step

    def _may_record(self, key: tuple[Any, ...], batch: Batch, draws: BatchDraws) -> bool:
        """Record an iteration if that is due and works; return whether it did."""
        seen = self._seen[key] = self._seen.get(key, 0) + 1
        # One size is recorded in each phase: one that comes once an epoch is not worth the memory.
        is_other_size = any(other[0] == draws.phase for other in self._recordings)
        if seen <= _WARM_UP or is_other_size or self._problem is not None:
            return False
        # A phase that is over never comes back, and its recording holds the memory of an iteration.
        self._recordings.clear()
        try:
            self._recordings[key] = self._record(batch, draws)
        except RuntimeError as error:
            self._problem = str(error).splitlines()[0]
            if self.setup.scaler.is_enabled():
                # It may have taken the step for done; the same scale again makes it forget that.
                self.setup.scaler.update(self.setup.scaler.get_scale())
            return False
        return True

    def _record(self, batch: Batch, draws: BatchDraws) -> _Recording:
        """Record an iteration; nothing of it is computed yet."""
        inputs = tuple(tensor.to(batch.events.device, copy=True) for tensor in _inputs(batch, draws))
        image, events, labels, points = _place(inputs, batch, draws)
        static = Batch(image, events, labels, batch.indices, batch.keys)
        self.setup.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        # Threads that read batches or write a checkpoint may call CUDA meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            step = super()._run(static, draws._replace(points=points), lambda _: None)
        return _Recording(graph, inputs, step)


def _inputs(batch: Batch, draws: BatchDraws) -> tuple[Tensor, ...]:
    return tuple(part for part in (batch.image, batch.events, batch.labels, draws.points) if part is not None)


def _place(
    inputs: tuple[Tensor, ...], batch: Batch, draws: BatchDraws
) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None]:
    """Return inputs as image, events, labels and points."""
    rest = list(inputs)
    image = None if batch.image is None else rest.pop(0)
    points = None if draws.points is None else rest.pop()
    events, labels = rest
    return image, events, labels, points


def _replay(recording: _Recording, inputs: tuple[Tensor, ...]) -> Step:
    for static, given in zip(recording.inputs, inputs, strict=True):
        static.copy_(given, non_blocking=True)
    recording.graph.replay()
    return recording.step


def build_iteration(setup: TrainingSetup) -> Iteration:
    """Build what runs the iterations of a training on its device, or on those of its ranks."""
    if num_ranks() > 1:
        return RankIteration(setup)
    return ReplayedIteration(setup) if setup.device.type == "cuda" else Iteration(setup)
