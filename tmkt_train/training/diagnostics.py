"""Arrays for the report of a trained network: confusion matrix, layer activity, sample strips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tmkt_data import PairedFrames
from tmkt_data.errors import PairingError
from tmkt_data.preview.colors import event_colors, gray_colors
from tmkt_data.sample_ids import evenly_spaced
from tmkt_train.data.batches import EpochPlan, training_batches
from tmkt_train.data.cache import open_frames
from tmkt_train.data.sampling import DrawKeys, batch_slices, epoch_order
from tmkt_train.method.methods import TwoStreams
from tmkt_train.method.mixer import Mixer
from tmkt_train.method.mixing import mix_mask
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.folder import Arrays
from tmkt_train.training.loop import Evaluation
from tmkt_train.training.metrics_file import Row
from tmkt_train.training.probe import observe_pass, principal_components, side_similarity, synaptic_cost
from tmkt_train.training.setup import TrainingSetup

NUM_STRIPS = 6
NUM_RATE_SAMPLES = 64
_LEAST_PAIRS = 4

Float32Array = NDArray[np.float32]


def gather_diagnostics(
    recipe: Recipe,
    setup: TrainingSetup,
    frames: PairedFrames,
    evaluation: Evaluation,
    rows: Sequence[Row],
) -> tuple[Arrays, list[str]]:
    """Compute the arrays of the report after training.

    The setup has the selected weights, `evaluation` is theirs on `frames`, the split of the final evaluation; `rows`
    are the metrics by epoch. Returns the arrays by name, and warnings about what is missing, one line each.
    """
    strips, warnings = _strips(recipe, setup, frames, evaluation)
    arrays: Arrays = {
        "confusion": confusion_matrix(evaluation.labels, evaluation.predictions, frames.num_classes),
        "class_names": np.array(frames.class_names, dtype=np.str_),
        **_activity(recipe, setup),
        **strips,
    }
    if isinstance(setup.method, TwoStreams):
        arrays["replacement_histogram"] = _replacement_histogram(recipe, setup, setup.method.mixer)
        arrays["ratio_history"] = np.array(
            [row["realised_ratio"] for row in rows[recipe.image_epochs :]], dtype=np.float32
        )
    return arrays, warnings


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Count predictions: shape (K, K), int64, rows true, columns predicted.

    Example:
        >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
        [[1, 0], [1, 1]]
    """
    cells = labels * num_classes + predictions
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def _activity(recipe: Recipe, setup: TrainingSetup) -> Arrays:
    """Measure the network on some training pairs, without augmentation."""
    plain = {"sampler": "shuffled", "drop_last": False, "crop_padding": 0, "flip": False, "rotation": 0.0}
    train = recipe.train.model_copy(update={**plain, "batch_size": min(NUM_RATE_SAMPLES, len(setup.frames))})
    batches = training_batches(setup.frames, train, EpochPlan(recipe.seed, recipe.num_epochs), setup.device)
    batch = next(batches)
    batches.close()
    event = observe_pass(setup.model, batch.events, "event")
    cost = synaptic_cost(setup.model, event)
    arrays: Arrays = {
        "firing_layer": np.array(event.layers, dtype=np.str_),
        "firing_rate_events": event.rates.mean(axis=1),
        "firing_steps_events": event.rates,
        "synapse_layer": np.array(cost.layers, dtype=np.str_),
        "synapse_spiking": event.spiking,
        "synapse_macs": cost.macs,
        "synapse_operations": cost.operations,
        "synapse_energy_nj": cost.energy_nj,
        "synapse_dense_energy_nj": cost.dense_energy_nj,
    }
    if batch.image is None or len(batch) < _LEAST_PAIRS:
        return arrays
    image = observe_pass(setup.model, batch.image, "image")
    arrays["firing_rate_images"] = image.rates.mean(axis=1)
    if event.layers:
        arrays["similarity"], arrays["similarity_floor"] = side_similarity(image, event)
    points, arrays["embedding_shares"] = principal_components(np.concatenate([image.features, event.features]))
    labels = batch.labels.cpu().numpy()
    return arrays | {
        "embedding": points,
        "embedding_is_event": np.repeat([False, True], len(batch)),
        "embedding_label": np.array(setup.frames.class_names, dtype=np.str_)[np.tile(labels, 2)],
    }


