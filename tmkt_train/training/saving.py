"""The two checkpoints of a run: last.pt to go on from, best.pt with the selected weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tmkt_train.errors import RunError
from tmkt_train.network.network import SpikingNetwork
from tmkt_train.recipe.recipe import Recipe, recipe_text
from tmkt_train.training.checkpoint import load_checkpoint, require_finite, save_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.metrics import EpochMeans
from tmkt_train.training.setup import Parts
from tmkt_train.training.state import Position


def save_last(folder: RunFolder, recipe: Recipe, parts: Parts, at: Position) -> None:
    """Save everything that is needed to go on.

    Raises:
        NonFiniteError: A weight is no finite number; nothing is written.
        RunError: It cannot be written.
    """
    weights = [*parts.model.state_dict().items(), *parts.method.state_dict().items()]
    require_finite(weights, f"epoch {at.epoch + (at.step > 0)}")
    state = {
        "position": at.state(),
        "model": parts.model.state_dict(),
        "method": parts.method.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "generator": torch.get_rng_state(),
        "recipe": recipe_text(recipe),
    }
    save_checkpoint(folder.last, state)


def save_best(folder: RunFolder, parts: Parts, epoch: int) -> None:
    """Save the weights of the selected epoch, counted from 0; after last.pt, from which they can be made again.

    Raises:
        RunError: They cannot be written.
    """
    save_checkpoint(folder.best, {"epoch": epoch, "model": parts.model.state_dict()})


def restore(folder: RunFolder, parts: Parts) -> Position:
    """Put a run back to where last.pt stands, or to the start where there is none.

    Raises:
        RunError: last.pt or best.pt is damaged, of another run, or they do not belong together.
    """
    last = folder.last
    if not last.is_file():
        return Position(EpochMeans(parts.device))
    state = load_checkpoint(last, parts.device)
    load_weights(parts.model, state.get("model"), last)
    load_weights(parts.method, state.get("method"), last)
    try:
        parts.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["generator"].cpu())
        at = Position.from_state(state["position"], parts.device)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise RunError(f"{last}: not what this version saves ({error!r:.100}); start the run anew") from None
    if at.is_best_just_done and at.best is not None:
        # The process may have died between the two files; last.pt holds the weights of both here.
        save_best(folder, parts, at.best.epoch)
    elif at.best is not None:
        _require_epoch(folder, load_checkpoint(folder.best), at.best.epoch)
    return at


def load_best(folder: RunFolder, model: SpikingNetwork, device: torch.device, epoch: int) -> None:
    """Put the selected weights into a network.

    Args:
        folder: The run.
        model: Network, on the device.
        device: Where it runs.
        epoch: The selected epoch, from 0.

    Raises:
        RunError: They are missing, damaged, of another epoch, or of another network.
    """
    state = load_checkpoint(folder.best, device)
    _require_epoch(folder, state, epoch)
    load_weights(model, state.get("model"), folder.best)


def _require_epoch(folder: RunFolder, state: Mapping[str, Any], epoch: int) -> None:
    """Refuse selected weights of another epoch than the one that was selected.

    Raises:
        RunError: They are.
    """
    found = state.get("epoch")
    if found != epoch:
        shown = f"epoch {found + 1}" if isinstance(found, int) else "no epoch"
        raise RunError(
            f"{folder.best}: holds {shown}, expected epoch {epoch + 1} as this run selected; "
            "put the best.pt of this run back, or start the run anew"
        )


def load_weights(module: nn.Module, weights: Any, place: Path) -> None:
    """Put weights into a module.

    Raises:
        RunError: They are of another module, or no weights.
    """
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError, KeyError, ValueError):
        raise RunError(f"{place}: the weights are of another network than the recipe; start the run anew") from None
