"""Train a network of your own with the whole TMKT objective: python examples/own_network.py CACHE.h5 [EPOCHS]."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn

from tmkt_data import PairedFrames
from tmkt_data.torch import PairedTensors, pair_loader
from tmkt_train.method.auxiliary import AuxiliaryHeads, RegularizationCoefficients
from tmkt_train.method.losses import alignment_loss, cka, tet_loss, weighted_event_loss
from tmkt_train.method.losses import modality_guidance_loss as modality_loss
from tmkt_train.method.losses import ratio_perception_loss as ratio_loss
from tmkt_train.method.mixing import DrawKeys, mix, replacement_points, replacement_probability


class Net(nn.Module):
    """Frames [T, B, C, H, W] to logits [T, B, K], features [T, B, D] and membrane potentials [T, B, D]."""

    def __init__(self, num_inputs: int, num_classes: int) -> None:
        super().__init__()
        self.inputs, self.head = nn.Linear(num_inputs, 128), nn.Linear(128, num_classes)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps, v = [], torch.zeros(())
        for current in self.inputs(frames.flatten(2)):
            v = v + (current - v) / 2
            soft = torch.sigmoid(4 * (v - 0.5))
            spikes = (v > 0.5).float() + (soft - soft.detach())
            v = v * (1 - spikes.detach())
            steps.append((spikes, v))
        features, potentials = map(torch.stack, zip(*steps, strict=True))
        return self.head(features), features, potentials


def objective(net: Net, extra: nn.ModuleList, batch: PairedTensors, points: Tensor) -> Tensor:
    """Classify both streams, align them, and tell apart and estimate what was mixed."""
    (heads, coefficients), mixed = extra, mix(batch.image, batch.events, points)
    (logits, features, v), (event_logits, _, event_v) = net(mixed.frames), net(batch.events)
    loss = tet_loss(logits, batch.label).mean() + 0.5 * alignment_loss(cka(v, event_v), sigma := coefficients())
    loss = loss + weighted_event_loss(tet_loss(event_logits, batch.label), sigma)
    loss = loss + 0.1 * modality_loss(heads.modality(features), mixed.mask)
    return loss + 0.1 * ratio_loss(heads.ratio(features), mixed.ratio)


def main(cache: str, epochs: int = 1) -> None:
    """Train on pairs, then classify the recordings of the test split."""
    torch.manual_seed(0)
    train = PairedFrames(cache, "train", encoder="saccade", scale="log1p")
    test = PairedFrames(cache, "test", pairing="none", scale="log1p")
    num_steps, num_inputs = train.num_time_bins, train.num_channels * train.size[0] * train.size[1]
    net = Net(num_inputs, train.num_classes)
    extra = nn.ModuleList([AuxiliaryHeads(128), RegularizationCoefficients(num_steps)])
    optimizer = torch.optim.Adam([*net.parameters(), *extra.parameters()], lr=1e-3)
    probability = replacement_probability(0.5, num_steps)
    for epoch in range(epochs):
        train.set_epoch(epoch)
        for batch in pair_loader(train, 32):
            keys = DrawKeys(train.seed, epoch, train.uids[batch.position], np.zeros(len(batch.label), np.int64))
            loss = objective(net, extra, batch, torch.from_numpy(replacement_points(keys, probability, num_steps)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    right = sum(int((net(b.events)[0].mean(0).argmax(1) == b.label).sum()) for b in pair_loader(test, 64))
    print(f"test: {right} of {len(test)} recordings right")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
