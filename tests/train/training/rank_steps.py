"""Steps of training in float64 by one or several ranks, each a process of its own."""

import multiprocessing
import os
import pickle
import socket
from contextlib import closing, nullcontext
from typing import NamedTuple

import torch

from tmkt_train.data.batches import EpochPlan, training_batches
from tmkt_train.data.sampling import rank_slice
from tmkt_train.network.backbones import build_model
from tmkt_train.network.batch_norm import StreamBatchNorm2d
from tmkt_train.network.collectives import num_ranks, own_rank, sum_over_ranks
from tmkt_train.network.execution import who_ran
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.stages import LayerChoices
from tmkt_train.training.iteration import build_iteration
from tmkt_train.training.ranks import joined
from tmkt_train.training.setup import build_setup

from ..conftest import make_recipe

# A process that has imported torch once, and from which ranks start in no time.
RANKS = multiprocessing.get_context("forkserver")
RANKS.set_forkserver_preload(["tmkt_train.training.run", "torch.nn.parallel"])


class Steps(NamedTuple):
    """What some steps of one rank, or of all ranks together, have seen and computed."""

    losses: list[float]
    metrics: list[dict[str, float]]
    weights: dict[str, torch.Tensor]
    momenta: list[torch.Tensor]
    rows: list[torch.Tensor]
    frames: list[torch.Tensor]
    computed_by: set[str]


def run_on_ranks(number, function, *arguments, num_lost=0):
    """Call a function in processes that have joined one group; return what each gives, by rank, but of those lost."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with closing(RANKS.SimpleQueue()) as results:
        processes = [
            RANKS.Process(target=_rank, args=(rank, number, port, results, function, arguments))
            for rank in range(number)
        ]
        for process in processes:
            process.start()
        found = {rank: pickle.loads(value) for rank, value in (results.get() for _ in range(number - num_lost))}
        for process in processes:
            process.join()
    for value in found.values():
        if isinstance(value, Exception):
            raise value
    return [found[rank] for rank in sorted(found)]


def _rank(rank, number, port, results, function, arguments):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with joined(rank, number, rank) if number > 1 else nullcontext():
            # As bytes: the queue would pass tensors as files of shared memory, which end with this process.
            results.put((rank, pickle.dumps(function(*arguments))))
    except Exception as error:  # noqa: BLE001 - raised by the test
        results.put((rank, pickle.dumps(error)))


def train_cases(cases, cache):
    """Train every case for some steps of each epoch: (changes of the recipe, size of its cache, steps)."""
    steps = {name: _train(changes, cache[size], steps) for name, (changes, size, steps) in cases.items()}
    return {**steps, "plain layers": _run_plain_layers()}


def _run_plain_layers():
    """Return logits, and sums of gradients and running statistics, of both streams in one pass without kernels."""
    torch.manual_seed(0)
    choices = LayerChoices("per-step", "event")
    network = build_model("scnn", FrameShape(3, 2, (16, 16)), Heads(4, separate=True), choices).double()
    mixed, events = torch.rand(2, 3, 7, 2, 16, 16, dtype=torch.float64).round(decimals=1)
    rows = rank_slice(slice(0, 7), own_rank(), num_ranks())
    outputs = network.forward_pair(mixed[:, rows], events[:, rows], merged=True)
    logits = torch.cat([output.logits for output in outputs])
    logits.square().sum().backward()
    gradients = {name: sum_over_ranks(value.grad) for name, value in network.named_parameters()}
    ran = who_ran(network)
    assert {ran[name] for name, module in network.named_modules() if isinstance(module, StreamBatchNorm2d)} == {"plain"}
    return logits.detach(), gradients | dict(network.named_buffers())


def _train(changes, cache, steps):
    recipe = make_recipe(**changes)
    setup = build_setup(recipe, cache, torch.device("cpu"))
    setup.model.double()
    setup.model.compute_dtype = torch.float64
    setup.method.double()
    iteration = build_iteration(setup)
    losses, metrics, rows, frames = [], [], [], []
    for epoch in range(recipe.num_epochs):
        plan = EpochPlan(recipe.seed, epoch, setup.num_draws, 0, own_rank(), num_ranks())
        with closing(training_batches(setup.train_source, recipe.train, plan, setup.device)) as batches:
            for number, batch in zip(range(steps), batches, strict=False):
                progress = (epoch * steps + number) / (recipe.num_epochs * steps)
                draws = setup.method.draw(batch.keys, progress)
                step = iteration(batch, progress)
                losses.append(step.loss.item())
                metrics.append({name: float(value) for name, value in step.metrics.items()})
                rows.append(torch.from_numpy(batch.indices) if draws.points is None else _rows(batch, draws))
                frames.append(_sums(batch))
    return Steps(
        losses,
        metrics,
        {**setup.model.state_dict(), **setup.method.state_dict()},
        [value for state in setup.optimizer.state.values() for value in state.values()],
        rows,
        frames,
        set(who_ran(setup.model).values()),
    )


def _rows(batch, draws):
    return torch.stack([torch.from_numpy(batch.indices), draws.points], dim=1)


def _sums(batch):
    """Return numbers that tell the frames of each row: other pairs, crops or spikes have others."""
    sides = [batch.events] if batch.image is None else [batch.events, batch.image]
    return torch.stack([(side.double() * _ramp(side)).sum(dim=(0, 2, 3, 4)) for side in sides], dim=1)


def _ramp(side):
    one = side[:, 0].double()
    return torch.arange(1.0, one.numel() + 1, dtype=torch.float64).view(one.shape).unsqueeze(1)
