"""Restore a run from its checkpoints: from the newest generation, or from the one before where that is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch

from tmkt_data.errors import counted
from tmkt_data.files import read_bytes
from tmkt_train.errors import RunError
from tmkt_train.network.collectives import num_ranks, own_rank
from tmkt_train.network.network import Network
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.checkpoint import (
    last_values,
    load_checkpoint,
    load_weights,
    parse_checkpoint,
    save_checkpoint,
)
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.metrics import EpochMeans
from tmkt_train.training.optimizer import load_optimizer
from tmkt_train.training.ranks import on_first
from tmkt_train.training.saving import to_host
from tmkt_train.training.setup import TrainingSetup
from tmkt_train.training.state import TrainingState

_OTHER_CONTENT = (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError)
"""What a checkpoint of another version raises where its values are used."""


def restore(folder: RunFolder, setup: TrainingSetup) -> tuple[TrainingState, tuple[str, ...]]:
    """Restore a run from last.pt, or from the checkpoint before; without one, return the state at the start.

    Returns:
        The training state, and what was lost or repaired, one line each.

    Raises:
        RunError: No checkpoint is whole, they are of another run, or do not belong to best.pt; or one cannot be read.
    """
    problems = []
    for path in (folder.last, folder.last_previous):
        if not path.is_file():
            problems.append(f"{path}: no such checkpoint; start a new run")
            continue
        # Whoever may not read a file cannot tell whether it is damaged.
        data = read_bytes(path, error=RunError)
        try:
            state, notes = _restore_from(path, parse_checkpoint(data, path), folder, setup)
        except RunError as error:
            problems.append(str(error))
            continue
        if path == folder.last_previous:
            notes.insert(0, f"{_finding(problems[0])}; resuming from {path.name}, after epoch {state.epoch}")
            # The damaged one must not become the older generation.
            _rename(path, folder.last)
        return state, (*notes, *_restore_metrics(folder, state))
    if folder.last.is_file() or folder.last_previous.is_file():
        raise RunError(problems[0] if folder.last.is_file() else problems[1])
    return _start(folder, setup)


def restore_on_ranks(folder: RunFolder, recipe: Recipe, setup: TrainingSetup) -> tuple[TrainingState, tuple[str, ...]]:
    """Restore a run on every rank; the first one alone reads and repairs its files. See `restore`."""
    if num_ranks() == 1:
        return restore(folder, setup)

    def restore_first() -> tuple[dict[str, Any], tuple[str, ...]]:
        state, notes = restore(folder, setup)
        values = to_host(last_values(recipe, setup, state))
        if setup.device.type == "cuda":
            # The copies are not waited for.
            torch.cuda.current_stream().synchronize()
        return values, notes

    values, notes = on_first(restore_first)
    state = _load(folder.last, values, setup)
    if own_rank() > 0:
        # Only networks of the user's own draw from this generator, such as for dropout: other samples, other draws.
        torch.manual_seed(Random(f"{recipe.seed} {own_rank()} {state.epoch} {state.batch}").getrandbits(63))
    return state, notes


def repair_finished(folder: RunFolder) -> tuple[str, ...]:
    """Check the files of a finished run, and restore those that the checkpoints hold, too: best.pt and the metrics.

    Returns:
        What was repaired, one line each.

    Raises:
        TmktError: Its recipe, result, selected weights or metrics are damaged beyond repair, or cannot be written.
    """
    folder.read_recipe()
    return *_repair_best(folder, folder.read_result()["best_epoch"]), *repair_metrics(folder)


def _repair_best(folder: RunFolder, epoch: int) -> tuple[str, ...]:
    """Restore the selected weights of a finished run from last.pt if they are damaged; errors as `load_best`."""
    # Whoever may not read a file cannot tell whether it is damaged.
    data = read_bytes(folder.best, error=RunError) if folder.best.is_file() else None
    try:
        values = load_checkpoint(folder.best) if data is None else parse_checkpoint(data, folder.best)
    except RunError as error:
        weights = _weights_in(folder.last, epoch)
        if weights is None:
            raise
        with folder.lock():
            save_checkpoint(folder.best, {"epoch": epoch, "model": weights})
        return (f"{_finding(str(error))}; restored from {folder.last.name}",)
    _require_epoch(folder, values, epoch)
    return ()


def _weights_in(last: Path, epoch: int) -> Any:
    """Return the selected weights of an epoch that last.pt holds; None if it does not, or is damaged itself."""
    try:
        values = load_checkpoint(last)
        state = _state_of(last, values, torch.device("cpu"))
    except RunError:
        return None
    if state.best is None or state.best.epoch != epoch:
        return None
    return values["model"] if state.is_best_just_done else values.get("best_model")


def repair_metrics(folder: RunFolder) -> tuple[str, ...]:
    """Restore metrics.jsonl of a finished run from last.pt if a line is lost or damaged.

    Returns:
        What was repaired, one line each.

    Raises:
        RunError: It is damaged, and last.pt is, too, or missing; or it cannot be written.
    """
    problem = _metrics_problem(folder)
    if problem is None:
        return ()
    if not folder.last.is_file():
        raise RunError(f"{problem}, and there is no last.pt to restore it from; start a new run")
    with folder.lock():
        values = load_checkpoint(folder.last)
        return _restore_metrics(folder, _state_of(folder.last, values, torch.device("cpu")))


def _metrics_problem(folder: RunFolder) -> str | None:
    """Return what is wrong with the metrics of a finished run, without what to do; None if they are whole."""
    try:
        rows, _ = folder.metrics.read()
    except RunError as error:
        return _finding(str(error))
    num_epochs = folder.read_result()["epochs"]
    if len(rows) == num_epochs:
        return None
    found = counted(len(rows), "whole line")
    return f"{folder.metrics.path}: found {found}, expected {num_epochs} as in {folder.result.name}"


def load_best(folder: RunFolder, model: Network, device: torch.device, epoch: int) -> None:
    """Load the selected weights, of an epoch from 0, into a network on its device.

    Raises:
        RunError: They are missing, damaged, of another epoch, or of another network.
    """
    values = load_checkpoint(folder.best, device)
    _require_epoch(folder, values, epoch)
    load_weights(model, values.get("model"), folder.best)


def _start(folder: RunFolder, setup: TrainingSetup) -> tuple[TrainingState, tuple[str, ...]]:
    rows, is_lost = folder.metrics.keep(0), folder.best.is_file()
    notes = (f"{folder.last}: no such checkpoint, though best.pt is there; starting again from the first epoch",)
    return TrainingState(EpochMeans(setup.device), rows=rows), notes if is_lost else ()


def _restore_from(
    path: Path, values: Mapping[str, Any], folder: RunFolder, setup: TrainingSetup
) -> tuple[TrainingState, list[str]]:
    state = _load(path, values, setup)
    return state, _restore_best(folder, state, values)


def _load(path: Path, values: Mapping[str, Any], setup: TrainingSetup) -> TrainingState:
    # To the CPU first: Adam would wait in every step for counters that were loaded to a GPU with its other state.
    load_weights(setup.model, values.get("model"), path)
    load_weights(setup.method, values.get("method"), path)
    try:
        load_optimizer(setup.optimizer, values["optimizer"])
        if setup.scaler.is_enabled():
            setup.scaler.load_state_dict(values["scaler"])
        torch.set_rng_state(values["generator"].cpu())
    except _OTHER_CONTENT as error:
        raise _other_version(path, error) from None
    return _state_of(path, values, setup.device)


def _state_of(path: Path, values: Mapping[str, Any], device: torch.device) -> TrainingState:
    try:
        return TrainingState.from_state_dict(values["position"], device)
    except _OTHER_CONTENT as error:
        raise _other_version(path, error) from None


def _other_version(path: Path, error: Exception) -> RunError:
    return RunError(f"{path}: not what this version of tmkt saves ({error!r:.100}); start a new run")


def _restore_best(folder: RunFolder, state: TrainingState, values: Mapping[str, Any]) -> list[str]:
    """Make best.pt hold the best epoch of a state; the process may have died between the two checkpoints."""
    if state.best is None:
        return []
    epoch, found = state.best.epoch, _epoch_in(folder.best)
    if found == epoch:
        return []
    weights = values["model"] if state.is_best_just_done else values.get("best_model")
    if weights is not None:
        previous = None if found is None else folder.best_previous
        save_checkpoint(folder.best, {"epoch": epoch, "model": weights}, previous=previous)
        return []
    if _epoch_in(folder.best_previous) != epoch:
        _require_epoch(folder, load_checkpoint(folder.best), epoch)
    _rename(folder.best_previous, folder.best)
    reason = "not a whole checkpoint" if found is None else f"holds epoch {found + 1}"
    return [f"{folder.best}: {reason}, expected epoch {epoch + 1}; restored from {folder.best_previous.name}"]


def _epoch_in(path: Path) -> int | None:
    """Return the epoch of some best weights; None if the file is missing or damaged."""
    if not path.is_file():
        return None
    data = read_bytes(path, error=RunError)
    try:
        epoch = parse_checkpoint(data, path).get("epoch")
    except RunError:
        return None
    return epoch if isinstance(epoch, int) else None


def _require_epoch(folder: RunFolder, values: Mapping[str, Any], epoch: int) -> None:
    found = values.get("epoch")
    if found != epoch:
        shown = f"epoch {found + 1}" if isinstance(found, int) else "no epoch"
        raise RunError(
            f"{folder.best}: holds {shown}, expected epoch {epoch + 1} as this run selected; "
            "restore the best.pt of this run, or start a new run"
        )


def _restore_metrics(folder: RunFolder, state: TrainingState) -> tuple[str, ...]:
    if len(state.rows) != state.epoch:
        # Saved by an earlier version, which kept them in the file alone.
        state.rows = folder.metrics.keep(state.epoch)
        return ()
    problem = folder.metrics.restore(state.rows)
    return () if problem is None else (f"{problem}; restored from {folder.last.name}",)


def _rename(path: Path, target: Path) -> None:
    try:
        path.replace(target)
    except OSError as error:
        raise RunError(f"{target}: cannot be written ({error.strerror or error}); check its folder") from None


def _finding(problem: str) -> str:
    """Return an error without what to do."""
    return problem.rpartition(";")[0]