def _replacement_histogram(recipe: Recipe, setup: TrainingSetup, mixer: Mixer) -> NDArray[np.int64]:
    """Draw the replacement points of the last epoch again: counts of t* = 1 to T and never, shape (T + 1,)."""
    train, frames = recipe.train, setup.frames
    epoch = recipe.num_epochs - 1
    order = epoch_order(
        frames.uids, frames.labels, seed=recipe.seed, epoch=epoch, sampler=train.sampler, num_draws=setup.num_draws
    )
    counts = np.zeros(mixer.num_time_steps + 1, dtype=np.int64)
    slices = batch_slices(len(order.indices), train.batch_size, drop_last=train.drop_last)
    for number, rows in enumerate(slices):
        done = (train.epochs - 1) * setup.batches_per_epoch + number
        progress = done / (train.epochs * setup.batches_per_epoch)
        keys = DrawKeys(recipe.seed, epoch, frames.uids[order.indices[rows]], order.occurrences[rows])
        counts += np.bincount(mixer.points(keys, progress) - 1, minlength=mixer.num_time_steps + 1)
    return counts


def _strips(
    recipe: Recipe, setup: TrainingSetup, frames: PairedFrames, evaluation: Evaluation
) -> tuple[Arrays, list[str]]:
    """Draw some samples, spread over the split, each with an image of its own split if there is one."""
    chosen = evenly_spaced(len(frames), NUM_STRIPS, nearest=True)
    names = np.array(frames.class_names, dtype=np.str_)
    arrays: Arrays = {
        "strip_ids": np.array([frames.ids[index] for index in chosen], dtype=np.str_),
        "strip_labels": names[evaluation.labels[chosen]],
        "strip_predictions": names[evaluation.predictions[chosen]],
    }
    pairs, warnings = None, []
    if isinstance(setup.method, TwoStreams):
        try:
            pairs = open_frames(recipe, frames.cache, frames.split, with_images=True)
        except PairingError as error:
            warnings.append(f"samples of the {frames.split} split are shown without images: {error}")
    if pairs is None or not isinstance(setup.method, TwoStreams):
        events = frames.read(chosen).events
        shown = np.stack([event_colors(sample) for sample in events])[:, None]
        return {**arrays, "strips": _to_unit(shown)}, warnings
    batch = pairs.read(chosen)
    keys = DrawKeys(recipe.seed, 0, pairs.uids[chosen], np.zeros(len(chosen), np.int64))
    points = setup.method.mixer.points(keys, 0.0)
    masks = mix_mask(torch.from_numpy(points), pairs.num_time_bins).numpy()
    strips = [
        sample_strip(image, events, masks[:, at])
        for at, (image, events) in enumerate(zip(batch.image, batch.events, strict=True))
    ]
    return {**arrays, "strips": np.stack(strips)}, warnings


def sample_strip(image: Float32Array, events: Float32Array, mask: NDArray[np.bool_]) -> Float32Array:
    """Draw one pair: image, image frames, event frames and the mixed sequence, over the steps.

    Args:
        image: Image frames, shape (T, C, H, W), in [0, 1].
        events: Event frames, same shape.
        mask: Steps replaced by event frames, shape (T,).

    Returns:
        Colors, shape (4, T, H, W, 3), float32 in [0, 1].
    """
    frames = gray_colors(image[:, 0])
    mean = np.broadcast_to(image[:, 0].mean(axis=0), image[:, 0].shape)
    shown = event_colors(events)
    mixed = np.where(mask[:, None, None, None], shown, frames)
    return _to_unit(np.stack([gray_colors(mean), frames, shown, mixed]))


def _to_unit(colors: NDArray[np.uint8]) -> Float32Array:
    return colors.astype(np.float32) / np.float32(255)
