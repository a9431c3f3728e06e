"""Use the pairs of a cache without torch: fit a linear classifier on images, on events, and on both.

    python examples/reuse_pairs_in_numpy.py CACHE.h5

Needs NumPy and tmkt_data only.
"""

from __future__ import annotations

import sys

import numpy as np

from tmkt_data import PairedFrames


def main(path: str) -> None:
    """Fit on the training part, then print the accuracy on the events of the validation part."""
    train = PairedFrames(path, split="train", pairing="same-class", seed=0, scale="log1p")
    val = PairedFrames(path, split="val", pairing="none", scale="log1p")
    print(f"{train.dataset}: {len(train)} pairs to fit, {len(val)} recordings to check, {train.num_classes} classes")

    pairs = train.read(np.arange(len(train)))  # image and events: [B, T, C, H, W]
    targets = np.eye(train.num_classes)[pairs.labels]
    sides = {
        "events": (over_time(pairs.events), targets),
        "images": (over_time(pairs.image), targets),
        "both": (np.concatenate([over_time(pairs.events), over_time(pairs.image)]), np.concatenate([targets, targets])),
    }
    held_out = val.read(np.arange(len(val)))
    for name, (features, wanted) in sides.items():
        weights = fit(features, wanted)
        predicted = (over_time(held_out.events) @ weights).argmax(axis=1)
        print(f"fitted on {name:<6}: {np.mean(predicted == held_out.labels):.3f} of the validation recordings right")


def over_time(frames: np.ndarray) -> np.ndarray:
    """Average [B, T, C, H, W] over time and channels, center each sample, append 1 for the bias: [B, H W + 1]."""
    flat = frames.mean(axis=(1, 2)).reshape(len(frames), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    return np.hstack([flat, np.ones((len(flat), 1))])


def fit(features: np.ndarray, targets: np.ndarray, decay: float = 1e-1) -> np.ndarray:
    """Solve ridge regression: weights of shape (features, classes)."""
    gram = features.T @ features + decay * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ targets)


if __name__ == "__main__":
    main(sys.argv[1])
