"""The result of a run: evaluate the selected weights on the test split, write it, and load a finished run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from tmkt_data import PairedFrames
from tmkt_data.datasets.duplicates import duplicates_in
from tmkt_data.errors import TmktError
from tmkt_data.pairs.report import report_pairs
from tmkt_train.data.batches import evaluation_batches
from tmkt_train.data.cache import open_frames, selection_split
from tmkt_train.errors import RunError, unfinished
from tmkt_train.network.network import Network
from tmkt_train.recipe.recipe import Recipe, inferred_choices
from tmkt_train.training.checkpoint import load_checkpoint, load_weights, require_same_recipe
from tmkt_train.training.environment import (
    choose_device,
    choose_precision,
    code_changes,
    compute_dtype,
    numerics,
    same_cache,
)
from tmkt_train.training.folder import Arrays, RunFolder
from tmkt_train.training.loop import TOP, Evaluation, evaluate
from tmkt_train.training.restore import load_best
from tmkt_train.training.setup import FrameFacts, TrainingSetup, build_network, setup_warnings
from tmkt_train.training.state import TrainingState


class FinalEvaluation(NamedTuple):
    """The evaluations after training.

    Attributes:
        frames: The split: test, or validation with `train.final_split = "val"`.
        selected: Of the selected weights.
        last: Of the weights of the last epoch; the same where that is the selected one.
    """

    frames: PairedFrames
    selected: Evaluation
    last: Evaluation


class FinishedRun(NamedTuple):
    """A finished run, loaded for evaluation: the network has the selected weights and is in evaluation mode.

    `notes` say what has changed since it was trained.
    """

    recipe: Recipe
    result: dict[str, Any]
    test: PairedFrames
    model: Network
    device: torch.device
    notes: tuple[str, ...]


class FinishedFolder(NamedTuple):
    """What the folder of a finished run says."""

    folder: RunFolder
    recipe: Recipe
    result: dict[str, Any]
    environment: dict[str, Any]


def read_finished(path: Path) -> FinishedFolder:
    """Read what a finished run says of itself.

    Raises:
        RunError: The run is not finished, damaged, or its recipe was changed after it was started.
    """
    folder = RunFolder(path)
    recipe = folder.read_recipe()
    if not folder.is_finished:
        raise unfinished(path)
    result, environment = folder.read_result(), folder.read_environment()
    require_same_recipe(folder, environment)
    return FinishedFolder(folder, recipe, result, environment)


def load_selected(run: FinishedFolder, frames: PairedFrames | FrameFacts, device: torch.device) -> Network:
    """Build the network of a finished run with its selected weights, in evaluation mode.

    Raises:
        RunError: The weights are missing, damaged, or those of another network.
    """
    model = build_for_use(run.recipe, frames, device)
    load_best(run.folder, model, device, run.result["best_epoch"])
    return model


def build_for_use(recipe: Recipe, frames: PairedFrames | FrameFacts, device: torch.device) -> Network:
    """Build the network of a recipe to be used on a device, with fresh weights, in evaluation mode."""
    model = build_network(recipe, frames).to(device)
    if device.type == "cuda":
        # A CPU evaluates in float32 what a GPU trained in half precision.
        model.compute_dtype = compute_dtype(choose_precision(recipe, device))
    return model.eval()


@contextmanager
def open_finished(path: Path, *, cache: Path | None = None) -> Iterator[FinishedRun]:
    """Open a finished run; while it is open, torch has the numerical settings of its training.

    `cache` is the new path of the cache, if it was moved.

    Raises:
        RunError: The run is not finished, or the cache is not the one it was trained on.
    """
    run = read_finished(path)
    device = choose_device(run.recipe)
    with numerics(run.recipe, run.environment["num_threads"]):
        frames = open_frames(run.recipe, same_cache(run.environment, cache, run.result["cache_digest"]), "test")
        notes = code_changes(run.recipe, run.environment.get("network_digest"))
        yield FinishedRun(run.recipe, run.result, frames, load_selected(run, frames, device), device, notes)


def evaluate_run(path: Path, *, cache: Path | None = None) -> tuple[Evaluation, float | None]:
    """Evaluate a finished run on the test split again; return the evaluation, and the accuracy that it recorded.

    That is None with `train.final_split = "val"`. `cache` is the new path of the cache, if it was moved.

    Raises:
        RunError: The run is not finished, or the cache is not the one it was trained on.
    """
    with open_finished(path, cache=cache) as run:
        batches = evaluation_batches(run.test, batch_size=run.recipe.train.eval_batch_size, device=run.device)
        return evaluate(run.model, batches, run.recipe.loss), run.result["test_accuracy"]


def evaluate_both(path: Path, *, cache: Path | None = None) -> tuple[Evaluation, Evaluation]:
    """Evaluate a finished run on the test split: its selected weights, and those of its last epoch.

    Raises:
        RunError: The run is not finished, or the cache is not the one it was trained on.
    """
    with open_finished(path, cache=cache) as run:

        def evaluate_once() -> Evaluation:
            batches = evaluation_batches(run.test, batch_size=run.recipe.train.eval_batch_size, device=run.device)
            return evaluate(run.model, batches, run.recipe.loss)

        selected, last = evaluate_once(), RunFolder(path).last
        load_weights(run.model, load_checkpoint(last, run.device).get("model"), last)
        return selected, evaluate_once()


def result_record(
    recipe: Recipe,
    setup: TrainingSetup,
    state: TrainingState,
    final: FinalEvaluation,
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the content of result.json from the end of a training; `best_epoch` counts from 0.

    Raises:
        RunError: The checkpoint has no best epoch, or the metrics have no accuracy.
    """
    if state.best is None:
        raise RunError("result: found no best epoch, expected one; the checkpoint is damaged, start a new run")
    split = selection_split(recipe)
    on_test = split == "test"
    last = state.rows[-1].get(f"{split}_accuracy")
    if not isinstance(last, float):
        raise RunError(f"metrics.jsonl: no {split}_accuracy in its last line; start a new run")
    frames = setup.frames
    frames.set_epoch(0)
    pair_report, pair_warnings = _pair_report(recipe, frames) if recipe.needs_images else (None, [])
    copies = duplicates_in(frames.cache.tables, frames.protocol).text
    if copies:
        pair_warnings.append(f"{copies}; accuracy on them is no test")
    changes = [f"on a resume, {change}" for change in environment.get("changes", ())]
    warnings = [*changes, *recipe.warnings(), *setup_warnings(recipe, setup)]
    if state.num_skipped:
        warnings.append(f"alignment was skipped in {state.num_skipped} batches of one sample")
    if recipe.optimism:
        warnings.append(f"test_accuracy is optimistic: {recipe.optimism}")
    return {
        "dataset": recipe.data.dataset,
        "recipe": recipe.name,
        "title": recipe.title,
        "method": recipe.method.name,
        "backbone": recipe.model.backbone,
        "protocol": recipe.data.protocol,
        "pairing": recipe.data.pairing if recipe.needs_images else "none",
        "seed": recipe.seed,
        "epochs": recipe.num_epochs,
        "image_epochs": recipe.image_epochs,
        "num_steps": recipe.num_epochs * setup.batches_per_epoch,
        "select": recipe.train.select,
        "selected_on": recipe.selected_on,
        "optimistic": bool(recipe.optimism),
        "best_epoch": state.best.epoch,
        "val_accuracy": None if on_test else state.best.accuracy,
        **_test_record(recipe, final),
        **({} if on_test else {"last_epoch_val_accuracy": last}),
        "learning_rate": recipe.optim.learning_rate,
        "num_parameters": count_parameters(setup.model),
        "num_parameters_in_training": count_parameters(setup.model, setup.method),
        "num_classes": frames.num_classes,
        "num_train": len(frames),
        "num_val": 0 if on_test else len(setup.selection),
        "num_test": len(final.selected.labels) if recipe.train.final_split == "test" else 0,
        "cache_digest": frames.cache_digest,
        "split_digest": frames.split_digest,
        "cache_spec": frames.spec.to_dict(),
        "cache_facts": frames.cache.info.facts,
        "class_names": list(frames.class_names),
        "pair_report": pair_report,
        "inferred": inferred_choices(recipe),
        "warnings": [*warnings, *pair_warnings],
        "environment": {name: value for name, value in environment.items() if name not in ("started", "changes")},
        "wall_s": round(state.wall_s, 3),
        "peak_memory_bytes": state.peak_bytes,
        **({"peak_reserved_bytes": state.reserved_bytes} if state.reserved_bytes else {}),
    }


