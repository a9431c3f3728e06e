"""Launches of the kernels: grids and block sizes follow from shapes alone, so a CUDA graph can hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from tmkt_train.network.cuda.kernels import affine, firing, gradient, statistics

BLOCK = 256
"""Lanes of a program; with 4 warps each thread has 2."""
GRADIENT_BLOCK = 128
"""Lanes of a program that computes gradients: one a thread, as each keeps several numbers of every step."""
NUM_WARPS = 4
_UNROLL = 16
_SUMMING = 2112
"""Programs that each write sums: sixteen for each multiprocessor of an H100; their buffer is a few MB."""
_WRITING = 4224
_LEAST_GROUPS = 8
"""Groups of rows that a program has at least, so that loading its parameters pays."""
_PARTS = 64
_WIDTH = 16


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: kernel, number of programs, tensors and numbers by name, and compile-time constants by name."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]

    def run(self) -> None:
        """Launch the kernel on the current stream."""
        self.kernel[self.grid](**self.arguments, **self.constants, num_warps=NUM_WARPS)


class Extent(NamedTuple):
    """Shape of a layer: time steps T, streams S, frames B of a stream, height H, width W, channels C."""

    num_time_steps: int
    num_streams: int
    batch: int
    height: int
    width: int
    num_channels: int

    @classmethod
    def of(cls, values: Tensor, num_streams: int) -> Extent:
        """Return that of values (T, S B, H, W, C)."""
        steps, frames, height, width, channels = values.shape
        return cls(steps, num_streams, frames // num_streams, height, width, channels)

    @property
    def num_rows(self) -> int:
        """Values per stream, step and channel."""
        return self.batch * self.height * self.width

    @property
    def num_pooled(self) -> int:
        """The same after pooling over 2 x 2 pixels."""
        return self.batch * (self.height // 2) * (self.width // 2)


class Tiles(NamedTuple):
    """How rows are shared out: `num_tiles` programs with `span` each of `num_groups` groups of `fold` rows.

    There are `blocks` blocks of channels.
    """

    fold: int
    blocks: int
    num_groups: int
    span: int
    num_tiles: int

    @classmethod
    def of(cls, num_rows: int, num_channels: int, target: int, block: int) -> Tiles:
        """Share out rows among about `target` programs of `block` lanes, all blocks of channels counted."""
        fold = max(1, block // num_channels)
        if num_channels % 8 and fold > 8:
            fold -= fold % 8  # Groups then start at multiples of 16 bytes.
        blocks = -(-num_channels // block)
        num_groups = -(-num_rows // fold)
        count = max(1, min(target // blocks, num_groups // _LEAST_GROUPS))
        span = -(-num_groups // count)
        return cls(fold, blocks, num_groups, span, -(-num_groups // span))


class Parameters(NamedTuple):
    """Mean and inverse deviation, shape (S, T, C), weight and bias, shape (C,), in float32 or float64; or all empty."""

    mean: Tensor
    inverse: Tensor
    weight: Tensor
    bias: Tensor

    @property
    def exist(self) -> bool:
        """Whether there is a norm."""
        return self.mean.numel() > 0


def wide_dtype(values: Tensor) -> torch.dtype:
    """Return the dtype that statistics and neurons compute in."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _wide(values: Tensor) -> Any:
    return tl.float64 if values.dtype == torch.float64 else tl.float32


