"""Pairs for JAX by Grain: python examples/pairs_in_grain.py CACHE.h5.

`PairedFrames` is a random access source of Grain, which batches it as [B, T, C, H, W].
"""

from __future__ import annotations

import sys

import grain
import numpy as np

from tmkt_data import PairedFrames


def batches(frames: PairedFrames, batch_size: int) -> grain.IterDataset:
    """Shuffle by the seed of the frames, and batch: `image`, `events`, `label`, ... as NumPy arrays."""
    source = grain.MapDataset.source(frames).seed(frames.seed).shuffle()
    return source.map(lambda sample: sample._asdict()).to_iter_dataset().batch(batch_size, drop_remainder=False)


def main(cache: str) -> None:
    """Read an epoch."""
    frames = PairedFrames(cache, "train", encoder="saccade", scale="log1p", seed=0)
    seen = []
    for batch in batches(frames, 32):
        shape = batch["events"].shape
        seen += batch["position"].tolist()
    assert sorted(seen) == list(range(len(frames)))
    print(f"{len(np.unique(seen))} pairs, the last batch {shape}")


if __name__ == "__main__":
    main(*sys.argv[1:])
