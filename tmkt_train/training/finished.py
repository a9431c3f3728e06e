"""A finished run, opened again: its recipe, its result, its selected weights and the cache they were trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tmkt_data import PairedFrames
from tmkt_train.data.cache import open_frames
from tmkt_train.errors import RunError, command
from tmkt_train.network.network import SpikingNetwork
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.folder import RunFolder, cache_of
from tmkt_train.training.run_identity import require_same_recipe
from tmkt_train.training.saving import load_best
from tmkt_train.training.setup import build_network, choose_device, numerics


class FinishedRun(NamedTuple):
    """What a finished run left.

    Attributes:
        recipe: The resolved recipe.
        result: What result.json holds.
        test: The test part.
        model: The network with the selected weights, in evaluation mode, on the device.
        device: Where it runs.
    """

    recipe: Recipe
    result: dict[str, Any]
    test: PairedFrames
    model: SpikingNetwork
    device: torch.device


@contextmanager
def open_finished(path: Path, *, cache: Path | None = None) -> Iterator[FinishedRun]:
    """Open a finished run, with the numerics that it was trained with for as long as it is open.

    Args:
        path: Folder of the run.
        cache: Where the cache lies now, if it was moved.

    Raises:
        RunError: The run is not finished, or the cache is not the one it was trained on.
    """
    folder = RunFolder(path)
    recipe = folder.load_recipe()
    if not folder.is_finished:
        again = command("tmkt-train", "resume", path)
        raise RunError(f"{path}: not finished, expected a result; go on with: {again}")
    result, environment = folder.result(), folder.environment()
    require_same_recipe(folder, environment)
    device = choose_device(recipe)
    with numerics(recipe, environment["num_threads"]):
        frames = open_frames(recipe, cache or cache_of(environment), "test")
        if frames.cache_digest != result["cache_digest"]:
            raise RunError(
                f"{path}: cache digest {frames.cache_digest}, expected {result['cache_digest']} "
                "as in training; give that cache with --cache"
            )
        model = build_network(recipe, frames).to(device)
        load_best(folder, model, device, result["best_epoch"])
        model.eval()
        yield FinishedRun(recipe, result, frames, model, device)
