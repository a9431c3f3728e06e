"""Train the stages of a suggestion one after the other, and say beforehand how long that takes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from tmkt_train.data.cache import choose_cache
from tmkt_train.experiments.compare import train_runs
from tmkt_train.experiments.decision import Decision, Stage, Tried, decide
from tmkt_train.experiments.jobs import RunEnded, RunsProgress
from tmkt_train.experiments.search_space import Value
from tmkt_train.experiments.slots import Slots
from tmkt_train.experiments.suggest import Suggestion
from tmkt_train.experiments.sweep import plan_trial
from tmkt_train.training.folder import RunFolder

if TYPE_CHECKING:
    from tmkt_train.experiments.plan import PlannedRun


def run_suggestion(
    plan: Suggestion, should_stop: Callable[[], bool] = lambda: False, slots: Slots | None = None
) -> Generator[RunsProgress | Decision, None, None]:
    """Train the values of each stage with what the stages before have chosen; finished runs are kept.

    `should_stop` and `slots` are those of `compare.train_runs`.

    Yields:
        Progress of the runs, and the decision of each stage.

    Raises:
        RunInterruptedError: `should_stop` returned True.
        RunError: A folder holds another run, or no value of a stage could be trained.
    """
    changed: dict[str, Value] = {}
    number = 0
    for stage in plan.stages:
        trials = {}
        for value in stage.values:
            trials[value] = plan_trial(plan, number, _with(changed, stage, value))
            # The own value of a later stage is the choice so far, which is trained already.
            number += value != stage.own or not number
        problems: dict[str, str] = {}
        for progress in train_runs([run for runs in trials.values() for run in runs], should_stop, slots):
            if isinstance(progress, RunEnded) and progress.problem:
                problems[str(progress.run.folder)] = progress.problem
            yield progress
        decision = decide(stage, [_tried(value, runs, problems) for value, runs in trials.items()], plan.num_val)
        changed = _with(changed, stage, decision.chosen.value)
        yield decision


def chosen_values(decisions: Sequence[Decision]) -> dict[str, Value]:
    """Return the values that the decisions change in the recipe."""
    return {decision.stage.key: decision.chosen.value for decision in decisions if not decision.is_own}


def _with(changed: dict[str, Value], stage: Stage, value: Value) -> dict[str, Value]:
    return changed if value == stage.own else {**changed, stage.key: value}


def _tried(value: Value, runs: list[PlannedRun], problems: dict[str, str]) -> Tried:
    results = {run.recipe.seed: result for run in runs if (result := run.result())}
    failed = [problems.get(str(run.folder), "no result") for run in runs if run.recipe.seed not in results]
    return Tried(
        value,
        last={seed: float(result["last_epoch_val_accuracy"]) for seed, result in results.items()},
        selected={seed: float(result["val_accuracy"]) for seed, result in results.items()},
        problem=failed[0] if failed else None,
    )


def estimate_seconds(plan: Suggestion, slots: Slots | None = None) -> float:
    """Estimate how long the missing runs take: from the finished ones, else from a few steps.

    Raises:
        TmktError: The recipe cannot be trained here.
    """
    finished = sorted((plan.out / "runs").rglob("result.json"))
    times = [float(RunFolder(path.parent).read_result()["wall_s"]) for path in finished]
    left = max(0, plan.num_runs - len(times))
    seconds = fmean(times) if times else _measure(plan)
    return left * seconds / (1 if slots is None else slots.num_jobs)


def _measure(plan: Suggestion) -> float:
    from tmkt_train.training.estimate import estimate_training

    return estimate_training(plan.recipe, choose_cache(plan.recipe, plan.cache).path).total_s
