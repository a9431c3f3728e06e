"""A run: recipe to parts to loop, with a folder that says everything and from which it goes on exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from tmkt_train.data.batches import EpochPlan, training_batches
from tmkt_train.data.cache import choose_cache, open_frames, selection_split
from tmkt_train.errors import NonFiniteError, RunError, RunInterruptedError
from tmkt_train.method.methods import TwoStreams
from tmkt_train.recipe.load import parse_toml
from tmkt_train.recipe.recipe import Recipe, recipe_text
from tmkt_train.training.checkpoint import require_finite
from tmkt_train.training.diagnostics import write_diagnostics
from tmkt_train.training.folder import RunFolder, cache_of, create_run_folder
from tmkt_train.training.loop import Evaluation, train_one_epoch
from tmkt_train.training.metrics import epoch_row
from tmkt_train.training.optimizer import learning_rate_of
from tmkt_train.training.progress import EpochDone, Finished, Progress, Started, StepDone
from tmkt_train.training.result import count_parameters, evaluate_part, result_record, write_end
from tmkt_train.training.run_identity import recipe_digest, require_same_recipe
from tmkt_train.training.saving import load_best, restore, save_best, save_last
from tmkt_train.training.setup import Parts, build_parts, choose_device, describe_environment, numerics
from tmkt_train.training.state import Position

_CHECK_EVERY_ON_GPU = 20


def start_run(recipe: Recipe, *, cache: Path | None = None, out: Path | None = None) -> Run:
    """Set up a new run: choose the cache, build the parts, make the folder.

    Args:
        recipe: The recipe.
        cache: Cache to train on; None for the one that fits among those prepared.
        out: Folder to make; None for one under `runs`.

    Raises:
        TmktError: The cache does not serve the recipe, the folder is taken, or the device is missing.
    """
    info = choose_cache(recipe, cache)
    device = choose_device(recipe)
    with numerics(recipe):
        parts = build_parts(recipe, info.path, device)
        environment = describe_environment(device, info.path, parts.frames.cache_digest)
    environment["recipe_digest"] = recipe_digest(parse_toml(recipe_text(recipe), recipe.name))
    folder = create_run_folder(recipe, out, environment)
    return Run(recipe, folder, info.path, parts, tuple(recipe.warnings()))


def resume_run(path: Path, *, cache: Path | None = None) -> Run:
    """Set up a run to go on from its checkpoint, or from the start where it has none yet.

    Args:
        path: Folder of the run.
        cache: Where the cache lies now, if it was moved.

    Raises:
        TmktError: The folder holds no run, or the cache or the recipe is not what the run was started with.
    """
    folder = RunFolder(path)
    recipe = folder.load_recipe()
    environment = folder.environment()
    require_same_recipe(folder, environment)
    source = cache or cache_of(environment)
    device = choose_device(recipe)
    with numerics(recipe, environment["num_threads"]):
        parts = build_parts(recipe, source, device)
        now = describe_environment(device, source, parts.frames.cache_digest)
    if now["cache_digest"] != environment["cache_digest"]:
        raise RunError(
            f"{source}: cache digest {now['cache_digest']}, expected {environment['cache_digest']} as when "
            "the run was started; give that cache with --cache, or start a new run"
        )
    notes = [
        f"{name} was {environment.get(name)} and is {now[name]}: the last digits may differ"
        for name in ("tmkt", "torch", "spikingjelly", "numpy", "python", "device", "num_threads")
        if environment.get(name) != now[name]
    ]
    return Run(recipe, folder, source, parts, (*notes, *recipe.warnings()))


class Run:
    """One run that is ready to train.

    Attributes:
        recipe: The recipe.
        folder: Its folder.
        cache: Its cache.
        parts: What is trained.
        notes: What differs from when the run was started, and what is hardly meant.
    """

    def __init__(
        self, recipe: Recipe, folder: RunFolder, cache: Path, parts: Parts, notes: tuple[str, ...] = ()
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.cache = cache
        self.parts = parts
        self.notes = notes

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> Generator[Progress, None, None]:
        """Train to the end, from the checkpoint where there is one.

        Args:
            should_stop: Asked between any two steps; when it says yes, the checkpoint is written.

        Yields:
            How far the run has come; the last one is `Finished`.

        Raises:
            RunInterruptedError: `should_stop` said yes.
            NonFiniteError: The loss or a weight is no finite number.
            RunError: The folder is in use, its files do not belong together, or cannot be written.
        """
        with self.folder.lock():
            environment = self._environment()
            with numerics(self.recipe, environment["num_threads"]):
                at = restore(self.folder, self.parts)
                rows = self.folder.metrics.cut(at.epoch)
                yield self._started(at, environment)
                try:
                    while at.epoch < self.recipe.num_epochs:
                        yield from self._train_epoch(at, should_stop)
                        rows.append(self._end_epoch(at, should_stop))
                        yield EpochDone(rows[-1], at.is_best_just_done, self.recipe.num_epochs)
                except NonFiniteError as error:
                    kept = "the last good checkpoint is kept" if self.folder.last.is_file() else "nothing is saved yet"
                    raise NonFiniteError(f"{error}; {kept}") from None
                yield Finished(self._finish(at, rows, environment, should_stop))

    def _environment(self) -> dict[str, Any]:
        """Read the environment, and remember in it where the cache lies if that was moved."""
        environment = self.folder.environment()
        cache = str(self.cache.resolve())
        if environment["cache"] != cache:
            environment["cache"] = cache
            self.folder.write_environment(environment)
        return environment

    def _started(self, at: Position, environment: dict[str, Any]) -> Started:
        parts = self.parts
        return Started(
            run=self.folder.path,
            cache=self.cache,
            recipe=self.recipe,
            num_classes=parts.frames.num_classes,
            num_train=len(parts.frames),
            num_selection=len(parts.selection),
            selected_on=selection_split(self.recipe),
            num_steps=parts.num_steps,
            num_parameters=count_parameters(parts.model),
            device=f"{environment['device']}, {torch.get_num_threads()} threads",
            first_epoch=at.epoch,
            first_step=at.step,
            notes=self.notes,
        )

    def _train_epoch(self, at: Position, should_stop: Callable[[], bool]) -> Iterator[Progress]:
        parts = self.parts
        if at.step == 0 and at.epoch == self.recipe.image_epochs:
            # Each stage starts with a fresh optimizer; before the first epoch it is fresh anyway.
            parts.optimizer.state.clear()
        for group in parts.optimizer.param_groups:
            group["lr"] = learning_rate_of(self.recipe, at.epoch)
        plan = EpochPlan(self.recipe.seed, at.epoch, parts.num_draws, at.step)
        batches = training_batches(parts.frames, self.recipe.train, plan, parts.device)
        steps = train_one_epoch(
            parts.model,
            parts.method,
            parts.optimizer,
            batches,
            at.means,
            epoch=at.epoch,
            epochs=self.recipe.num_epochs,
            num_steps=parts.num_steps,
            first=at.step,
            check_every=1 if parts.device.type == "cpu" else _CHECK_EVERY_ON_GPU,
        )
        with closing(batches), closing(steps):
            for step in steps:
                at.step = step
                if should_stop():
                    self._stop(at)
                yield StepDone(at.epoch, step, parts.num_steps)

    def _stop(self, at: Position) -> None:
        at.means.check(at.epoch)
        at.tick(self.parts.device)
        save_last(self.folder, self.recipe, self.parts, at)
        raise RunInterruptedError(self.folder.path)

    def _end_epoch(self, at: Position, should_stop: Callable[[], bool]) -> dict[str, Any]:
        at.tick(self.parts.device)
        train_s = at.epoch_s
        selection = self._select(at, should_stop)
        at.tick(self.parts.device)
        name = selection_split(self.recipe)
        row = epoch_row(
            at.means.means(),
            epoch=at.epoch,
            learning_rate=learning_rate_of(self.recipe, at.epoch),
            selection={f"{name}_accuracy": selection.accuracy, f"{name}_loss": selection.loss},
        )
        if isinstance(self.parts.method, TwoStreams):
            row |= self.parts.method.learned_metrics()
        num_samples = self.parts.num_draws
        row |= {"samples_per_s": round(num_samples / train_s, 3), "wall_s": round(at.epoch_s, 3)}
        self.folder.metrics.append(row)
        may_be_best = at.epoch >= self.recipe.image_epochs
        is_best = at.finish_epoch(self.parts.device, selection.accuracy, selection.loss, may_be_best=may_be_best)
        # In this order: best.pt can be made again from last.pt, and never runs ahead of it.
        save_last(self.folder, self.recipe, self.parts, at)
        if is_best:
            save_best(self.folder, self.parts, row["epoch"])
        return row

    def _select(self, at: Position, should_stop: Callable[[], bool]) -> Evaluation:
        """Evaluate the part that selects the epoch; refuse broken weights before anything is written."""
        place = f"epoch {at.epoch + 1}"
        require_finite(self.parts.model.state_dict().items(), place)

        def stop_if_asked() -> None:
            if should_stop():
                self._stop(at)

        evaluation = evaluate_part(
            self.recipe, self.parts.model, self.parts.selection, self.parts.device, stop_if_asked
        )
        if not math.isfinite(evaluation.loss):
            raise NonFiniteError(
                f"{place}: the loss of the {selection_split(self.recipe)} part is no finite number; "
                "lower optim.learning_rate"
            )
        return evaluation

    def _finish(
        self,
        at: Position,
        rows: list[dict[str, Any]],
        environment: dict[str, Any],
        should_stop: Callable[[], bool],
    ) -> dict[str, Any]:
        parts = self.parts
        if at.best is None:
            raise RunError(f"{self.folder.last}: no best epoch, expected one at the end; start the run anew")

        def stop_if_asked() -> None:
            # The last checkpoint stands at the end of the last epoch already.
            if should_stop():
                raise RunInterruptedError(self.folder.path)

        load_best(self.folder, parts.model, parts.device, at.best.epoch)
        frames = open_frames(self.recipe, parts.frames.cache, "test")
        test = evaluate_part(self.recipe, parts.model, frames, parts.device, stop_if_asked)
        at.tick(parts.device)
        result = result_record(self.recipe, parts, at, rows, test, environment)
        path = self.folder.diagnostics
        return write_end(self.folder, result, lambda: write_diagnostics(path, self.recipe, parts, frames, test, rows))
