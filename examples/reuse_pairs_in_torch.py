"""Use the pairs of a cache in a loop of your own: a plain PyTorch DataLoader and a spiking network of your own.

    python examples/reuse_pairs_in_torch.py CACHE.h5 [--epochs 1] [--workers 2]

Nothing of tmkt_train is imported. Replace `Net` by your network; it has to take [T, B, C, H, W].
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tmkt_data import PairedFrames


class Spike(torch.autograd.Function):
    """A step forward, a rectangle of width 1 backward."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, above: Tensor) -> Tensor:
        """Fire where the potential is above the threshold."""
        ctx.save_for_backward(above)
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        """Let the gradient through near the threshold."""
        (above,) = ctx.saved_tensors
        return gradient * (above.abs() < 0.5).to(gradient.dtype)


class Net(nn.Module):
    """One layer of leaky integrate-and-fire neurons between two linear maps; logits are averaged over time."""

    def __init__(self, num_inputs: int, num_classes: int, width: int = 128) -> None:
        super().__init__()
        self.inputs = nn.Linear(num_inputs, width)
        self.outputs = nn.Linear(width, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Classify frames of shape [T, B, C, H, W]: logits of shape [B, K]."""
        drive = self.inputs(frames.flatten(2))
        potential = torch.zeros_like(drive[0])
        logits = []
        for step in drive:
            potential = potential + (step - potential) / 2
            spikes = Spike.apply(potential - 0.5)
            potential = potential * (1 - spikes.detach())
            logits.append(self.outputs(spikes))
        return torch.stack(logits).mean(dim=0)


def step_major(frames: Tensor) -> Tensor:
    """Turn a loader batch [B, T, C, H, W] into what spiking networks take: [T, B, C, H, W]."""
    return frames.transpose(0, 1).contiguous()


def main() -> None:
    """Train on both sides of each pair, then print the accuracy on the validation recordings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cache")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()

    torch.manual_seed(0)
    train = PairedFrames(given.cache, split="train", pairing="same-class", seed=0, scale="log1p")
    val = PairedFrames(given.cache, split="val", pairing="none", scale="log1p")
    height, width = train.size
    net = Net(train.num_channels * height * width, train.num_classes)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for epoch in range(given.epochs):
        train.set_epoch(epoch)  # before the pass begins
        total = 0.0
        for sample in DataLoader(train, batch_size=32, shuffle=True, num_workers=given.workers):
            image, events = step_major(sample.image), step_major(sample.events)
            loss = sum(nn.functional.cross_entropy(net(side), sample.label) for side in (image, events))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(sample.label)
        print(f"epoch {epoch}: loss {total / len(train):.3f} over {len(train)} pairs")

    right = 0
    with torch.no_grad():
        for sample in DataLoader(val, batch_size=64, num_workers=given.workers):
            right += int((net(step_major(sample.events)).argmax(dim=1) == sample.label).sum())
    print(f"validation: {right} of {len(val)} recordings right")


if __name__ == "__main__":
    main()