def _test_record(recipe: Recipe, final: FinalEvaluation) -> dict[str, float | None]:
    if recipe.train.final_split == "val":
        return {"test_accuracy": None, "test_loss": None, "last_epoch_test_accuracy": None}
    top5 = {"test_top5_accuracy": final.selected.top5} if final.frames.num_classes > TOP else {}
    return {
        "test_accuracy": final.selected.accuracy,
        "test_loss": final.selected.loss,
        **top5,
        "last_epoch_test_accuracy": final.last.accuracy,
    }


def _pair_report(recipe: Recipe, frames: PairedFrames) -> tuple[dict[str, Any], list[str]]:
    # The alignment also reads other splits; an error there must not undo a finished training.
    try:
        report = report_pairs(frames, alignment=recipe.train.final_split == "test")
        return report.to_dict(), [verdict.text for verdict in report.verdicts if verdict.severity == "error"]
    except TmktError as error:
        return report_pairs(frames).to_dict(), [f"the alignment of the pairs was not measured: {error}"]


def write_predictions(folder: RunFolder, final: FinalEvaluation) -> None:
    """Write the predicted class of each recording of the final evaluation, by the selected weights.

    Raises:
        RunError: The file cannot be written.
    """
    names, selected = final.frames.class_names, final.selected
    rows = zip(final.frames.ids, selected.labels.tolist(), selected.predictions.tolist(), strict=True)
    folder.write_predictions((sample_id, names[label], names[predicted]) for sample_id, label, predicted in rows)


def write_end(
    folder: RunFolder, result: dict[str, Any], diagnostics: Callable[[], tuple[Arrays, list[str]]]
) -> dict[str, Any]:
    """Write the result, then the diagnostics; an error in making them becomes a warning of the result that is returned.

    A process that dies in between, or finds no space, is told by a result without diagnostics. They are made once more,
    and a second failure is a warning of the result, too. `diagnostics` returns the arrays, and warnings about what is
    missing.

    Raises:
        RunError: A file cannot be written; what is missing is written by the next start.
    """
    died = (
        f"{folder.diagnostics.name} was not written (it failed twice; free some space, or report why the process dies)"
    )
    is_second = folder.is_finished and not folder.diagnostics.is_file()
    folder.write_result(result | {"warnings": [*result["warnings"], died]} if is_second else result)
    try:
        arrays, warnings = diagnostics()
    except Exception as error:  # noqa: BLE001 - the training is done, whatever is wrong here
        arrays, warnings = {}, [f"{folder.diagnostics.name} was not written ({type(error).__name__}: {error})"]
    if arrays:
        folder.write_diagnostics(arrays)
    if warnings or is_second:
        result = result | {"warnings": [*result["warnings"], *warnings]}
        folder.write_result(result)
    return result


def count_parameters(*modules: nn.Module) -> int:
    """Count the parameters of modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
