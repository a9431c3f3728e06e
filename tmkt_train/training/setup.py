"""From a recipe to the parts of a training; below this floor there are plain arguments only."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import AdamW

from tmkt_data import PairedFrames
from tmkt_train.data.cache import open_frames, selection_split
from tmkt_train.data.sampling import count_batches
from tmkt_train.errors import RunError
from tmkt_train.method.methods import Method, build_method
from tmkt_train.method.mixer import Mixer
from tmkt_train.network.backbones import build_model
from tmkt_train.network.execution import lif_implementation
from tmkt_train.network.network import FrameShape, Heads, SpikingNetwork
from tmkt_train.network.stages import LayerChoices
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.optimizer import build_optimizer


@dataclass(frozen=True, slots=True)
class Parts:
    """What a training is made of.

    Attributes:
        frames: Training part.
        selection: Part that chooses the epoch: validation, or test under `kt-paper`.
        model: Network, on the device.
        method: Objectives, on the device.
        optimizer: Optimizer over the parameters of both.
        num_steps: Batches of an epoch.
        num_draws: Samples of an epoch.
        device: Where the training runs.
    """

    frames: PairedFrames
    selection: PairedFrames
    model: SpikingNetwork
    method: Method
    optimizer: AdamW
    num_steps: int
    num_draws: int
    device: torch.device


def build_parts(recipe: Recipe, cache: Path, device: torch.device) -> Parts:
    """Build everything with fresh weights; the seed of the recipe decides them.

    Raises:
        RunError: The training part is smaller than one batch.
        TmktError: The cache does not serve the recipe.
    """
    frames = open_frames(recipe, cache, "train")
    selection = open_frames(recipe, frames.cache, selection_split(recipe))
    num_steps, num_draws = _count_steps(recipe, len(frames), cache)
    torch.manual_seed(recipe.seed)
    model = build_network(recipe, frames)
    method = _build_method(recipe, frames, model)
    model.to(device)
    method.to(device)
    optimizer = build_optimizer(recipe.optim, model, method)
    return Parts(frames, selection, model, method, optimizer, num_steps, num_draws, device)


def _count_steps(recipe: Recipe, num_samples: int, cache: Path) -> tuple[int, int]:
    """Count the batches and the samples of an epoch.

    Raises:
        RunError: There is not one batch.
    """
    train = recipe.train
    if train.steps_per_epoch != "auto":
        return train.steps_per_epoch, train.steps_per_epoch * train.batch_size
    num_steps = count_batches(num_samples, train.batch_size, drop_last=train.drop_last)
    if num_steps < 1:
        raise RunError(
            f"{cache}: {num_samples} training samples, expected at least train.batch_size = {train.batch_size}; "
            "lower it, or set train.drop_last=false"
        )
    return num_steps, min(num_samples, num_steps * train.batch_size)


def build_network(recipe: Recipe, frames: PairedFrames) -> SpikingNetwork:
    """Build the network of a recipe for some frames, with fresh weights from torch's global generator."""
    model = recipe.model
    return build_model(
        model.backbone,
        FrameShape(frames.num_steps, frames.num_channels, frames.size),
        Heads(frames.num_classes, separate=model.separate_heads and recipe.has_two_streams),
        LayerChoices(model.batch_norm, model.eval_statistics if recipe.has_two_streams else "shared", model.surrogate),
    )


def _build_method(recipe: Recipe, frames: PairedFrames, model: SpikingNetwork) -> Method:
    start = _start_ratio(recipe, frames) if recipe.mixes_time_steps else None
    return build_method(
        recipe.method.name,
        recipe.loss,
        mixer=Mixer(frames.num_steps, recipe.mix, start, recipe.slide),
        feature_size=model.feature_size,
        image_epochs=recipe.image_epochs,
    )


def _start_ratio(recipe: Recipe, frames: PairedFrames) -> float:
    """Return the mix ratio at the start; with `by-count`, each recording and each image counts the same."""
    if recipe.mix.ratio != "by-count":
        return recipe.mix.ratio
    labels = np.unique(frames.labels)
    num_images = int(frames.pools.sizes()[labels].sum())
    return len(frames) / (len(frames) + num_images)


def choose_device(recipe: Recipe) -> torch.device:
    """Return the device of a recipe.

    Raises:
        RunError: A GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if recipe.train.device == "cuda" and not has_gpu:
        raise RunError("train.device: found 'cuda', but torch sees no GPU here; set train.device=auto")
    return torch.device("cuda" if has_gpu and recipe.train.device != "cpu" else "cpu")


@contextmanager
def numerics(recipe: Recipe, num_threads: int | None = None) -> Iterator[None]:
    """Make torch compute the same digits every time, for as long as the context lasts.

    Args:
        recipe: Says the precision and the number of threads.
        num_threads: Threads of the run when it was started, where the recipe leaves them open.
    """
    # cuBLAS is deterministic only with a fixed workspace, and reads this when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    memory: Any = torch.utils.deterministic
    threads = torch.get_num_threads()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    fills_memory = memory.fill_uninitialized_memory
    allows_tf32 = torch.backends.cudnn.allow_tf32
    chosen = recipe.train.num_threads
    torch.set_num_threads((num_threads or threads) if chosen == "auto" else chosen)
    torch.use_deterministic_algorithms(True)
    # Only of use to code that reads memory before writing it, and an eighth of the time on a CPU.
    memory.fill_uninitialized_memory = False
    torch.backends.cudnn.allow_tf32 = recipe.train.precision == "tf32"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(was_deterministic)
        memory.fill_uninitialized_memory = fills_memory
        torch.backends.cudnn.allow_tf32 = allows_tf32


def describe_environment(device: torch.device, cache: Path, cache_digest: str) -> dict[str, Any]:
    """Return what a result depends on beside the recipe: versions, machine, cache."""
    return {
        **{name: _version(name) for name in ("tmkt", "torch", "spikingjelly", "numpy")},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "num_threads": torch.get_num_threads(),
        "lif_implementation": lif_implementation(device),
        "cache": str(cache.resolve()),
        "cache_digest": cache_digest,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
