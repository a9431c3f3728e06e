from dataclasses import replace

import pytest

from tmkt_train.experiments.decision import Decision
from tmkt_train.experiments.plan import RunOptions
from tmkt_train.experiments.suggest import Budget, plan_suggestion
from tmkt_train.experiments.suggest_trials import run_suggestion
from tmkt_train.experiments.sweep import Trial, plan_sweep
from tmkt_train.experiments.trials import run_sweep
from tmkt_train.recipe.recipe import recipe_text

from ..conftest import make_recipe

SHORT = ["train.epochs=2"]


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(recipe_text(make_recipe()), encoding="utf-8")
    return path


def plan(recipe, cache, out, *over, seed=3, **options):
    return plan_sweep(str(recipe), over, RunOptions((*SHORT, f"seed={seed}"), cache, out), **options)


def without_pages(runs):
    """The planned runs, without the pages that take longer to draw than they to train."""
    return tuple(replace(run, has_report=False) for run in runs)


def trials_of(progress):
    return [step for step in progress if isinstance(step, Trial)]


def run(sweep):
    return trials_of(run_sweep(sweep))


@pytest.fixture(scope="session")
def grid(recipe, tiny_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    sweep = plan(recipe, tiny_cache, out, "mix.ratio=0.1:0.9", num_trials=3, num_seeds=2, is_grid=True)
    return sweep, run(sweep)


def suggest(recipe, cache, out, *settings, epochs=2, steps=3, **options):
    options = {"num_seeds": 2, **options}
    return plan_suggestion(str(recipe), RunOptions(settings, cache, out), budget=Budget(epochs, steps), **options)


def decisions_of(plan, *arguments):
    return [step for step in run_suggestion(plan, *arguments) if isinstance(step, Decision)]


@pytest.fixture(scope="session")
def suggestion(recipe, tiny_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("suggest") / "out"
    plan = suggest(recipe, tiny_cache, out, "method.name=images-only", epochs=4, steps=8)
    return plan, decisions_of(plan)
