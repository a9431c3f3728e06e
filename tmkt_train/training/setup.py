"""From a recipe to a training setup; below this module there are plain arguments only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.optim import Optimizer

from tmkt_data import PairedFrames
from tmkt_data.prepare.outdated import is_baked_otherwise
from tmkt_train.data.cache import open_training
from tmkt_train.data.device import DeviceFrames, place_frames
from tmkt_train.data.sampling import count_batches
from tmkt_train.errors import RunError
from tmkt_train.method.methods import Method, build_method
from tmkt_train.method.mixer import Mixer
from tmkt_train.network.backbones import build_model
from tmkt_train.network.collectives import num_ranks
from tmkt_train.network.network import FrameShape, Heads, Network
from tmkt_train.network.stages import LayerChoices
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.environment import choose_precision, compute_dtype
from tmkt_train.training.optimizer import build_optimizer


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """What is trained, on what, and with what.

    Attributes:
        frames: Training split.
        selection: Split that is evaluated after each epoch: validation, or test under `kt-paper`.
        train_source: What training batches are read from: `frames`, or their bytes on the device.
        selection_source: What the batches of `selection` are read from.
        model: Network, on the device.
        method: Objectives, on the device.
        optimizer: Optimizer over the parameters of both.
        scaler: Scales the loss in float16, whose gradients would be too small otherwise; does nothing elsewhere.
        batches_per_epoch: Batches of an epoch.
        num_draws: Samples of an epoch.
        device: Where the training runs.
        is_outdated: Whether it trains on images that an earlier version baked otherwise.
    """

    frames: PairedFrames
    selection: PairedFrames
    train_source: PairedFrames | DeviceFrames
    selection_source: PairedFrames | DeviceFrames
    model: Network
    method: Method
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    batches_per_epoch: int
    num_draws: int
    device: torch.device
    is_outdated: bool


def build_setup(recipe: Recipe, cache: Path, device: torch.device) -> TrainingSetup:
    """Build everything with fresh weights, which depend on the seed of the recipe.

    Raises:
        RunError: The training split is smaller than one batch.
        TmktError: The cache does not fit the recipe.
    """
    frames, selection = open_training(recipe, cache)
    batches_per_epoch, num_draws = _epoch_size(recipe, len(frames), cache)
    torch.manual_seed(recipe.seed)
    model = build_network(recipe, frames)
    method = build_method(
        recipe.method.name,
        recipe.loss,
        mixer=_build_mixer(recipe, frames),
        feature_size=model.feature_size,
        image_epochs=recipe.image_epochs,
    )
    model.to(device)
    method.to(device)
    model.compute_dtype = compute_dtype(choose_precision(recipe, device))
    return TrainingSetup(
        frames=frames,
        selection=selection,
        train_source=place_frames(frames, device),
        selection_source=place_frames(selection, device),
        model=model,
        method=method,
        optimizer=build_optimizer(recipe.optim, model, method),
        scaler=torch.amp.GradScaler(device.type, enabled=model.compute_dtype == torch.float16),
        batches_per_epoch=batches_per_epoch,
        num_draws=num_draws,
        device=device,
        is_outdated=recipe.needs_images and recipe.data.image_encoding == "baked" and is_baked_otherwise(frames.cache),
    )


def require_ranks(recipe: Recipe, setup: TrainingSetup) -> None:
    """Refuse a number of ranks that does not divide the batch, or that leaves one without samples.

    Raises:
        RunError: It does.
    """
    ranks, size = num_ranks(), recipe.train.batch_size
    if size % ranks:
        more = (size // ranks + 1) * ranks
        raise RunError(
            f"train.batch_size: found {size} with {ranks} ranks, expected a multiple of them; "
            f"set train.batch_size={more}, or change --nproc-per-node"
        )
    last = setup.num_draws % size
    if 0 < last < ranks:
        raise RunError(
            f"train.drop_last: found false with a last batch of {last}, expected one of {ranks} samples or more for as "
            "many ranks; set train.drop_last=true"
        )


def setup_warnings(recipe: Recipe, setup: TrainingSetup) -> Iterator[str]:
    """Yield what is wrong with the cache, and what makes the selection of an epoch doubtful, one line each."""
    if setup.is_outdated:
        info = setup.frames.cache.info
        yield (
            f"{info.path}: an earlier version baked the images, with an edge where each one ends; prepare it again "
            f"with --force, or set data.image_encoding={info.spec.bake}"
        )
    num_train, num_val = len(setup.frames), len(setup.selection)
    if recipe.selected_on == "val" and num_val > num_train:
        yield (
            f"the epoch is selected on {num_val} validation recordings, more than the {num_train} of training; report "
            "last_epoch_test_accuracy beside test_accuracy, or set train.select=last"
        )


def _epoch_size(recipe: Recipe, num_samples: int, cache: Path) -> tuple[int, int]:
    """Return the batches and the samples of an epoch.

    Raises:
        RunError: There is not a single batch.
    """
    train = recipe.train
    if train.steps_per_epoch != "auto":
        return train.steps_per_epoch, train.steps_per_epoch * train.batch_size
    num_batches = count_batches(num_samples, train.batch_size, drop_last=train.drop_last)
    if num_batches < 1:
        raise RunError(
            f"{cache}: {num_samples} training samples, expected at least train.batch_size = {train.batch_size}; "
            "lower it, or set train.drop_last=false"
        )
    return num_batches, min(num_samples, num_batches * train.batch_size)


class FrameFacts(NamedTuple):
    """What a network is built for, where there is no dataset: T, C, (H, W) and K."""

    num_time_bins: int
    num_channels: int
    size: tuple[int, int]
    num_classes: int


def build_network(recipe: Recipe, frames: PairedFrames | FrameFacts) -> Network:
    """Build the network of a recipe for some frames, with fresh weights from torch's global generator."""
    model = recipe.model
    statistics = model.eval_statistics if recipe.has_two_streams else "shared"
    return build_model(
        model.backbone,
        FrameShape(frames.num_time_bins, frames.num_channels, frames.size),
        Heads(frames.num_classes, separate=model.separate_heads and recipe.has_two_streams),
        LayerChoices(model.batch_norm, statistics, model.surrogate, model.batch_norm_batch),
    )


def _build_mixer(recipe: Recipe, frames: PairedFrames) -> Mixer:
    start = start_ratio(recipe, frames) if recipe.mixes_time_steps else None
    num_epochs = recipe.train.epochs
    # KT slides in the epochs, counted from 0, above half of their number.
    slide_from = (num_epochs // 2 + 1) / num_epochs if recipe.slide == "late-step" else 0.5
    return Mixer(frames.num_time_bins, recipe.mix, start, recipe.slide, slide_from)


def start_ratio(recipe: Recipe, frames: PairedFrames) -> float:
    """Return the mix ratio at the start; with `by-count`, each recording and each image it may meet counts the same."""
    if recipe.mix.ratio != "by-count":
        return recipe.mix.ratio
    if frames.pairing == "twin":
        num_images = len(np.unique(frames.twins))
    else:
        num_images = int(frames.pools.sizes()[np.unique(frames.labels)].sum())
    return len(frames) / (len(frames) + num_images)
