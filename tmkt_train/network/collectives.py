"""Sums and rows over the ranks that train one network together, with their gradients.

What ranks minimize together is the mean of their losses, as `DistributedDataParallel` averages gradients. Gradients of
the functions here are those of that mean, times the number of ranks, so that a loss need not know of ranks. A process
that has joined no group is the only rank, and gets back what it gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def num_ranks() -> int:
    """Return how many ranks train together; 1 for a process on its own."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rank() -> int:
    """Return the number of this rank, from 0."""
    return dist.get_rank() if num_ranks() > 1 else 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks, the same bits on each; without gradient."""
    if num_ranks() == 1:
        return values
    total = values.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def merge_moments(mean: Tensor, squares: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merge means, and sums of squared deviations from them, over all ranks.

    Args:
        mean: Means of the values of this rank, any shape, float64.
        squares: Sums of the squared deviations from these, same shape.
        count: Number of values of this rank behind each of them.

    Returns:
        Mean and sum of squares of the values of all ranks, and their count, a scalar.

    Source:
        Chan, Golub and LeVeque, The American Statistician 1983.
    """
    own = torch.cat([mean.reshape(-1), squares.reshape(-1), mean.new_tensor([count])])
    every = [torch.empty_like(own) for _ in range(num_ranks())] if num_ranks() > 1 else [own]
    if num_ranks() > 1:
        dist.all_gather(every, own)
    table = torch.stack(every)
    counts = table[:, -1:]
    means, deviations = table[:, :-1].chunk(2, dim=1)
    total = counts.sum()
    merged = (means * counts).sum(dim=0) / total
    spread = (deviations + counts * (means - merged).square()).sum(dim=0)
    return merged.view(mean.shape), spread.view(mean.shape), total


def gather_rows(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Put the rows of all ranks one behind the other, in the order of the ranks; differentiable once.

    Args:
        values: Rows of this rank, shape (T, sizes[rank], ...).
        sizes: Number of rows of each rank.

    Returns:
        Shape (T, sum(sizes), ...), the same on every rank.
    """
    if len(sizes) == 1:
        return values
    gathered: Tensor = _GatherRows.apply(values, tuple(sizes))
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.sizes = sizes
        # Ranks send equally much; what some have less is filled up, and cut off again.
        own = values.new_zeros(values.shape[0], max(sizes), *values.shape[2:])
        own[:, : values.shape[1]] = values
        every = [torch.empty_like(own) for _ in sizes]
        dist.all_gather(every, own)
        return torch.cat([rows[:, :size] for rows, size in zip(every, sizes, strict=True)], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        first = sum(ctx.sizes[: own_rank()])
        # The rows of this rank are in the loss of every rank.
        return sum_over_ranks(grad)[:, first : first + ctx.sizes[own_rank()]], None
