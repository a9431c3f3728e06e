"""The end of a run: the test part, read once with the selected weights, and the record of the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tmkt_data import PairedFrames
from tmkt_data.errors import TmktError
from tmkt_data.pairs.report import report_pairs
from tmkt_train.data.batches import Batch, evaluation_batches
from tmkt_train.data.cache import selection_split
from tmkt_train.errors import RunError
from tmkt_train.network.network import SpikingNetwork
from tmkt_train.recipe.recipe import Recipe, inferred_choices
from tmkt_train.training.finished import open_finished
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.loop import TOP, Evaluation, evaluate
from tmkt_train.training.setup import Parts
from tmkt_train.training.state import Position


def evaluate_part(
    recipe: Recipe,
    model: SpikingNetwork,
    frames: PairedFrames,
    device: torch.device,
    before_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate a network on one part.

    Args:
        recipe: Says the batch size and the loss.
        model: Network, on the device.
        frames: The part.
        device: Where it runs.
        before_batch: Called before each batch; may raise to stop.
    """
    batches = evaluation_batches(frames, batch_size=recipe.train.eval_batch_size, device=device)

    def asked(batch: Batch) -> Batch:
        before_batch()
        return batch

    return evaluate(model, map(asked, batches), recipe.loss)


def result_record(
    recipe: Recipe,
    parts: Parts,
    at: Position,
    rows: Sequence[Mapping[str, Any]],
    test: Evaluation,
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Build what result.json holds; `best_epoch` counts from 0.

    Args:
        recipe: The recipe.
        parts: What was trained.
        at: The end of the run.
        rows: Lines of the metrics, one per epoch.
        test: What the selected weights make of the test part.
        environment: What the run was started in.
    """
    if at.best is None:
        raise RunError("result: found no best epoch, expected one; the checkpoint is damaged, start the run anew")
    selected_on = selection_split(recipe)
    on_test = selected_on == "test"
    last = rows[-1].get(f"{selected_on}_accuracy")
    if not isinstance(last, float):
        raise RunError(f"metrics.jsonl: no {selected_on}_accuracy in its last line; start the run anew")
    frames = parts.frames
    frames.set_epoch(0)
    pair_report, notes = _pair_report(frames) if recipe.needs_images else (None, [])
    return {
        "dataset": recipe.data.dataset,
        "recipe": recipe.name,
        "title": recipe.title,
        "method": recipe.method.name,
        "protocol": recipe.data.protocol,
        "pairing": recipe.data.pairing if recipe.needs_images else "none",
        "seed": recipe.seed,
        "epochs": recipe.num_epochs,
        "image_epochs": recipe.image_epochs,
        "num_steps": recipe.num_epochs * parts.num_steps,
        "selected_on": selected_on,
        "optimistic": bool(recipe.optimism),
        "best_epoch": at.best.epoch,
        "val_accuracy": None if on_test else at.best.accuracy,
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        **({"test_top5_accuracy": test.top5} if frames.num_classes > TOP else {}),
        f"last_epoch_{selected_on}_accuracy": last,
        "learning_rate": recipe.optim.learning_rate,
        "num_parameters": count_parameters(parts.model),
        "num_parameters_in_training": count_parameters(parts.model, parts.method),
        "num_classes": frames.num_classes,
        "num_train": len(frames),
        "num_val": 0 if on_test else len(parts.selection),
        "num_test": len(test.labels),
        "cache_digest": frames.cache_digest,
        "split_digest": frames.split_digest,
        "cache_spec": frames.spec.to_dict(),
        "pair_report": pair_report,
        "inferred": inferred_choices(recipe),
        "warnings": [*_warnings(recipe, at), *notes],
        "environment": dict(environment),
        "wall_s": round(at.wall_s, 3),
        "peak_memory_bytes": at.peak_bytes,
    }


def _warnings(recipe: Recipe, at: Position) -> Sequence[str]:
    warnings = list(recipe.warnings())
    if at.num_skipped:
        warnings.append(f"alignment was skipped in {at.num_skipped} batches of one sample")
    if recipe.optimism:
        warnings.append(f"test_accuracy is optimistic: {recipe.optimism}")
    return warnings


def _pair_report(frames: PairedFrames) -> tuple[dict[str, Any], list[str]]:
    """Look at the pairs; the alignment also reads other parts, and what is wrong there does not undo a training."""
    try:
        return report_pairs(frames, alignment=True).to_dict(), []
    except TmktError as error:
        return report_pairs(frames).to_dict(), [f"the alignment of the pairs was not measured: {error}"]


def write_end(folder: RunFolder, result: dict[str, Any], diagnostics: Callable[[], list[str]]) -> dict[str, Any]:
    """Write the result, then what is only for looking at; nothing that fails there undoes the result.

    Args:
        folder: The run.
        result: What result.json holds.
        diagnostics: Writes the arrays of the report and returns what it could not show.

    Returns:
        The result, with warnings on what is missing.
    """
    folder.write_result(result)
    try:
        warnings = diagnostics()
    except Exception as error:  # noqa: BLE001 - the training is done, whatever is wrong here
        warnings = [f"diagnostics.npz is not written ({type(error).__name__}: {error})"]
    if warnings:
        result = result | {"warnings": [*result["warnings"], *warnings]}
        folder.write_result(result)
    return result


def count_parameters(*modules: nn.Module) -> int:
    """Count the parameters of modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def evaluate_run(path: Path, *, cache: Path | None = None) -> tuple[Evaluation, float]:
    """Evaluate the selected weights of a finished run on the test part once more.

    Args:
        path: Folder of the run.
        cache: Where the cache lies now, if it was moved.

    Returns:
        The evaluation, and the accuracy that the run recorded.

    Raises:
        RunError: The run is not finished, or the cache is not the one it was trained on.
    """
    with open_finished(path, cache=cache) as run:
        return evaluate_part(run.recipe, run.model, run.test, run.device), float(run.result["test_accuracy"])
