"""Convolutions of some frames at a time, channels last.

Two implementations with the same interface: Winograd's method for 3 x 3 where both sides have many channels, torch for
everything else. Their results are equal up to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tmkt_train.network.cpu.kernels.winograd import (
    restore_gradient,
    restore_output,
    transform_gradient,
    transform_input,
)
from tmkt_train.network.cpu.memory import mapped, scratch
from tmkt_train.network.cpu.workers import Workers

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.int64]

_MIN_CHANNELS = 32
_BLOCK = 2 << 20
"""Values of a transformed block, 8 MiB in float32; half or twice as many take the same time."""
_FILTER = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]


def convolution(module: nn.Conv2d, weight: Tensor, workers: Workers) -> WinogradConvolution | TorchConvolution:
    """Choose the implementation of a convolution without bias; `weight` has shape (C', C, K, K)."""
    plain = module.stride == (1, 1) and module.dilation == (1, 1) and module.groups == 1
    if plain and module.kernel_size == (3, 3) and module.padding == (1, 1) and min(weight.shape[:2]) >= _MIN_CHANNELS:
        return WinogradConvolution(weight, workers)
    return TorchConvolution(module, weight)


def output_shape(conv: nn.Conv2d, frames: Tensor) -> tuple[int, int, int]:
    """Return height, width and channels of the convolution of frames (F, H, W, C)."""
    padding = [part for part in conv.padding if isinstance(part, int)]
    sides = zip(frames.shape[1:3], padding, conv.dilation, conv.kernel_size, conv.stride, strict=True)
    height, width = ((n + 2 * pad - gap * (k - 1) - 1) // step + 1 for n, pad, gap, k, step in sides)
    return height, width, conv.out_channels


class TorchConvolution:
    """A convolution by torch."""

    def __init__(self, module: nn.Conv2d, weight: Tensor) -> None:
        """Start with a gradient of 0."""
        self._geometry: list[list[int]] = [list(part) for part in (module.stride, module.padding, module.dilation)]  # type: ignore[arg-type]
        self._groups = module.groups
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._grad = torch.zeros_like(self._weight)

    def forward(self, frames: Tensor, out: Tensor, place: Places) -> None:
        """Convolve frames (F, H, W, C) and write to the frames `place` of `out`, (F', H', W', C')."""
        stride, padding, dilation = self._geometry
        out[torch.from_numpy(place)] = torch.conv2d(
            frames.permute(0, 3, 1, 2), self._weight, None, stride, padding, dilation, self._groups
        ).permute(0, 2, 3, 1)

    def backward(self, frames: Tensor, grad: Tensor, place: Places, out: Tensor, out_place: Places) -> None:
        """Accumulate the gradient of the weight, and write that of the frames.

        Args:
            frames: What was convolved, shape (F, H, W, C).
            grad: Gradient of the output, shape (F', H', W', C').
            place: Index in `grad` of each frame, shape (F,).
            out: Written: gradient of the frames, shape (F'', H, W, C).
            out_place: Index in `out` of each frame, shape (F,).
        """
        stride, padding, dilation = self._geometry
        given, weight, _ = torch.ops.aten.convolution_backward(
            grad[torch.from_numpy(place)].permute(0, 3, 1, 2),
            frames.permute(0, 3, 1, 2),
            self._weight,
            None,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            self._groups,
            [True, True, False],
        )
        out[torch.from_numpy(out_place)] = given.permute(0, 2, 3, 1)
        self._grad += weight

    def weight_gradient(self) -> Tensor:
        """Return the gradient that `backward` has accumulated."""
        return self._grad.contiguous()


class WinogradConvolution:
    """A 3 x 3 convolution with stride 1 and padding 1 by `kernels.winograd`; same interface as `TorchConvolution`."""

    def __init__(self, weight: Tensor, workers: Workers) -> None:
        """Transform the weight."""
        self._workers = workers
        self._outputs, self._inputs = weight.shape[:2]
        factor = torch.tensor(_FILTER, dtype=weight.dtype)
        self._filter = torch.kron(factor, factor)
        self._weight = scratch.take("weight", weight, 16, self._outputs, self._inputs)
        torch.mm(self._filter, weight.detach().reshape(-1, 9).T, out=self._weight.view(16, -1))
        self._grad: Tensor | None = None
        self._rows: dict[tuple[str, int], Tensor] = {}

    def forward(self, frames: Tensor, out: Tensor, place: Places) -> None:
        """See `TorchConvolution.forward`."""
        for some in self._blocks(frames, place):
            here = np.arange(some.start, some.stop)
            transformed = self._transform(transform_input, "inward", frames, here, edge=2)
            products = self._multiply(transformed, self._weight.transpose(1, 2))
            self._restore(restore_output, products, out, place[some], edge=0)

    def backward(self, frames: Tensor, grad: Tensor, place: Places, out: Tensor, out_place: Places) -> None:
        """See `TorchConvolution.backward`."""
        if self._grad is None:
            self._grad = scratch.take("grad", self._weight, *self._weight.shape).zero_()
        for some in self._blocks(frames, place):
            here = np.arange(some.start, some.stop)
            outward = self._transform(transform_gradient, "outward", grad, place[some], edge=0)
            inward = self._transform(transform_input, "inward", frames, here, edge=2)
            self._add_products(self._grad, outward, inward)
            products = self._multiply(outward, self._weight)
            self._restore(restore_gradient, products, out, out_place[some], edge=2)

    def weight_gradient(self) -> Tensor:
        """Return the gradient that `backward` has accumulated."""
        grad = torch.zeros_like(self._weight) if self._grad is None else self._grad
        out = mapped(grad, self._outputs, self._inputs, 3, 3)
        torch.mm(grad.view(16, -1).T, self._filter, out=out.view(-1, 9))
        return out

    def _blocks(self, frames: Tensor, place: Places) -> list[slice]:
        height, width = ((length + 1) // 2 for length in frames.shape[1:3])
        step = max(1, _BLOCK // (16 * height * width * max(self._outputs, self._inputs)))
        return [slice(first, min(first + step, len(place))) for first in range(0, len(place), step)]

    def _zeros(self, name: str, count: int, like: Tensor) -> Tensor:
        """Return memory that held zeros when it was first used."""
        if (name, count) not in self._rows:
            self._rows[name, count] = like.new_zeros(count)
        return self._rows[name, count]

    def _transform(self, kernel: Any, name: str, frames: Tensor, place: Places, *, edge: int) -> Tensor:
        """Return the transform of the frames `place` of (F', H, W, C), shape (16, tiles, C)."""
        _, height, width, channels = frames.shape
        tile_rows, tiles = len(place) * ((height + 1) // 2), (width + 1) // 2
        out = scratch.take(name, frames, 16, tile_rows, tiles * channels)
        length = (2 * tiles + edge) * channels
        rows = self._zeros(f"rows {name}", self._workers.count * 4 * length, frames).view(-1, 4, length).numpy()
        zeros = self._zeros("zeros", width * channels, frames).numpy()
        source, target = frames.flatten(2).numpy(), out.numpy()
        self._workers.run(
            lambda part, first, last: kernel(source, place, channels, rows[part], zeros, target, first, last), tile_rows
        )
        return out.view(16, -1, channels)

    def _restore(self, kernel: Any, products: Tensor, out: Tensor, place: Places, *, edge: int) -> None:
        """Write the frames `place` of (F', H, W, C) from products (16, tiles, C)."""
        _, height, width, channels = out.shape
        tile_rows, tiles = len(place) * ((height + 1) // 2), (width + 1) // 2
        source = products.view(16, tile_rows, tiles * channels).numpy()
        length = (tiles + edge) * channels
        rows = self._zeros("rows out", self._workers.count * 4 * length, out).view(-1, 4, length).numpy()
        zeros = (self._zeros("zeros", tiles * channels, out).numpy(),) if edge else ()
        target = out.flatten(2).numpy()
        self._workers.run(
            lambda part, first, last: kernel(source, place, channels, rows[part], *zeros, target, first, last),
            tile_rows,
        )

    def _multiply(self, transformed: Tensor, weight: Tensor) -> Tensor:
        """Multiply (16, N, C) with (16, C, C')."""
        count, channels = transformed.shape[1], weight.shape[2]
        out = scratch.take("products", transformed, 16, count, channels)

        def some(_: int, first: int, last: int) -> None:
            torch.bmm(transformed[first:last], weight[first:last], out=out[first:last])

        self._workers.run(some, 16)
        return out

    def _add_products(self, grad: Tensor, outward: Tensor, inward: Tensor) -> None:
        """Add the products of (16, N, C') and (16, N, C) over the tiles to the gradient (16, C', C)."""

        def some(_: int, first: int, last: int) -> None:
            grad[first:last].baddbmm_(outward[first:last].transpose(1, 2), inward[first:last])

        self._workers.run(some, 16)
