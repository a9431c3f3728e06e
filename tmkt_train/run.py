"""A run: recipe to parts to loop, with a folder that says everything and from which it goes on exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from tmkt_train.batches import training_batches
from tmkt_train.cache_choice import choose_cache
from tmkt_train.checkpoint import load_checkpoint, require_finite, save_checkpoint
from tmkt_train.diagnostics import write_diagnostics
from tmkt_train.errors import NonFiniteError, RunError, RunInterruptedError
from tmkt_train.finish import count_parameters, evaluate_part, load_best, load_weights, result_record
from tmkt_train.loop import Evaluation, train_one_epoch
from tmkt_train.method import TwoStreams
from tmkt_train.metrics import EpochMeans, epoch_row
from tmkt_train.parts import (
    Parts,
    build_parts,
    choose_device,
    describe_environment,
    numerics,
    open_frames,
    selection_split,
)
from tmkt_train.position import Position
from tmkt_train.progress import EpochDone, Finished, Progress, Started, StepDone
from tmkt_train.recipe import Recipe
from tmkt_train.run_folder import RunFolder, create_run_folder
from tmkt_train.schedule import learning_rate_at

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
        folder = create_run_folder(recipe, out, environment)
    return Run(recipe, folder, info.path, parts)


def resume_run(path: Path, *, cache: Path | None = None) -> Run:
    """Set up a run to go on from its checkpoint, or from the start where it has none yet.

    Args:
        path: Folder of the run.
        cache: Where the cache lies now, if it was moved.

    Raises:
        TmktError: The folder holds no run, or the cache is not the one the run was started with.
    """
    folder = RunFolder(path)
    recipe = folder.load_recipe()
    environment = folder.environment()
    source = cache or Path(str(environment["cache"]))
    device = choose_device(recipe)
    with numerics(recipe, environment.get("num_threads")):
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
    return Run(recipe, folder, source, parts, tuple(notes))


class Run:
    """One run that is ready to train.

    Attributes:
        recipe: The recipe.
        folder: Its folder.
        cache: Its cache.
        parts: What is trained.
        notes: What differs from when the run was started.
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
        environment = self.folder.environment()
        with self.folder.claim(), numerics(self.recipe, environment.get("num_threads")):
            at = self._restore()
            rows = self.folder.metrics.cut(at.epoch)
            yield self._started(at, environment)
            while at.epoch < self.recipe.train.epochs:
                yield from self._train_epoch(at, should_stop)
                rows.append(self._end_epoch(at, should_stop))
                is_best = at.best is not None and at.best.epoch == at.epoch - 1
                yield EpochDone(rows[-1], is_best, self.recipe.train.epochs)
            yield Finished(self._finish(at, rows, environment, should_stop))

    def _restore(self) -> Position:
        parts, last = self.parts, self.folder.last
        if not last.is_file():
            return Position(EpochMeans(parts.device))
        state = load_checkpoint(last, parts.device)
        load_weights(parts.model, state["model"], last)
        load_weights(parts.method, state["method"], last)
        parts.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["generator"].cpu())
        return Position.from_state(state["position"], parts.device)

    def _save(self, at: Position) -> None:
        parts = self.parts
        require_finite([*parts.model.state_dict().items(), *parts.method.state_dict().items()], f"epoch {at.epoch}")
        state = {
            "position": at.state(),
            "model": parts.model.state_dict(),
            "method": parts.method.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "generator": torch.get_rng_state(),
        }
        save_checkpoint(self.folder.last, state)

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
        parts, train = self.parts, self.recipe.train
        for group in parts.optimizer.param_groups:
            group["lr"] = self._learning_rate(at.epoch)
        batches = training_batches(
            parts.frames,
            seed=self.recipe.seed,
            epoch=at.epoch,
            sampler=train.sampler,
            batch_size=train.batch_size,
            drop_last=train.drop_last,
            crop_padding=train.crop_padding,
            with_images=self.recipe.needs_images,
            device=parts.device,
            first=at.step,
        )
        steps = train_one_epoch(
            parts.model,
            parts.method,
            parts.optimizer,
            batches,
            at.means,
            epoch=at.epoch,
            epochs=train.epochs,
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
        self._save(at)
        raise RunInterruptedError(self.folder.path)

    def _learning_rate(self, epoch: int) -> float:
        optim = self.recipe.optim
        return learning_rate_at(
            epoch,
            self.recipe.train.epochs,
            optim.learning_rate,
            optim.min_learning_rate,
            optim.warmup_epochs,
            optim.warmup_learning_rate,
            optim.schedule,
        )

    def _end_epoch(self, at: Position, should_stop: Callable[[], bool]) -> dict[str, Any]:
        at.tick(self.parts.device)
        train_s = at.epoch_s
        selection = self._select(at, should_stop)
        at.tick(self.parts.device)
        name = selection_split(self.recipe)
        row = epoch_row(
            at.means.means(),
            epoch=at.epoch,
            learning_rate=self._learning_rate(at.epoch),
            selection={f"{name}_accuracy": selection.accuracy, f"{name}_loss": selection.loss},
        )
        if isinstance(self.parts.method, TwoStreams):
            row |= self.parts.method.figures()
        num_samples = min(len(self.parts.frames), self.parts.num_steps * self.recipe.train.batch_size)
        row |= {"samples_per_s": round(num_samples / train_s, 3), "wall_s": round(at.epoch_s, 3)}
        self.folder.metrics.append(row)
        if at.finish_epoch(self.parts.device, selection.accuracy, selection.loss):
            save_checkpoint(self.folder.best, {"epoch": row["epoch"], "model": self.parts.model.state_dict()})
        self._save(at)
        return row

    def _select(self, at: Position, should_stop: Callable[[], bool]) -> Evaluation:
        """Evaluate the part that selects the epoch; refuse broken weights before anything is written."""
        place = f"epoch {at.epoch}"
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
                "lower optim.learning_rate; the last good checkpoint is kept"
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

        def stop_if_asked() -> None:
            # The last checkpoint stands at the end of the last epoch already.
            if should_stop():
                raise RunInterruptedError(self.folder.path)

        load_best(self.folder, parts.model, parts.device)
        frames = open_frames(self.recipe, parts.frames.cache, "test")
        test = evaluate_part(self.recipe, parts.model, frames, parts.device, stop_if_asked)
        write_diagnostics(self.folder.diagnostics, self.recipe, parts, frames, test, rows)
        at.tick(parts.device)
        result = result_record(self.recipe, parts, at, rows, test, environment)
        self.folder.write_result(result)
        return result
