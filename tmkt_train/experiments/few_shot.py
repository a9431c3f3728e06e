"""Few-shot classification: episodes of a few labeled examples per class in the feature space of a trained network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tmkt_data.random_keys import Purpose, uniform
from tmkt_train.data.batches import evaluation_batches
from tmkt_train.data.cache import open_held_out
from tmkt_train.errors import RunError
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.result import FinishedRun, open_finished

_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Episodes:
    """Settings of the episodes: queries per class, number of episodes, seed of the draws."""

    queries: int = 5
    num: int = 1000
    seed: int = 0


def draw_episode(
    labels: NDArray[np.int64], number: int, *, ways: int, shots: int, episodes: Episodes
) -> NDArray[np.int64]:
    """Draw the samples of one episode: a pure function of labels, seed and episode number.

    Args:
        labels: Class of each sample, shape (N,).
        number: Number of the episode, from 0.
        ways: Classes of the episode, drawn from those with enough samples.
        shots: Examples of each class.
        episodes: Queries per class, and the seed.

    Returns:
        Sample indices, shape (ways, shots + queries), int64, examples first, without repetition.

    Raises:
        RunError: Fewer classes than `ways` have `shots + queries` samples.
    """
    size = shots + episodes.queries
    names, counts = np.unique(labels, return_counts=True)
    enough = names[counts >= size]
    if len(enough) < ways:
        raise RunError(
            f"few-shot: {len(enough)} classes have {shots} + {episodes.queries} recordings or more, expected {ways}; "
            "lower --ways, --shots or --queries"
        )
    draws = uniform(episodes.seed, number, enough.astype(np.uint64), 0, Purpose.EPISODE, 0)
    rows = np.empty((ways, size), np.int64)
    for way, name in enumerate(enough[np.argsort(draws, kind="stable")[:ways]]):
        of_class = np.flatnonzero(labels == name)
        order = uniform(episodes.seed, number, of_class.astype(np.uint64), 0, Purpose.EPISODE, 1)
        rows[way] = of_class[np.argsort(order, kind="stable")[:size]]
    return rows


def classify_episode(features: NDArray[np.float32], episode: NDArray[np.int64], shots: int) -> float:
    """Assign each query to the nearest prototype, the mean of the examples of a class; return the accuracy.

    Args:
        features: Feature of each sample, shape (N, D).
        episode: Sample indices from `draw_episode`.
        shots: Examples of each class, the first columns.

    Returns:
        Share of correctly classified queries, in [0, 1].

    Source: Snell et al., NeurIPS 2017 (squared Euclidean distance).
    """
    chosen = features[episode].astype(np.float64)
    prototypes, queries = chosen[:, :shots].mean(axis=1), chosen[:, shots:]
    distances = np.square(queries[:, :, None, :] - prototypes).sum(axis=-1)
    right = distances.argmin(axis=-1) == np.arange(len(prototypes))[:, None]
    return float(right.mean())


def few_shot_accuracy(
    features: NDArray[np.float32], labels: NDArray[np.int64], *, ways: int, shots: int, episodes: Episodes
) -> tuple[float, float]:
    """Average the accuracy over episodes; see `draw_episode` and `classify_episode`.

    Returns:
        Mean accuracy in [0, 1], and the half-width of its 95 % confidence interval over the episodes.

    Example:
        >>> features, labels = np.repeat(np.eye(6, dtype=np.float32), 10, axis=0), np.repeat(np.arange(6), 10)
        >>> few_shot_accuracy(features, labels, ways=5, shots=1, episodes=Episodes(num=20))
        (1.0, 0.0)
    """
    drawn = (draw_episode(labels, number, ways=ways, shots=shots, episodes=episodes) for number in range(episodes.num))
    accuracies = np.array([classify_episode(features, episode, shots) for episode in drawn])
    sd = float(accuracies.std(ddof=1)) if episodes.num > 1 else math.nan
    return float(accuracies.mean()), _NORMAL_95 * sd / math.sqrt(episodes.num)


def evaluate_few_shot(
    path: Path, *, ways: Sequence[int], shots: Sequence[int], episodes: Episodes, cache: Path | None = None
) -> dict[str, Any]:
    """Evaluate a finished run for every pair of ways and shots; write `few_shot.json` into its folder and return it.

    With `data.held_out_classes`, episodes come from all recordings of those classes, which were never trained on.
    Otherwise, they come from the test split, and the record says that its classes were trained on. `cache` is the new
    path of the cache, if it was moved.

    Raises:
        RunError: The run is not finished, or has too few classes or recordings.
    """
    with open_finished(path, cache=cache) as run:
        features, labels = _features(run)
    accuracies = []
    for way, shot in itertools.product(ways, shots):
        accuracy, interval = few_shot_accuracy(features, labels, ways=way, shots=shot, episodes=episodes)
        counts = {"ways": way, "shots": shot, "episodes": episodes.num}
        accuracies.append(counts | {"accuracy": round(accuracy, 6), "interval": round(interval, 6)})
    record = {
        "classes": "held out" if run.recipe.data.held_out_classes else "trained on",
        "num_classes": len(np.unique(labels)),
        "num_recordings": len(labels),
        "queries": episodes.queries,
        "seed": episodes.seed,
        "accuracies": accuracies,
    }
    RunFolder(path).write_few_shot(record)
    return record


@torch.no_grad()
def _features(run: FinishedRun) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    # Inputs of the head, averaged over the time steps.
    splits = list(open_held_out(run.recipe, run.test.cache)) if run.recipe.data.held_out_classes else [run.test]
    run.model.eval()
    features = [
        run.model(batch.events, head="event").features.mean(dim=0).float().cpu()
        for split in splits
        for batch in evaluation_batches(split, batch_size=run.recipe.train.eval_batch_size, device=run.device)
    ]
    return np.asarray(torch.cat(features).numpy(), np.float32), np.concatenate([split.labels for split in splits])
