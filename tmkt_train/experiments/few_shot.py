"""Few-shot classification: episodes of a few labeled examples per class in the feature space of a trained network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tmkt_data import PairedFrames
from tmkt_data.errors import counted
from tmkt_data.random_keys import Purpose, uniform
from tmkt_train.data.batches import evaluation_batches
from tmkt_train.data.cache import open_held_out
from tmkt_train.errors import RunError
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.result import FinishedRun, open_finished

_NORMAL_95 = 1.959964
_WAYS, _SHOTS = (5, 20), (1, 5)


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
        raise _too_few(ways, shots, len(enough), episodes.queries)
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


class EpisodeSizes(NamedTuple):
    """The pairs of ways and shots to evaluate, and which defaults were left out and why, one line each."""

    pairs: tuple[tuple[int, int], ...]
    notes: tuple[str, ...] = ()


def choose_sizes(
    labels: NDArray[np.int64], ways: Sequence[int] | None, shots: Sequence[int] | None, queries: int
) -> EpisodeSizes:
    """Choose the episodes that recordings of these labels allow.

    Args:
        labels: Class of each recording, shape (N,).
        ways: Classes per episode, all of which must fit; None for those of 5 and 20 that fit, or as many as there are.
        shots: Examples per class, all of which must fit; None for those of 1 and 5 that fit.
        queries: Queries per class.

    Raises:
        RunError: Too few classes have enough recordings.

    Example:
        >>> choose_sizes(np.repeat(np.arange(6), 8), None, (1,), 5)
        EpisodeSizes(pairs=((5, 1),), notes=('left out 20-way 1-shot: 6 classes have 1 + 5 recordings or more',))
    """
    counts = np.unique(labels, return_counts=True)[1]
    pairs: list[tuple[int, int]] = []
    misfits: list[tuple[int, int, int]] = []
    for shot in _SHOTS if shots is None else shots:
        enough = int((counts >= shot + queries).sum())
        wanted = _WAYS if ways is None else ways
        fitting = [way for way in wanted if way <= enough]
        misfits += [(way, shot, enough) for way in wanted if way > enough]
        if ways is None and not fitting and enough > 1:
            fitting = [enough]
        pairs += [(way, shot) for way in fitting]
    lost = {*(ways or ())} - {way for way, _ in pairs} or {*(shots or ())} - {shot for _, shot in pairs}
    if misfits and (lost or not pairs or None not in (ways, shots)):
        raise _too_few(*misfits[0], queries)
    notes = (f"left out {way}-way {shot}-shot: {_found(enough, shot, queries)}" for way, shot, enough in misfits)
    return EpisodeSizes(tuple(pairs), tuple(notes))


def _found(enough: int, shots: int, queries: int) -> str:
    return f"{counted(enough, 'class')} {'has' if enough == 1 else 'have'} {shots} + {queries} recordings or more"


def _too_few(ways: int, shots: int, enough: int, queries: int) -> RunError:
    return RunError(f"few-shot: {_found(enough, shots, queries)}, expected {ways}; lower --ways, --shots or --queries")


def evaluate_few_shot(
    path: Path,
    *,
    ways: Sequence[int] | None = None,
    shots: Sequence[int] | None = None,
    episodes: Episodes,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a finished run for every pair of ways and shots; write `few_shot.json` into its folder and return it.

    Without `ways` or `shots`, their defaults are fitted to the recordings, see `choose_sizes`.

    With `data.held_out_classes`, episodes come from all recordings of those classes, which were never trained on.
    Otherwise, they come from the test split, and the record says that its classes were trained on. `cache` is the new
    path of the cache, if it was moved.

    Raises:
        RunError: The run is not finished, or has too few classes or recordings.
    """
    with open_finished(path, cache=cache) as run:
        splits = list(open_held_out(run.recipe, run.test.cache)) if run.recipe.data.held_out_classes else [run.test]
        labels = np.concatenate([split.labels for split in splits])
        sizes = choose_sizes(labels, ways, shots, episodes.queries)
        features, changes = _features(run, splits), run.notes
    accuracies = []
    for way, shot in sizes.pairs:
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
        "notes": [*changes, *sizes.notes],
    }
    RunFolder(path).write_few_shot(record)
    return record


@torch.no_grad()
def _features(run: FinishedRun, splits: Sequence[PairedFrames]) -> NDArray[np.float32]:
    # Inputs of the head, averaged over the time steps.
    run.model.eval()
    features = [
        run.model(batch.events, head="event").features.mean(dim=0).float().cpu()
        for split in splits
        for batch in evaluation_batches(split, batch_size=run.recipe.train.eval_batch_size, device=run.device)
    ]
    return np.asarray(torch.cat(features).numpy(), np.float32)
