"""Train an snntorch network on pairs: python examples/pairs_in_snntorch.py CACHE.h5 [EPOCHS].

snntorch steps through time in a loop of your own: frames[t] is [B, C, H, W].
"""

from __future__ import annotations

import sys

import snntorch
import torch
from torch import Tensor, nn

from tmkt_data import PairedFrames
from tmkt_data.torch import pair_loader


class Net(nn.Module):
    """Two linear maps with a layer of leaky neurons between them; logits [B, K], averaged over time."""

    def __init__(self, num_inputs: int, num_classes: int) -> None:
        super().__init__()
        self.inputs, self.outputs = nn.Linear(num_inputs, 128), nn.Linear(128, num_classes)
        self.neurons = snntorch.Leaky(beta=0.5)

    def forward(self, frames: Tensor) -> Tensor:
        """Classify frames [T, B, C, H, W]."""
        potential = self.neurons.init_leaky()
        logits = []
        for frame in frames:
            spikes, potential = self.neurons(self.inputs(frame.flatten(1)), potential)
            logits.append(self.outputs(spikes))
        return torch.stack(logits).mean(dim=0)


def main(cache: str, epochs: int = 1) -> None:
    """Classify both sides of each pair, then the recordings of the test split."""
    torch.manual_seed(0)
    train = PairedFrames(cache, "train", encoder="saccade", scale="log1p")
    test = PairedFrames(cache, "test", pairing="none", scale="log1p")
    net = Net(train.num_channels * train.size[0] * train.size[1], train.num_classes)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for epoch in range(epochs):
        train.set_epoch(epoch)
        for batch in pair_loader(train, 32):
            losses = [nn.functional.cross_entropy(net(side), batch.label) for side in (batch.image, batch.events)]
            optimizer.zero_grad()
            sum(losses).backward()
            optimizer.step()
    with torch.no_grad():
        right = sum(int((net(batch.events).argmax(dim=1) == batch.label).sum()) for batch in pair_loader(test, 64))
    print(f"test: {right} of {len(test)} recordings right")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
