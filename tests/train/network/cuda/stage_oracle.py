"""A stage in float64, one stream and one step after the other, straight from the equations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CENTER = 0.5 + 2**-24
"""The smallest float32 above 0.5: neurons fire from there on, and the surrogate lies there."""


class Spike(torch.autograd.Function):
    """1 where h > 0.5; in backward the triangle max(0, 2 - 4 |z|), or the rectangle |z| < 0.5."""

    @staticmethod
    def forward(ctx, h, surrogate, given):
        ctx.save_for_backward(h)
        ctx.surrogate = surrogate
        return (h >= CENTER).to(h.dtype) if given is None else given

    @staticmethod
    def backward(ctx, grad):
        (h,) = ctx.saved_tensors
        z = (h - CENTER).abs()
        return grad * ((2 - 4 * z).clamp_min(0) if ctx.surrogate == "triangle" else (z < 0.5).to(h.dtype)), None, None


@dataclass
class Affine:
    """A batch norm: what it has, and which statistics each stream uses."""

    weight: Tensor
    bias: Tensor
    mode: str
    running: list[list[Tensor]]
    training: bool
    momentum: float = 0.1
    eps: float = 1e-5

    def __call__(self, x: Tensor, stream: int) -> Tensor:
        """Normalize (T, B, C, H, W)."""
        mean, var = self.running[stream]
        if not self.training:
            return self._apply(x, mean, var)
        if self.mode == "fused":
            return self._apply(x, *self._statistics(x.flatten(0, 1), mean, var))
        return torch.stack([self._apply(step, *self._statistics(step, mean, var)) for step in x])

    def _statistics(self, frames: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        found = frames.mean((0, 2, 3)), frames.var((0, 2, 3), correction=0)
        count = frames.numel() / frames.shape[1]
        with torch.no_grad():
            mean += self.momentum * (found[0] - mean)
            var += self.momentum * (found[1] * count / (count - 1) - var)
        return found

    def _apply(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        away = (x - mean[:, None, None]) / (var + self.eps).sqrt()[:, None, None]
        return self.weight[:, None, None] * away + self.bias[:, None, None]


def neurons(x: Tensor, surrogate: str, given: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes, potentials after reset and charges of (T, ...); `given` spikes replace those that would fire."""
    v, spikes, potentials, charges = torch.zeros_like(x[0]), [], [], []
    for t, step in enumerate(x):
        h = v + (step - v) / 2
        s = Spike.apply(h, surrogate, None if given is None else given[t])
        v = h * (1 - s.detach())
        spikes.append(s)
        potentials.append(v)
        charges.append(h)
    return torch.stack(spikes), torch.stack(potentials), torch.stack(charges)


def pool(x: Tensor) -> Tensor:
    """Average (T, N, C, H, W) over 2 x 2 pixels; an odd last row or column is dropped."""
    return functional.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])
