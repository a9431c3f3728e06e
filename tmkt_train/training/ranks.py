"""The ranks of a training: processes that join one group, agree before they train, and end together.

With one process, every function here does what it says without a word to anyone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tmkt_data.errors import TmktError
from tmkt_train.errors import OtherRankError, RunError
from tmkt_train.network.collectives import num_ranks, own_rank

Value = TypeVar("Value")

_PATIENCE = timedelta(minutes=10)
"""How long a rank waits for the others: the first one writes checkpoints meanwhile."""
_OF_CONNECTIONS = re.compile(r"gloo|nccl|connection|socket|timed out|TCPStore", re.IGNORECASE)


class LostRankError(RunError):
    """Another rank has ended or cannot be reached."""


@contextmanager
def joined(rank: int, size: int, local_rank: int) -> Iterator[None]:
    """Join the group of a training for as long as the context lasts: gloo for CPUs, beside it NCCL for GPUs.

    A rank sees one GPU only, that of its number on this machine.

    Args:
        rank: Number of this rank, from 0.
        size: Number of ranks.
        local_rank: Number of this rank among those of this machine, from 0.

    Raises:
        RunError: There are fewer GPUs than ranks on this machine, or the others cannot be reached.
    """
    backend = "cpu:gloo,cuda:nccl" if _take_gpu(local_rank) else "gloo"
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise LostRankError(
            f"rank {rank}: {place} and the other ranks cannot be reached ({reason}); "
            f"check MASTER_ADDR, MASTER_PORT and that all {size} ranks were started"
        ) from None
    try:
        yield
    finally:
        dist.destroy_process_group()


def _take_gpu(local_rank: int) -> bool:
    """Hide all GPUs but that of this rank; return whether there is any."""
    # Counted without starting CUDA, which would see all of them from then on.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    count = torch.cuda.device_count()
    if count == 0:
        return False
    if local_rank >= count:
        raise RunError(
            f"rank {local_rank} of this machine: found {count} GPU{'s' if count > 1 else ''}, expected one for each "
            "rank; lower --nproc-per-node, or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on CPUs"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[local_rank]
    return True


def together(make: Callable[[], Value]) -> Value:
    """Call a function on every rank; return what it gives on this one if all succeed.

    Raises:
        TmktError: What the function raised on this rank, if this is the first; or what it raised on another.
        OtherRankError: On the other ranks.
    """
    if num_ranks() == 1:
        return make()
    problem: TmktError | None = None
    value: Any = None
    try:
        value = make()
    except TmktError as error:
        problem = error
    found = [(rank, text) for rank, text in enumerate(_gather(problem and str(problem))) if text is not None]
    if not found:
        result: Value = value
        return result
    if own_rank() > 0:
        raise OtherRankError(found[0][1])
    raise problem or RunError(f"rank {found[0][0]}: {found[0][1]}")


def on_first(make: Callable[[], Value]) -> Value:
    """Call a function on the first rank, and return what it gives on every rank; a value that can be pickled.

    Raises:
        TmktError: What the function raised, on the first rank.
        OtherRankError: On the other ranks.
    """
    if num_ranks() == 1:
        return make()
    problem: TmktError | None = None
    value: Any = None
    if own_rank() == 0:
        try:
            value = make()
        except TmktError as error:
            problem = error
    told = [(problem and str(problem), value)]
    dist.broadcast_object_list(told, src=0)
    text, value = told[0]
    if problem is not None:
        raise problem
    if text is not None:
        raise OtherRankError(text)
    result: Value = value
    return result


def require_same(facts: Mapping[str, str], advice: str) -> None:
    """Require that some facts are the same on every rank.

    Raises:
        RunError: They are not; names the rank and the facts. `OtherRankError` on all ranks but the first.
    """
    every: list[Mapping[str, str]] = _gather(dict(facts))
    for rank, found in enumerate(every):
        names = [name for name in {**every[0], **found} if found.get(name) != every[0].get(name)]
        if names:
            name = names[0]
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            text = (
                f"rank {rank}: {name} is {found.get(name)}, expected {every[0].get(name)} as on rank 0{more}; {advice}"
            )
            raise (OtherRankError if own_rank() else RunError)(text)


def any_rank(flag: bool) -> bool:
    """Return whether a flag is set on any rank."""
    if num_ranks() == 1:
        return flag
    value = torch.tensor(int(flag))
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return bool(value)


def in_turn(own: Iterable[Value]) -> Iterator[Value]:
    """Yield the values of all ranks on each of them: the first ones in the order of the ranks, then the second ones.

    A rank may have one value less than those before it.
    """
    if num_ranks() == 1:
        yield from own
        return
    values = iter(own)
    while True:
        found = _gather(next(values, None))
        for value in found:
            if value is None:
                return
            yield value


def share(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of the first rank."""
    if num_ranks() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


@contextmanager
def explain_lost_ranks() -> Iterator[None]:
    """Turn errors of the connection between ranks into one that says so.

    Raises:
        LostRankError: Another rank has ended or cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        if num_ranks() == 1 or not _OF_CONNECTIONS.search(str(error)):
            raise
        raise LostRankError(
            f"rank {own_rank()}: another rank has ended or cannot be reached; its own last line says why"
        ) from None


def _gather(value: Any) -> list[Any]:
    if num_ranks() == 1:
        return [value]
    every: list[Any] = [None] * num_ranks()
    dist.all_gather_object(every, value)
    return every
