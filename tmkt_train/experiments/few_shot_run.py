"""Few-shot evaluation of a finished run: on classes that its training left out, or on those that it trained on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.files import write_bytes
from tmkt_train.data.cache import open_held_out
from tmkt_train.errors import RunError
from tmkt_train.experiments.few_shot import FewShotAccuracy, few_shot_accuracy, mean_features
from tmkt_train.training.finished import FinishedRun, open_finished


def evaluate_few_shot(
    path: Path,
    *,
    ways: Sequence[int],
    shots: Sequence[int],
    queries: int = 5,
    episodes: int = 1000,
    seed: int = 0,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Evaluate every pair of ways and shots, and write `few_shot.json` into the run.

    With `data.held_out_classes`, all recordings of those classes are in play, whatever their split: none was trained
    on. Without, the test part is, and the record says that its classes were trained on.

    Returns:
        What the file holds.

    Raises:
        RunError: The run is not finished, or has too few classes or recordings for what is asked.
    """
    with open_finished(path, cache=cache) as run:
        is_held_out = run.recipe.data.held_out_classes > 0
        features, labels = _features(run, is_held_out)
    found = [
        few_shot_accuracy(features, labels, ways=way, shots=shot, queries=queries, episodes=episodes, seed=seed)
        for way, shot in itertools.product(ways, shots)
    ]
    record = {
        "classes": "held out" if is_held_out else "trained on",
        "num_classes": len(np.unique(labels)),
        "num_recordings": len(labels),
        "queries": queries,
        "seed": seed,
        "accuracies": [_rounded(accuracy) for accuracy in found],
    }
    write_bytes(path / "few_shot.json", (json.dumps(record, indent=2) + "\n").encode(), error=RunError)
    return record


def _features(run: FinishedRun, is_held_out: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    parts = list(open_held_out(run.recipe, run.test.cache)) if is_held_out else [run.test]
    size = run.recipe.train.eval_batch_size
    features = [mean_features(run.model, part, batch_size=size, device=run.device) for part in parts]
    return np.concatenate(features), np.concatenate([part.labels for part in parts])


def _rounded(found: FewShotAccuracy) -> dict[str, Any]:
    return found._asdict() | {"accuracy": round(found.accuracy, 6), "interval": round(found.interval, 6)}


def rows_of(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines that a terminal shows."""
    for found in record["accuracies"]:
        yield (
            f"{found['ways']}-way {found['shots']}-shot",
            f"{100 * found['accuracy']:.1f} ± {100 * found['interval']:.1f} % over {found['episodes']} episodes",
        )
