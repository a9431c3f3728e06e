"""Few-shot classification: classes told apart by a few examples each, in the feature space of a trained network."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tmkt_data import PairedFrames
from tmkt_data.random_keys import Purpose, uniform
from tmkt_train.data.batches import evaluation_batches
from tmkt_train.errors import RunError
from tmkt_train.network.network import SpikingNetwork

_NORMAL_95 = 1.959964


class FewShotAccuracy(NamedTuple):
    """What episodes of one kind gave.

    Attributes:
        ways: Classes of an episode.
        shots: Examples of each.
        episodes: How many there were.
        accuracy: Mean share of queries given the right class, in [0, 1].
        interval: Half of its 95 % confidence interval over the episodes.
    """

    ways: int
    shots: int
    episodes: int
    accuracy: float
    interval: float


@torch.no_grad()
def mean_features(
    model: SpikingNetwork, frames: PairedFrames, *, batch_size: int, device: torch.device
) -> NDArray[np.float32]:
    """Return the feature before the head of every recording of a part, averaged over the steps: shape (N, D_f)."""
    model.eval()
    batches = evaluation_batches(frames, batch_size=batch_size, device=device)
    found = [model(batch.events, head="event").features.mean(dim=0).float().cpu() for batch in batches]
    return np.asarray(torch.cat(found).numpy(), np.float32)


def draw_episode(
    labels: NDArray[np.int64], *, ways: int, shots: int, queries: int, episode: int, seed: int
) -> NDArray[np.int64]:
    """Draw the samples of one episode: a pure function of labels, seed and number of the episode.

    Args:
        labels: Class of each sample, shape (N,).
        ways: Classes of the episode, drawn from those that have samples enough.
        shots: Examples of each class.
        queries: Further samples of each class, to be classified.
        episode: Number of the episode, from 0.
        seed: Seed of all episodes.

    Returns:
        Positions of the samples, shape (ways, shots + queries), int64, the examples first; no sample comes twice.

    Raises:
        RunError: Fewer classes than `ways` have `shots + queries` samples.
    """
    names, counts = np.unique(labels, return_counts=True)
    enough = names[counts >= shots + queries]
    if len(enough) < ways:
        raise RunError(
            f"few-shot: {len(enough)} classes have {shots} + {queries} recordings or more, expected {ways}; ask for "
            "fewer ways, shots or queries"
        )
    draws = uniform(seed, episode, enough.astype(np.uint64), 0, Purpose.EPISODE, 0)
    chosen = enough[np.argsort(draws, kind="stable")[:ways]]
    rows = np.empty((ways, shots + queries), np.int64)
    for way, name in enumerate(chosen):
        of_class = np.flatnonzero(labels == name)
        order = uniform(seed, episode, of_class.astype(np.uint64), 0, Purpose.EPISODE, 1)
        rows[way] = of_class[np.argsort(order, kind="stable")[: shots + queries]]
    return rows


def classify_episode(features: NDArray[np.float32], episode: NDArray[np.int64], shots: int) -> float:
    """Give each query the class of the nearest prototype, the mean of its examples; return the share that is right.

    Args:
        features: Feature of each sample, shape (N, D).
        episode: From `draw_episode`.
        shots: Examples of each class, the first columns.

    Source: Snell et al., NeurIPS 2017 (squared Euclidean distance).
    """
    chosen = features[episode].astype(np.float64)
    prototypes, queries = chosen[:, :shots].mean(axis=1), chosen[:, shots:]
    distances = np.square(queries[:, :, None, :] - prototypes).sum(axis=-1)
    right = distances.argmin(axis=-1) == np.arange(len(prototypes))[:, None]
    return float(right.mean())


def few_shot_accuracy(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    ways: int,
    shots: int,
    queries: int = 5,
    episodes: int = 1000,
    seed: int = 0,
) -> FewShotAccuracy:
    """Average the accuracy over episodes; arguments and errors as `draw_episode` and `classify_episode`.

    Example:
        >>> features = np.repeat(np.eye(6, dtype=np.float32), 10, axis=0)
        >>> found = few_shot_accuracy(features, np.repeat(np.arange(6), 10), ways=5, shots=1, episodes=20)
        >>> found.accuracy, found.interval
        (1.0, 0.0)
    """
    shares = np.array(
        [
            classify_episode(
                features,
                draw_episode(labels, ways=ways, shots=shots, queries=queries, episode=number, seed=seed),
                shots,
            )
            for number in range(episodes)
        ]
    )
    spread = float(shares.std(ddof=1)) if episodes > 1 else math.nan
    return FewShotAccuracy(ways, shots, episodes, float(shares.mean()), _NORMAL_95 * spread / math.sqrt(episodes))