def batch_statistics(
    values: Tensor,
    found: tuple[Tensor, Tensor, Tensor],
    running: tuple[Tensor, ...],
    num_batches: Tensor | None,
    num_counted: int,
    momentum: float,
    eps: float,
    is_fused: bool,
) -> Iterator[Launch]:
    """Compute the batch statistics of values (T, S B, H, W, C), and update the running statistics.

    Args:
        values: Input of the norm.
        found: Written: mean, biased variance and inverse deviation, shape (S, T, C).
        running: Updated: mean and variance of each stream, shape (C,).
        num_batches: Updated: number of updates, int64.
        num_counted: Added to it.
        momentum: Share of new statistics.
        eps: Added to the variance.
        is_fused: Whether the statistics are those of all steps of a stream at once.
    """
    mean, variance, inverse = found
    extent = Extent.of(values, mean.shape[0])
    steps, streams, channels = extent.num_time_steps, extent.num_streams, extent.num_channels
    tiles = Tiles.of(extent.num_rows, channels, max(1, _SUMMING // (steps * streams)), BLOCK)
    lanes = tiles.blocks * BLOCK
    partial = mean.new_empty(steps * streams, tiles.num_tiles, 2, lanes)
    rows = {"num_rows": extent.num_rows, "num_groups": tiles.num_groups, "span": tiles.span}
    layout = {"C": channels, "FOLD": tiles.fold}
    yield Launch(
        statistics.tile_statistics,
        (tiles.num_tiles, steps * streams, tiles.blocks),
        {"values": values, "partial": partial, **rows, "plane": values[0].numel()},
        {"T": steps, **layout, "BLOCK": BLOCK, "UNROLL": _UNROLL},
    )
    yield Launch(
        statistics.combine_statistics,
        (steps * streams, -(-channels // _WIDTH)),
        {"partial": partial, "mean": mean, "variance": variance, "inverse": inverse, **rows}
        | {"num_tiles": tiles.num_tiles},
        {**layout, "LANES": lanes, "PARTS": _PARTS, "WIDTH": _WIDTH, "EPS": eps},
    )
    names = ("running_mean", "running_var", "other_mean", "other_var")
    yield Launch(
        statistics.update_running,
        (-(-channels // _WIDTH),),
        {"mean": mean, "variance": variance, "inverse": inverse}
        | dict(zip(names, (*running, *running)[:4], strict=True))
        | {"num_batches": mean if num_batches is None else num_batches, "num_counted": num_counted}
        | {"num_rows": extent.num_rows},
        {"S": streams, "T": steps, "C": channels, "IS_FUSED": is_fused, "HAS_COUNT": num_batches is not None}
        | {"WIDTH": _WIDTH, "MOMENTUM": momentum, "EPS": eps},
    )


def fire(
    values: Tensor, parameters: Parameters, spikes: Tensor, potentials: Tensor, num_streams: int, is_pooled: bool
) -> Iterator[Launch]:
    """Run norm and neurons on values (T, S B, H, W, C), and pool the spikes where asked.

    Args:
        values: Input of the norm.
        parameters: Of the norm.
        spikes: Written: shape (T, S B, H, W, C), or (T, S B, H // 2, W // 2, C).
        potentials: Written unless it is empty: potentials after reset, shape (T, S B, H, W, C).
        num_streams: S.
        is_pooled: Whether to pool.
    """
    extent = Extent.of(values, num_streams)
    target = max(1, _WRITING // num_streams)
    common = {"values": values, **parameters._asdict(), "num_rows": extent.num_rows, "plane": values[0].numel()}
    constants = {"T": extent.num_time_steps, "C": extent.num_channels, "BLOCK": BLOCK}
    constants |= {"HAS_NORM": parameters.exist, "WIDE": _wide(values)}
    if is_pooled:
        tiles = Tiles.of(extent.num_pooled, extent.num_channels, target, BLOCK)
        yield Launch(
            firing.fire_and_pool,
            (tiles.num_tiles, num_streams, tiles.blocks),
            {**common, "num_groups": tiles.num_groups, "span": tiles.span, "pooled": spikes}
            | {"num_pooled": extent.num_pooled, "pooled_plane": spikes[0].numel()},
            {**constants, "FOLD": tiles.fold, "HEIGHT": extent.height, "WIDTH": extent.width},
        )
    if not is_pooled or potentials.numel() > 0:
        tiles = Tiles.of(extent.num_rows, extent.num_channels, target, BLOCK)
        yield Launch(
            firing.fire,
            (tiles.num_tiles, num_streams, tiles.blocks),
            {**common, "num_groups": tiles.num_groups, "span": tiles.span, "spikes": spikes, "potentials": potentials},
            {**constants, "FOLD": tiles.fold, "HAS_SPIKES": not is_pooled, "KEEPS": potentials.numel() > 0},
        )


class Surroundings(NamedTuple):
    """What the gradient of a layer depends on beside its tensors.

    Attributes:
        num_streams: S.
        is_triangle: Surrogate "triangle", else "rectangle".
        is_pooled: Whether the spikes were pooled.
        has_statistics: Whether mean and deviation depend on the values.
        is_fused: Whether on those of all steps of a stream.
    """

    num_streams: int
    is_triangle: bool
    is_pooled: bool
    has_statistics: bool
    is_fused: bool


def fire_gradient(
    values: Tensor,
    parameters: Parameters,
    spike_grad: Tensor | None,
    membrane_grad: Tensor | None,
    how: Surroundings,
    out: Tensor,
    weight_grad: Tensor,
    bias_grad: Tensor,
) -> Iterator[Launch]:
    """Compute the gradient of the input of the norm, and with a norm those of its weight and bias.

    Args:
        values: Input of the norm, shape (T, S B, H, W, C).
        parameters: Of the norm.
        spike_grad: Gradient of the spikes as `fire` wrote them.
        membrane_grad: Gradient of the potentials, shape of the values.
        how: See there.
        out: Written: gradient of the values; may be `spike_grad` where that has the same shape and dtype.
        weight_grad: Written: shape (C,).
        bias_grad: Written: shape (C,).
    """
    extent = Extent.of(values, how.num_streams)
    steps, streams, channels = extent.num_time_steps, extent.num_streams, extent.num_channels
    tiles = Tiles.of(extent.num_rows, channels, max(1, _SUMMING // streams), GRADIENT_BLOCK)
    lanes, width = tiles.blocks * GRADIENT_BLOCK, -(-channels // _WIDTH)
    wide, size = wide_dtype(values), steps * streams * channels
    sums = values.new_empty(2, steps * streams, channels, dtype=wide)
    spikes = values if spike_grad is None else spike_grad
    common = {
        "values": values,
        "spike_grad": spikes,
        "membrane_grad": values if membrane_grad is None else membrane_grad,
        **parameters._asdict(),
        "num_rows": extent.num_rows,
        "plane": values[0].numel(),
        "spike_plane": spikes[0].numel(),
    }
    constants = {"T": steps, "C": channels, "FOLD": tiles.fold, "BLOCK": GRADIENT_BLOCK}
    is_pooled = how.is_pooled and spike_grad is not None
    constants |= {"IS_TRIANGLE": how.is_triangle, "IS_POOLED": is_pooled}
    constants |= {"HEIGHT": extent.height if is_pooled else 1, "WIDTH": extent.width if is_pooled else 1}
    constants |= {"HAS_SPIKES": spike_grad is not None, "HAS_MEMBRANES": membrane_grad is not None}
    if parameters.exist:
        partial = values.new_empty(steps * streams, tiles.num_tiles, 2, lanes, dtype=wide)
        span = {"num_groups": tiles.num_groups, "span": tiles.span}
        grid = tiles.num_tiles, streams, tiles.blocks
        yield Launch(gradient.gradient_sums, grid, {**common, **span, "partial": partial}, constants)
        yield Launch(
            affine.combine_gradient,
            (steps * streams, width),
            {"partial": partial, "sums": sums, "num_tiles": tiles.num_tiles, "size": size},
            {"C": channels, "FOLD": tiles.fold, "LANES": lanes, "PARTS": _PARTS, "WIDTH": _WIDTH},
        )
        yield Launch(
            affine.affine_gradient,
            (width,),
            {"sums": sums, "weight_grad": weight_grad, "bias_grad": bias_grad}
            | {"num_rows": extent.num_rows, "size": size},
            {"S": streams, "T": steps, "C": channels, "IS_FUSED": how.is_fused, "WIDTH": _WIDTH},
        )
    tiles = Tiles.of(extent.num_rows, channels, max(1, 2 * _WRITING // streams), GRADIENT_BLOCK)
    yield Launch(
        gradient.input_gradient,
        (tiles.num_tiles, streams, tiles.blocks),
        {**common, "num_groups": tiles.num_groups, "span": tiles.span, "out": out}
        | {"means_of_grad": sums, "size": size},
        {**constants, "HAS_NORM": parameters.exist, "HAS_STATISTICS": parameters.exist and how.has_statistics}
        | {"WIDE": _wide(values)},
    )
