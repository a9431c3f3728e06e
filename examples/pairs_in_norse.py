"""Train a norse network on pairs: python examples/pairs_in_norse.py CACHE.h5 [EPOCHS].

norse takes [T, B, ...] where a module is lifted over time, and hands the state on.
"""

from __future__ import annotations

import sys

import norse.torch as norse
import torch
from torch import nn

from tmkt_data import PairedFrames
from tmkt_data.torch import pair_loader


def build(num_inputs: int, num_classes: int) -> nn.Module:
    """Two linear maps with a layer of LIF neurons between them; frames [T, B, N] to logits [T, B, K]."""
    neurons = norse.LIF(norse.LIFParameters(v_th=torch.tensor(0.3)))
    return norse.SequentialState(nn.Linear(num_inputs, 128), neurons, nn.Linear(128, num_classes))


def main(cache: str, epochs: int = 1) -> None:
    """Classify both sides of each pair, then the recordings of the test split."""
    torch.manual_seed(0)
    train = PairedFrames(cache, "train", encoder="saccade", scale="log1p")
    test = PairedFrames(cache, "test", pairing="none", scale="log1p")
    net = build(train.num_channels * train.size[0] * train.size[1], train.num_classes)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def logits(frames: torch.Tensor) -> torch.Tensor:
        outputs, _state = net(frames.flatten(2))
        return outputs.mean(dim=0)

    for epoch in range(epochs):
        train.set_epoch(epoch)
        for batch in pair_loader(train, 32):
            losses = [nn.functional.cross_entropy(logits(side), batch.label) for side in (batch.image, batch.events)]
            optimizer.zero_grad()
            sum(losses).backward()
            optimizer.step()
    with torch.no_grad():
        right = sum(int((logits(batch.events).argmax(dim=1) == batch.label).sum()) for batch in pair_loader(test, 64))
    print(f"test: {right} of {len(test)} recordings right")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
