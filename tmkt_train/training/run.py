"""A run: recipe to training setup to loop, with a folder that records everything and from which it resumes exactly."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tmkt_train.choices import LoggerName
from tmkt_train.data.batches import EpochPlan, training_batches
from tmkt_train.data.cache import choose_cache, open_frames, selection_split
from tmkt_train.data.device import encoding_record
from tmkt_train.errors import NonFiniteError, RunError, RunInterruptedError, command
from tmkt_train.network.collectives import num_ranks, own_rank
from tmkt_train.network.execution import who_ran
from tmkt_train.recipe.load import parse_toml, recipe_digest
from tmkt_train.recipe.recipe import Recipe, flat_items, recipe_text, toml_value
from tmkt_train.training.checkpoint import require_finite, require_same_recipe
from tmkt_train.training.diagnostics import gather_diagnostics
from tmkt_train.training.environment import (
    choose_device,
    describe_device,
    describe_environment,
    environment_changes,
    numerics,
    reset_peak_memory,
    same_cache,
    threads_of,
)
from tmkt_train.training.evaluations import Evaluations
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.iteration import Iteration, build_iteration
from tmkt_train.training.loggers import require_logger_packages
from tmkt_train.training.loop import CHECK_EVERY_ON_GPU, Evaluation, train_one_epoch
from tmkt_train.training.metrics import epoch_row
from tmkt_train.training.metrics_file import Row
from tmkt_train.training.new_folder import create_run_folder
from tmkt_train.training.optimizer import count_steps, learning_rate_of, require_loss_scale, set_learning_rate
from tmkt_train.training.out_of_memory import describe_shortage, explain_out_of_memory, explained
from tmkt_train.training.progress import EpochDone, Finished, Progress, Started, StepDone
from tmkt_train.training.provenance import describe_start
from tmkt_train.training.ranks import any_rank, explain_lost_ranks, on_first, require_same, share, together
from tmkt_train.training.restore import load_best, restore_on_ranks
from tmkt_train.training.result import FinalEvaluation, count_parameters, result_record, write_end, write_predictions
from tmkt_train.training.saving import CheckpointSaver, checkpoint_interval_s
from tmkt_train.training.setup import TrainingSetup, build_setup, require_ranks, setup_warnings
from tmkt_train.training.state import TrainingState
from tmkt_train.training.tracking import Tracking, describe_loggers, open_tracking


def start_run(
    recipe: Recipe, *, cache: Path | None = None, out: Path | None = None, loggers: Sequence[LoggerName] = ()
) -> Run:
    """Set up a new run: choose the cache, build the training setup, create the folder.

    The defaults are the only prepared cache that fits, and a folder under `runs`. `loggers` log the metrics as well;
    a resumed run continues in them.

    Raises:
        TmktError: The cache does not fit the recipe, the folder is taken, or the device or a logger is missing.
    """
    require_logger_packages(loggers)
    source, setup, environment = together(lambda: _set_up(recipe, lambda: choose_cache(recipe, cache).path))
    _require_same_ranks(recipe, environment)
    environment |= encoding_record(setup.train_source, setup.device)
    environment["recipe_digest"] = recipe_digest(parse_toml(recipe_text(recipe), recipe.name))
    environment["started"] = describe_start() | describe_loggers(loggers)
    folder = on_first(lambda: create_run_folder(recipe, out, environment))
    notes = (*recipe.warnings(), *setup_warnings(recipe, setup))
    return Run(recipe, folder, source, setup, notes, checkpoint_interval_s(setup.device))


def resume_run(path: Path, *, cache: Path | None = None) -> Run:
    """Set up a stopped run to resume from its checkpoint, or from the start if it has none yet.

    `cache` says where the cache lies now, if it was moved.

    Raises:
        TmktError: The folder holds no run, or the cache or the recipe is not what the run was started with.
    """
    folder = RunFolder(path)
    recipe, environment = on_first(lambda: _read_run(folder))
    source, setup, now = together(
        lambda: _set_up(
            recipe, lambda: same_cache(environment, cache, environment["cache_digest"]), threads_of(environment)
        )
    )
    _require_same_ranks(recipe, now)
    changes = tuple(environment_changes(environment, now))
    notes = (*changes, *recipe.warnings(), *setup_warnings(recipe, setup))
    return Run(recipe, folder, source, setup, notes, checkpoint_interval_s(setup.device), changes)


def _read_run(folder: RunFolder) -> tuple[Recipe, dict[str, Any]]:
    recipe = folder.read_recipe()
    environment = folder.read_environment()
    require_same_recipe(folder, environment)
    return recipe, environment


def _set_up(
    recipe: Recipe, choose: Callable[[], Path], num_threads: int | None = None
) -> tuple[Path, TrainingSetup, dict[str, Any]]:
    """Return the cache that is chosen, the training setup and its environment."""
    cache = choose()
    device = choose_device(recipe)
    with numerics(recipe, num_threads):
        setup = build_setup(recipe, cache, device)
        environment = describe_environment(recipe, device, cache, setup.frames.cache_digest)
    require_ranks(recipe, setup)
    return cache, setup, environment


def _require_same_ranks(recipe: Recipe, environment: Mapping[str, Any]) -> None:
    if num_ranks() > 1:
        settings = {name: toml_value(value) for name, value, _ in flat_items(recipe)}
        require_same(settings, "give every rank the same recipe and settings")
        known = {name: str(environment[name]) for name in ("tmkt", "torch", "precision")}
        digest = {"the cache digest": str(environment["cache_digest"])}
        require_same(known | digest, "give every rank the same cache, versions and kind of device")


@dataclass(frozen=True)
class Run:
    """A run that is ready to train.

    `notes` are warnings, and what differs from when the run was started. `checkpoint_interval_s` are the least seconds
    between two checkpoints; 0 for one after every epoch. `changes` are what differs, which the result warns of.
    """

    recipe: Recipe
    folder: RunFolder
    cache: Path
    setup: TrainingSetup
    notes: tuple[str, ...] = ()
    checkpoint_interval_s: float = 0.0
    changes: tuple[str, ...] = ()

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> Generator[Progress, None, None]:
        """Train to the end, from the checkpoint if there is one.

        Args:
            should_stop: Asked between any two batches; when it returns True, a checkpoint is written.

        Yields:
            The progress of the run; the last value is `Finished`, where several ranks train on the first one.

        Raises:
            RunInterruptedError: `should_stop` returned True.
            NonFiniteError: The loss or a weight is NaN or infinite.
            RunError: The folder is in use, its files do not belong together, or cannot be written; or there is no
                memory left.
        """
        saver = CheckpointSaver(self.folder, self.recipe, self.setup, self.checkpoint_interval_s)
        with explain_lost_ranks(), ExitStack() as stack, saver:
            on_first(lambda: _enter(stack, self.folder.lock()))
            environment = on_first(self._read_environment)
            with numerics(self.recipe, threads_of(environment)):
                reset_peak_memory(self.setup.device)
                state, repairs = restore_on_ranks(self.folder, self.recipe, self.setup)
                tracking = stack.enter_context(open_tracking(self.folder, self.recipe, environment, state.rows))
                yield self._started(state, environment, (*repairs, *tracking.places, *tracking.problems))
                iteration = build_iteration(self.setup)
                evaluations = Evaluations(self.folder, self.recipe, self.setup)
                with explained(lambda: self._shortage(state, saver)):
                    yield from self._train_epochs(iteration, state, saver, evaluations, tracking, should_stop)
                    saver.wait()
                    final = self._evaluate_at_the_end(state, evaluations, should_stop)
                if own_rank() == 0:
                    yield Finished(self._finish(iteration, state, environment, final, tracking))

    def _train_epochs(
        self,
        iteration: Iteration,
        state: TrainingState,
        saver: CheckpointSaver,
        evaluations: Evaluations,
        tracking: Tracking,
        should_stop: Callable[[], bool],
    ) -> Iterator[Progress]:
        def stop_if_asked() -> None:
            if any_rank(should_stop()):
                state.means.check(state.epoch)
                state.tick(self.setup.device)
                saver.save_now(state)
                raise RunInterruptedError(self.folder.path)

        num_epochs = self.recipe.num_epochs
        try:
            while state.epoch < num_epochs:
                yield from self._train_epoch(iteration, state, stop_if_asked)
                row = self._end_epoch(state, evaluations, stop_if_asked)
                tracking.add(row)
                saver.save_epoch(state, is_last=state.epoch == num_epochs)
                yield EpochDone(row, state.is_best_just_done, num_epochs)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}; {self._kept(saver)}") from None

    def _shortage(self, state: TrainingState, saver: CheckpointSaver) -> str:
        if state.epoch < self.recipe.num_epochs:
            found = explain_out_of_memory(self.recipe, self.setup)
            return f"epoch {state.epoch + 1}: {found}; {self._kept(saver)}"
        again = command("tmkt-train", "resume", self.folder.path)
        return f"final evaluation: {describe_shortage(self.setup.device)}; resume when more is free, with: {again}"

    def _kept(self, saver: CheckpointSaver) -> str:
        saver.wait()
        return "the last good checkpoint is kept" if self.folder.last.is_file() else "nothing is saved yet"

    def _read_environment(self) -> dict[str, Any]:
        """Read the environment, and note in it where the cache was moved to, and what has changed on a resume."""
        environment = self.folder.read_environment()
        known = environment.get("changes", [])
        now = {"cache": str(self.cache.resolve()), "changes": list(dict.fromkeys([*known, *self.changes]))}
        if environment["cache"] != now["cache"] or now["changes"] != known:
            environment |= now if now["changes"] else {"cache": now["cache"]}
            self.folder.write_environment(environment)
        return environment

    def _started(self, state: TrainingState, environment: dict[str, Any], notes: tuple[str, ...]) -> Started:
        setup = self.setup
        return Started(
            run=self.folder.path,
            cache=self.cache,
            recipe=self.recipe,
            num_classes=setup.frames.num_classes,
            num_train=len(setup.frames),
            num_selection=len(setup.selection),
            selection_split=selection_split(self.recipe),
            batches_per_epoch=setup.batches_per_epoch,
            num_parameters=count_parameters(setup.model),
            device=describe_device(self.recipe, setup.device, environment["device"]),
            first_epoch=state.epoch,
            first_batch=state.batch,
            notes=(*notes, *self.notes),
        )

    def _train_epoch(
        self, iteration: Iteration, state: TrainingState, stop_if_asked: Callable[[], None]
    ) -> Iterator[Progress]:
        setup = self.setup
        if state.batch == 0 and state.epoch == self.recipe.image_epochs:
            # Each stage starts with a fresh optimizer; before the first epoch it is fresh anyway.
            setup.optimizer.state.clear()
        set_learning_rate(setup.optimizer, learning_rate_of(self.recipe, state.epoch))
        plan = EpochPlan(self.recipe.seed, state.epoch, setup.num_draws, state.batch, own_rank(), num_ranks())
        batches = training_batches(setup.train_source, self.recipe.train, plan, setup.device)
        check_every = 1 if setup.device.type == "cpu" else CHECK_EVERY_ON_GPU
        steps = train_one_epoch(
            iteration,
            state,
            batches,
            num_epochs=self.recipe.train.epochs,
            first_epoch=self.recipe.image_epochs,
            check_every=check_every,
        )
        with closing(batches), closing(steps):
            for batch in steps:
                stop_if_asked()
                yield StepDone(state.epoch, batch, setup.batches_per_epoch)

    def _end_epoch(self, state: TrainingState, evaluations: Evaluations, stop_if_asked: Callable[[], None]) -> Row:
        setup = self.setup
        state.tick(setup.device)
        train_s = state.epoch_s
        require_loss_scale(setup.scaler, f"epoch {state.epoch + 1}")
        is_last = state.epoch == self.recipe.num_epochs - 1
        require_finite(setup.model.state_dict().items(), f"epoch {state.epoch + 1}")
        # Local statistics of batch norm differ from rank to rank.
        share(setup.model.buffers())
        # The final evaluation may ask for those of the last epoch again.
        selection = evaluations.evaluate(setup.selection_source, stop_if_asked, keep=is_last)
        self._require_finite_loss(selection, state.epoch)
        state.tick(setup.device)
        name = selection_split(self.recipe)
        row = epoch_row(
            state.means.means(),
            epoch=state.epoch,
            learning_rate=learning_rate_of(self.recipe, state.epoch),
            selection={f"{name}_accuracy": selection.accuracy, f"{name}_loss": selection.loss},
        )
        row |= setup.method.learned_metrics()
        row |= {"samples_per_s": round(setup.num_draws / train_s, 3), "wall_s": round(state.epoch_s, 3)}
        if own_rank() == 0:
            self.folder.metrics.append(row)
        state.rows.append(row)
        may_be_best = is_last if self.recipe.train.select == "last" else state.epoch >= self.recipe.image_epochs
        state.finish_epoch(setup.device, selection.accuracy, selection.loss, may_be_best=may_be_best)
        return row

    def _require_finite_loss(self, selection: Evaluation, epoch: int) -> None:
        if not math.isfinite(selection.loss):
            raise NonFiniteError(
                f"epoch {epoch + 1}: the loss of the {selection_split(self.recipe)} split is NaN or infinite; "
                "lower optim.learning_rate"
            )

    def _finish(
        self,
        iteration: Iteration,
        state: TrainingState,
        environment: dict[str, Any],
        final: FinalEvaluation,
        tracking: Tracking,
    ) -> dict[str, Any]:
        recipe, folder, setup = self.recipe, self.folder, self.setup
        state.tick(setup.device)
        result = result_record(recipe, setup, state, final, environment)
        result |= {"iterations": iteration.description, "computed_by": who_ran(setup.model)}
        tracking.finish(result)
        result["warnings"] += tracking.problems
        num_steps = count_steps(setup.optimizer) if setup.scaler.is_enabled() else None
        if num_steps is not None:
            # The optimizer forgets the steps of the first stage.
            result["num_skipped_steps"] = recipe.train.epochs * setup.batches_per_epoch - num_steps
        write_predictions(folder, final)
        folder.drop_unneeded()
        gather = functools.partial(gather_diagnostics, recipe, setup, final.frames, final.selected, state.rows)
        return write_end(folder, result, gather)

    def _evaluate_at_the_end(
        self, state: TrainingState, evaluations: Evaluations, should_stop: Callable[[], bool]
    ) -> FinalEvaluation:
        """Evaluate the network, which has the weights of the last epoch, and the selected weights; keep the latter."""
        recipe, setup, best = self.recipe, self.setup, state.best
        if best is None:
            raise RunError(f"{self.folder.last}: no best epoch, expected one at the end; start a new run")

        def stop_if_asked() -> None:
            # The last checkpoint is that of the last epoch already.
            if any_rank(should_stop()):
                raise RunInterruptedError(self.folder.path)

        frames = open_frames(recipe, setup.frames.cache, recipe.train.final_split)
        is_selected = best.epoch == recipe.num_epochs - 1
        last = None if is_selected else evaluations.evaluate(frames, stop_if_asked, keep=True)
        on_first(lambda: load_best(self.folder, setup.model, setup.device, best.epoch))
        share(setup.model.state_dict().values())
        selected = evaluations.evaluate(frames, stop_if_asked)
        return FinalEvaluation(frames, selected, last or selected)


def _enter(stack: ExitStack, context: AbstractContextManager[Any]) -> None:
    stack.enter_context(context)
