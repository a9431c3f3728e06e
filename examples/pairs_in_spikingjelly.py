"""Train a spikingjelly network on pairs: python examples/pairs_in_spikingjelly.py CACHE.h5 [EPOCHS].

spikingjelly takes [T, N, C, H, W] in step mode "m". Its own datasets give (frames [T, C, H, W], label): a sample of
`PairedFrames` has the same as `sample.events, sample.label`.
"""

from __future__ import annotations

import sys

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from tmkt_data import PairedFrames
from tmkt_data.torch import pair_loader


def build(channels: int, side: int, num_classes: int) -> nn.Module:
    """One convolution and one linear map with LIF neurons between them; logits [T, N, K]."""
    net = nn.Sequential(
        layer.Conv2d(channels, 16, 3, stride=2, padding=1, bias=False),
        layer.BatchNorm2d(16),
        neuron.LIFNode(surrogate_function=surrogate.ATan()),
        layer.Flatten(),
        layer.Linear(16 * ((side + 1) // 2) ** 2, num_classes),
    )
    functional.set_step_mode(net, "m")
    return net


def main(cache: str, epochs: int = 1) -> None:
    """Classify both sides of each pair, then the recordings of the test split."""
    torch.manual_seed(0)
    train = PairedFrames(cache, "train", encoder="saccade", scale="log1p")
    test = PairedFrames(cache, "test", pairing="none", scale="log1p")
    net = build(train.num_channels, train.size[0], train.num_classes)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for epoch in range(epochs):
        train.set_epoch(epoch)
        for batch in pair_loader(train, 32):
            loss = torch.zeros(())
            for side in (batch.image, batch.events):
                loss = loss + nn.functional.cross_entropy(net(side).mean(dim=0), batch.label)
                functional.reset_net(net)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    right = 0
    with torch.no_grad():
        for batch in pair_loader(test, 64, shuffle=False):
            right += int((net.eval()(batch.events).mean(dim=0).argmax(dim=1) == batch.label).sum())
            functional.reset_net(net)
    print(f"test: {right} of {len(test)} recordings right")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
