"""The kernels as operators of torch, so that fake and meta tensors pass through them without a launch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tmkt_train.network.cuda.kernels import launch
from tmkt_train.network.cuda.kernels.launch import Launch, Parameters, Surroundings


def _run(values: Tensor, launches: Iterable[Launch]) -> None:
    with torch.cuda.device(values.device if values.is_cuda else -1):
        for one in launches:
            one.run()


def _write_nothing(*_: object) -> None:
    """Stand for an operator on fake tensors: all of them write to tensors that they are given."""


def _batch_statistics(
    values: Tensor,
    mean: Tensor,
    variance: Tensor,
    inverse: Tensor,
    running: list[Tensor],
    num_batches: Tensor | None,
    num_counted: int,
    momentum: float,
    eps: float,
    is_fused: bool,
) -> None:
    found = mean, variance, inverse
    _run(
        values,
        launch.batch_statistics(values, found, tuple(running), num_batches, num_counted, momentum, eps, is_fused),
    )


def _fire(
    values: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    spikes: Tensor,
    potentials: Tensor,
    num_streams: int,
    is_pooled: bool,
) -> None:
    parameters = Parameters(mean, inverse, weight, bias)
    _run(values, launch.fire(values, parameters, spikes, potentials, num_streams, is_pooled))


def _fire_gradient(
    values: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor,
    bias: Tensor,
    spike_grad: Tensor | None,
    membrane_grad: Tensor | None,
    out: Tensor,
    weight_grad: Tensor,
    bias_grad: Tensor,
    num_streams: int,
    is_triangle: bool,
    is_pooled: bool,
    has_statistics: bool,
    is_fused: bool,
) -> None:
    parameters = Parameters(mean, inverse, weight, bias)
    how = Surroundings(num_streams, is_triangle, is_pooled, has_statistics, is_fused)
    _run(
        values,
        launch.fire_gradient(values, parameters, spike_grad, membrane_grad, how, out, weight_grad, bias_grad),
    )


batch_statistics = torch.library.custom_op(
    "tmkt::batch_statistics",
    _batch_statistics,
    mutates_args=("mean", "variance", "inverse", "running", "num_batches"),
    schema=(
        "(Tensor values, Tensor(a!) mean, Tensor(b!) variance, Tensor(c!) inverse, Tensor(d!)[] running, "
        "Tensor(e!)? num_batches, int num_counted, float momentum, float eps, bool is_fused) -> ()"
    ),
)
fire = torch.library.custom_op(
    "tmkt::fire",
    _fire,
    mutates_args=("spikes", "potentials"),
    schema=(
        "(Tensor values, Tensor mean, Tensor inverse, Tensor weight, Tensor bias, Tensor(a!) spikes, "
        "Tensor(b!) potentials, int num_streams, bool is_pooled) -> ()"
    ),
)
fire_gradient = torch.library.custom_op(
    "tmkt::fire_gradient",
    _fire_gradient,
    mutates_args=("out", "weight_grad", "bias_grad"),
    schema=(
        "(Tensor values, Tensor mean, Tensor inverse, Tensor weight, Tensor bias, Tensor? spike_grad, "
        "Tensor? membrane_grad, Tensor(a!) out, Tensor(b!) weight_grad, Tensor(c!) bias_grad, int num_streams, "
        "bool is_triangle, bool is_pooled, bool has_statistics, bool is_fused) -> ()"
    ),
)
for _operator in (batch_statistics, fire, fire_gradient):
    _operator.register_fake(_write_nothing)
