"""Train a spyx network on pairs, in JAX: python examples/pairs_in_spyx.py CACHE.h5 [EPOCHS].

spyx runs over frames with time first, [T, B, ...].
"""

from __future__ import annotations

import sys

import jax
import numpy as np
import optax
import spyx
from flax import nnx

from tmkt_data import PairedFrames

loss_of = spyx.fn.integral_crossentropy(time_axis=0)
accuracy_of = spyx.fn.integral_accuracy(time_axis=0)


def logits_of(net: spyx.nn.Sequential, frames: jax.Array) -> jax.Array:
    """Return the logits of each step [T, B, K] of frames [T, B, C, H, W]."""
    return spyx.nn.run(net, frames.reshape(*frames.shape[:2], -1))[0]


@nnx.jit
def train_on(
    net: spyx.nn.Sequential, optimizer: nnx.Optimizer, image: jax.Array, events: jax.Array, label: jax.Array
) -> None:
    """Classify both sides of each pair."""
    gradient = nnx.grad(lambda net: sum(loss_of(logits_of(net, side), label) for side in (image, events)))(net)
    optimizer.update(net, gradient)


def main(cache: str, epochs: int = 1) -> None:
    """Train on pairs, then classify the recordings of the test split."""
    train = PairedFrames(cache, "train", encoder="saccade", scale="log1p")
    rngs = nnx.Rngs(0)
    net = spyx.nn.Sequential(
        nnx.Linear(train.num_channels * train.size[0] * train.size[1], 128, rngs=rngs),
        spyx.nn.LIF((128,), beta=0.5, rngs=rngs),
        nnx.Linear(128, train.num_classes, rngs=rngs),
    )
    optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)
    for epoch in range(epochs):
        train.set_epoch(epoch)
        order = np.random.default_rng([train.seed, epoch]).permutation(len(train))
        for first in range(0, len(order), 32):
            batch = train.read(order[first : first + 32], time_first=True)
            train_on(net, optimizer, batch.image, batch.events, batch.label)
    frames = PairedFrames(cache, "test", pairing="none", scale="log1p")
    test = frames.read(range(len(frames)), time_first=True)
    _, found = accuracy_of(logits_of(net, test.events), test.label)
    print(f"test: {int((found == test.label).sum())} of {len(found)} recordings right")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
