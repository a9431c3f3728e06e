"""The two checkpoints of a run: last.pt to resume from, best.pt with the selected weights.

Both are written atomically and read without running code.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tmkt_data.files import write_bytes
from tmkt_train.errors import NonFiniteError, RecipeError, RunError
from tmkt_train.network.network import SpikingNetwork
from tmkt_train.recipe.load import parse_toml
from tmkt_train.recipe.recipe import Recipe, recipe_text
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.metrics import EpochMeans
from tmkt_train.training.optimizer import load_optimizer
from tmkt_train.training.record import flatten
from tmkt_train.training.setup import TrainingSetup
from tmkt_train.training.state import TrainingState

FORMAT = 1


def save_checkpoint(path: Path, values: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: File.
        values: Tensors, numbers, strings, and dicts and lists of them.

    Raises:
        RunError: It cannot be written; the checkpoint that was there stays as it was.
    """
    # In memory first: torch's own writer may abort the process when the disk is full.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **values}, buffer)
    write_bytes(path, buffer.getbuffer(), sync="name", error=RunError)


def load_checkpoint(path: Path, device: torch.device | None = None) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        RunError: It is missing, cut off, altered, or of another version.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint; the run was stopped before it wrote one")
    try:
        file = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(file) as archive:
            # Torch does not check the checksums of the members.
            altered = archive.testzip()
        if altered is not None:
            raise ValueError(f"{altered} was altered")
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = torch.load(file, map_location=device or "cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - damaged bytes raise about any error in zipfile and torch
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise RunError(f"{path}: not a readable checkpoint ({reason}); start a new run") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise RunError(f"{path}: found another format, expected checkpoint format {FORMAT}; start a new run")
    return values


def require_finite(parameters: Iterable[tuple[str, Tensor]], place: str) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        NonFiniteError: Names the first such parameter.
    """
    named = list(parameters)
    if not named:
        return
    finite = torch.stack([torch.isfinite(value).all() for _, value in named]).tolist()
    for (name, _), good in zip(named, finite, strict=True):
        if not good:
            raise NonFiniteError(f"{place}: {name} is NaN or infinite; lower optim.learning_rate or loss weights")


def last_values(recipe: Recipe, setup: TrainingSetup, state: TrainingState) -> dict[str, Any]:
    """Return what last.pt holds: everything that is needed to resume.

    Raises:
        NonFiniteError: A weight is NaN or infinite.
    """
    weights = [*setup.model.state_dict().items(), *setup.method.state_dict().items()]
    require_finite(weights, f"epoch {state.epoch + (state.batch > 0)}")
    values = {
        "position": state.state_dict(),
        "model": setup.model.state_dict(),
        "method": setup.method.state_dict(),
        "optimizer": setup.optimizer.state_dict(),
        "generator": torch.get_rng_state(),
        "recipe": recipe_text(recipe),
    }
    return values | {"scaler": setup.scaler.state_dict()} if setup.scaler.is_enabled() else values


def restore(folder: RunFolder, setup: TrainingSetup) -> TrainingState:
    """Restore a run from last.pt; without one, return the state at the start.

    Raises:
        RunError: last.pt or best.pt is damaged, of another run, or they do not belong together.
    """
    last = folder.last
    if not last.is_file():
        return TrainingState(EpochMeans(setup.device))
    # To the CPU first: AdamW would wait in every step for counters that were loaded to a GPU with its other state.
    values = load_checkpoint(last)
    load_weights(setup.model, values.get("model"), last)
    load_weights(setup.method, values.get("method"), last)
    try:
        load_optimizer(setup.optimizer, values["optimizer"])
        if setup.scaler.is_enabled():
            setup.scaler.load_state_dict(values["scaler"])
        torch.set_rng_state(values["generator"].cpu())
        state = TrainingState.from_state_dict(values["position"], setup.device)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise RunError(f"{last}: not what this version of tmkt saves ({error!r:.100}); start a new run") from None
    if state.is_best_just_done and state.best is not None:
        # The process may have died between the two writes; here last.pt has the weights of both.
        save_checkpoint(folder.best, {"epoch": state.best.epoch, "model": setup.model.state_dict()})
    elif state.best is not None and "best_model" in values:
        save_checkpoint(folder.best, {"epoch": state.best.epoch, "model": values["best_model"]})
    elif state.best is not None:
        _require_epoch(folder, load_checkpoint(folder.best), state.best.epoch)
    return state


def load_best(folder: RunFolder, model: SpikingNetwork, device: torch.device, epoch: int) -> None:
    """Load the selected weights into a network.

    Args:
        folder: The run.
        model: Network, on the device.
        device: Where it runs.
        epoch: The selected epoch, from 0.

    Raises:
        RunError: They are missing, damaged, of another epoch, or of another network.
    """
    values = load_checkpoint(folder.best, device)
    _require_epoch(folder, values, epoch)
    load_weights(model, values.get("model"), folder.best)


def _require_epoch(folder: RunFolder, values: Mapping[str, Any], epoch: int) -> None:
    found = values.get("epoch")
    if found != epoch:
        shown = f"epoch {found + 1}" if isinstance(found, int) else "no epoch"
        raise RunError(
            f"{folder.best}: holds {shown}, expected epoch {epoch + 1} as this run selected; "
            "restore the best.pt of this run, or start a new run"
        )


def load_weights(module: nn.Module, weights: Any, place: Path) -> None:
    """Load weights into a module.

    Raises:
        RunError: They belong to another module, or are not weights.
    """
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError, KeyError, ValueError):
        raise RunError(f"{place}: the weights are of another network than the recipe; start a new run") from None


def recipe_digest(tables: Mapping[str, Any]) -> str:
    """Return a digest of the settings of a recipe; comments, order and spacing do not change it.

    Example:
        >>> recipe_digest({"a": 1, "b": 2}) == recipe_digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(tables, sort_keys=True, default=str).encode()).hexdigest()[:16]


def require_same_recipe(folder: RunFolder, environment: Mapping[str, Any]) -> None:
    """Refuse a run whose recipe.toml was edited after the start.

    Args:
        folder: The run.
        environment: What the run was started in.

    Raises:
        RunError: It was edited, or cannot be read; names the changed keys if last.pt has the recipe.
    """
    now = folder.read_recipe_tables()
    if recipe_digest(now) == environment["recipe_digest"]:
        return
    keys = _changed_keys(folder, now)
    found = f"{', '.join(keys)} changed" if keys else "the settings changed"
    raise RunError(
        f"{folder.recipe}: {found}, expected the recipe that the run was started with; "
        "undo the change, or start a new run with the changed recipe"
    )


def _changed_keys(folder: RunFolder, now: Mapping[str, Any]) -> list[str]:
    try:
        before = parse_toml(str(load_checkpoint(folder.last)["recipe"]), str(folder.last))
    except (RunError, RecipeError, KeyError, ValueError):
        return []
    here, there = dict(flatten(now)), dict(flatten(before))
    missing = object()
    return [key for key in there | here if here.get(key, missing) != there.get(key, missing)]
