"""The three networks of docs/method.md, "Networks", in plain torch, one time step after the other.

Nothing of tmkt_train or spikingjelly is used: weights come by name from a state dict, and every parameter is a leaf of
its own, so that gradients can be compared by name.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CENTER = 0.5 + 2**-24
"""Middle of the surrogate: tmkt_train fires at h >= the float32 after 0.5, so its surrogate lies 6e-8 higher."""


class Spike(torch.autograd.Function):
    """1 where h > 0.5, strictly; in the backward pass the surrogate: triangle max(0, 2 - 4 |z|), or |z| < 0.5."""

    @staticmethod
    def forward(ctx, h, surrogate):
        ctx.save_for_backward(h)
        ctx.surrogate = surrogate
        return (h > 0.5).to(h.dtype)

    @staticmethod
    def backward(ctx, grad):
        (h,) = ctx.saved_tensors
        z = h - CENTER
        slope = (2 - 4 * z.abs()).clamp_min(0) if ctx.surrogate == "triangle" else (z.abs() < 0.5).to(h.dtype)
        return grad * slope, None


class StepNetwork:
    """State of one pass: membrane potentials by layer name, and running statistics that batch norm updates."""

    def __init__(self, state: dict[str, Tensor], backbone: str, *, normalized: bool) -> None:
        self.backbone = backbone
        self.normalized = normalized
        self.surrogate = "rectangle" if backbone == "scnn" else "triangle"
        self.weights = {name: value.clone() for name, value in state.items()}
        for name, value in self.weights.items():
            if value.is_floating_point() and "running" not in name:
                value.requires_grad_()
        self.potentials: dict[str, Tensor | float] = {}

    def run(self, frames: Tensor, head: str = "event", *, training: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, features and what aligns the streams, each stacked over the steps."""
        self.potentials = {}
        self.training = training
        steps = [getattr(self, f"_{self.backbone.replace('-', '_')}")(frame) for frame in frames]
        features = torch.stack([feature for feature, _ in steps])
        weight, bias = self.weights[f"{head}_head.weight"], self.weights[f"{head}_head.bias"]
        logits = torch.stack([functional.linear(feature, weight, bias) for feature in features])
        return logits, features, torch.stack([aligned for _, aligned in steps])

    def _lif(self, name: str, x: Tensor) -> Tensor:
        v = self.potentials.get(name, 0.0)
        h = v + (x - v) / 2
        s = Spike.apply(h, self.surrogate)
        self.potentials[name] = h * (1 - s.detach())
        return s

    def _norm(self, name: str, x: Tensor) -> Tensor:
        if not self.normalized:
            return x
        mean, var = self.weights[f"{name}.running_mean"], self.weights[f"{name}.running_var"]
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.batch_norm(x, mean, var, weight, bias, self.training, 0.1, 1e-5)

    def _conv(self, name: str, x: Tensor, **how: int) -> Tensor:
        return functional.conv2d(x, self.weights[f"{name}.weight"], **how)

    def _scnn(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for number in (1, 2):
            x = self._norm(f"body.norm{number}", self._conv(f"body.conv{number}", x))
            x = functional.avg_pool2d(self._lif(f"lif{number}", x), 2)
        x = functional.linear(x.flatten(1), self.weights["body.linear.weight"], self.weights["body.linear.bias"])
        spikes = self._lif("lif3", x)
        return spikes, self.potentials["lif3"]

    def _vgg_snn(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for number in range(1, 9):
            x = self._norm(f"body.norm{number}", self._conv(f"body.conv{number}", x, padding=1))
            x = self._lif(f"lif{number}", x)
            if number in (2, 4, 6):
                x = functional.avg_pool2d(x, 2)
        return functional.avg_pool2d(x, 2).flatten(1), self.potentials["lif8"].flatten(1)

    def _resnet18(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self._conv("body.conv", x, padding=1)
        for stage in (1, 2, 3, 4):
            for block in (1, 2):
                x = self._block(f"body.stage{stage}_{block}", x, stride=2 if stage > 1 and block == 1 else 1)
        feature = self._norm("body.norm", x).mean((2, 3))
        return feature, feature

    def _block(self, name: str, x: Tensor, stride: int) -> Tensor:
        y = self._lif(f"{name}.lif1", self._norm(f"{name}.norm1", x))
        y = self._conv(f"{name}.conv1", y, padding=1, stride=stride)
        y = self._lif(f"{name}.lif2", self._norm(f"{name}.norm2", y))
        y = self._conv(f"{name}.conv2", y, padding=1)
        if f"{name}.shortcut.conv.weight" in self.weights:
            x = self._lif(f"{name}.shortcut.lif", self._norm(f"{name}.shortcut.norm", x))
            x = self._conv(f"{name}.shortcut.conv", x, stride=stride)
        return x + y
