"""What the training step stands beside: KT in plain torch, and from layers of spikingjelly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmkt_train.data.batches import Batch
from tmkt_train.network.network import SpikingNetwork

LEAST = 0.5 + 2**-24
"""The float32 after 0.5, so that `>=` here is `>` there; the same in float64, so that all fire alike."""
Loss = Callable[[], Tensor]


class Spike(torch.autograd.Function):
    """1 where the potential is above 0.5; backward, the triangle of height 2 and half-width 0.5 around it."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor) -> Tensor:
        """Fire."""
        ctx.save_for_backward(potential)
        return (potential >= LEAST).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Weigh by the surrogate."""
        (potential,) = ctx.saved_tensors
        return grad * (2 - 4 * (potential - LEAST).abs()).clamp_min(0)


class Reference(nn.Module):
    """The network of a model, step by step."""

    def __init__(self, model: SpikingNetwork) -> None:
        """Take the weights of a VGG-SNN."""
        super().__init__()
        body = dict(model.body.named_children())
        shapes = [body[f"conv{number}"].weight.shape for number in range(1, 9)]
        self.convs = nn.ModuleList(nn.Conv2d(shape[1], shape[0], 3, padding=1, bias=False) for shape in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(conv.out_channels) for conv in self.convs)
        for number, conv in enumerate(self.convs, start=1):
            conv.load_state_dict(body[f"conv{number}"].state_dict())
        self.heads = nn.ModuleDict({"event": model.event_head, "image": model.image_head})

    def forward(self, frames: Tensor, head: str) -> tuple[Tensor, Tensor]:
        """Return logits (T, B, K) and potentials of the last neurons (T, B, D) of one stream."""
        potentials: list[Any] = [0.0] * 8
        logits, taps = [], []
        for x in frames:
            for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                charge = potentials[number] + (norm(conv(x)) - potentials[number]) / 2
                x = Spike.apply(charge)
                potentials[number] = charge * (1 - x.detach())
                if number in (1, 3, 5, 7):
                    x = functional.avg_pool2d(x, 2)
            logits.append(self.heads[head](x.flatten(1)))
            taps.append(potentials[7].flatten(1))
        return torch.stack(logits), torch.stack(taps)


class StepNorm(nn.BatchNorm2d):
    """Batch norm that is called once a step."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalize (T, B, C, H, W)."""
        return torch.stack([super(StepNorm, self).forward(step) for step in values])


class Jelly(nn.Module):
    """The network of a model from layers of spikingjelly, all steps of a stream at once."""

    def __init__(self, model: SpikingNetwork) -> None:
        """Take the weights of a VGG-SNN."""
        from spikingjelly.activation_based import layer, neuron, surrogate

        super().__init__()
        body = dict(model.body.named_children())
        parts: list[nn.Module] = []
        for number in range(1, 9):
            outputs, inputs = body[f"conv{number}"].weight.shape[:2]
            conv = layer.Conv2d(inputs, outputs, 3, padding=1, bias=False, step_mode="m")
            conv.load_state_dict(body[f"conv{number}"].state_dict())
            self.last = neuron.LIFNode(
                tau=2.0,
                v_threshold=LEAST,
                v_reset=0.0,
                surrogate_function=surrogate.PiecewiseQuadratic(alpha=2.0),
                detach_reset=True,
                step_mode="m",
                store_v_seq=number == 8,
            )
            parts += [conv, StepNorm(outputs), self.last]
            if number % 2 == 0:
                parts.append(layer.AvgPool2d(2, step_mode="m"))
        self.body = nn.Sequential(*parts, nn.Flatten(start_dim=2))
        self.heads = nn.ModuleDict({"event": model.event_head, "image": model.image_head})

    def forward(self, frames: Tensor, head: str) -> tuple[Tensor, Tensor]:
        """Return logits (T, B, K) and potentials of the last neurons (T, B, D) of one stream."""
        from spikingjelly.activation_based import functional as jelly

        jelly.reset_net(self)
        logits = self.heads[head](self.body(frames))
        return logits, self.last.v_seq.flatten(2)


def tet(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the classification loss of each step."""
    entropies = torch.stack([functional.cross_entropy(step, labels) for step in logits])
    return 0.999 * entropies + 0.001 * (logits - 0.5).square().mean((1, 2))


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """Return CKA of (B, D) and (B, D)."""
    x, y = x - x.mean(0), y - y.mean(0)
    k, m = x @ x.T, y @ y.T
    return (k * m).sum() / (k.norm() * m.norm() + 1e-7)


def plain_loss(network: nn.Module, batch: Batch) -> tuple[Loss, list[Tensor]]:
    """Return the loss of KT for a network of two heads, and what it trains."""
    eta = nn.Parameter(batch.events.new_ones(len(batch.events)))

    def loss() -> Tensor:
        logits_1, taps_1 = network(batch.image, "image")
        logits_2, taps_2 = network(batch.events, "event")
        sigma = eta.sigmoid()
        apart = torch.stack([1 - alignment(x, y).abs() for x, y in zip(taps_1, taps_2, strict=True)])
        event = ((1 - sigma) * tet(logits_2, batch.labels)).mean()
        return tet(logits_1, batch.labels).mean() + event + 0.5 * (sigma * apart).mean()

    return loss, [*network.parameters(), eta]
