"""Pairs as a LightningDataModule: python examples/pairs_in_lightning.py CACHE.h5 [EPOCHS].

Lightning calls `set_epoch` of the loader's sampler before each pass, in persistent workers too.
"""

from __future__ import annotations

import sys

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tmkt_data import PairedFrames
from tmkt_data.torch import PairedTensors, pair_loader


class PairedData(lightning.LightningDataModule):
    """Loaders of a cache; frames [T, B, C, H, W]."""

    def __init__(self, cache: str) -> None:
        super().__init__()
        self.train = PairedFrames(cache, "train", encoder="saccade", scale="log1p")
        self.val = PairedFrames(cache, "val", pairing="none", scale="log1p")

    def train_dataloader(self) -> DataLoader[PairedTensors]:
        return pair_loader(self.train, 32, num_workers=1, persistent_workers=True)

    def val_dataloader(self) -> DataLoader[PairedTensors]:
        return pair_loader(self.val, 64, shuffle=False)


class Rates(lightning.LightningModule):
    """A linear map of the mean frame; put a spiking network here."""

    def __init__(self, frames: PairedFrames) -> None:
        super().__init__()
        self.linear = nn.Linear(frames[0].events[0].size, frames.num_classes)

    def training_step(self, batch: PairedTensors) -> Tensor:
        self.log("epoch_of_data", batch.epoch.float().mean(), batch_size=len(batch.label))
        sides = (self.linear(side.mean(dim=0).flatten(1)) for side in (batch.image, batch.events))
        return sum(nn.functional.cross_entropy(logits, batch.label) for logits in sides)

    def validation_step(self, batch: PairedTensors) -> None:
        right = self.linear(batch.events.mean(dim=0).flatten(1)).argmax(dim=1) == batch.label
        self.log("accuracy", right.float().mean(), batch_size=len(batch.label))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    data = PairedData(sys.argv[1])
    trainer = lightning.Trainer(
        max_epochs=int(sys.argv[2]), accelerator="cpu", logger=False, enable_checkpointing=False
    )
    trainer.fit(Rates(data.train), data)
    print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
