import json
import shutil
from dataclasses import replace

import pytest

from tmkt_train.errors import RunInterruptedError
from tmkt_train.experiments.decision import Decision
from tmkt_train.experiments.jobs import RunAdvanced, RunEnded
from tmkt_train.experiments.slots import Slots
from tmkt_train.experiments.suggest_trials import chosen_values, estimate_seconds, run_suggestion

from ..training.runs import alter_recording, rows_of
from .conftest import decisions_of, suggest


def accuracies(decisions):
    return [(one.value, dict(one.last), dict(one.selected)) for decision in decisions for one in decision.tried]


def test_no_test_recording_is_read(recipe, tiny_cache, suggestion, tmp_path):
    cache = tmp_path / "cache.h5"
    shutil.copy(tiny_cache, cache)
    for row in rows_of(cache, "test"):
        alter_recording(cache, row)
    plan = suggest(recipe, cache, tmp_path / "out", "method.name=images-only", epochs=4, steps=8)
    decisions = decisions_of(plan)
    assert accuracies(decisions) == accuracies(suggestion[1])


def test_stopped_suggestion_resumes_to_the_same_decisions(recipe, tiny_cache, suggestion, tmp_path):
    plan = suggest(recipe, tiny_cache, tmp_path / "out", "method.name=images-only", epochs=4, steps=8)
    with pytest.raises(RunInterruptedError):
        list(run_suggestion(plan, lambda: any(plan.out.rglob("result.json"))))
    assert len(list((tmp_path / "out").rglob("result.json"))) == 1
    again = list(run_suggestion(plan))
    assert sum(isinstance(step, RunEnded) for step in again) == plan.num_runs - 1
    assert accuracies([step for step in again if isinstance(step, Decision)]) == accuracies(suggestion[1])


def test_finished_suggestion_trains_nothing_and_takes_no_time(suggestion):
    plan, decisions = suggestion
    assert estimate_seconds(plan) == 0
    assert list(run_suggestion(plan)) == decisions


def test_later_stages_train_with_what_was_chosen(recipe, tiny_cache, tmp_path):
    plan = suggest(recipe, tiny_cache, tmp_path / "out", "method.name=kt", epochs=1, steps=1, num_seeds=3)
    plan = replace(plan, stages=(replace(plan.stages[0], others=("saccade",)), plan.stages[1]))
    decisions_of(replace(plan, stages=plan.stages[:1]))
    saccade = tmp_path / "out" / "runs" / "data.image_encoding=saccade"
    for path in saccade.glob("*/result.json"):
        # One step teaches nothing: as if saccade had classified every validation recording.
        path.write_text(json.dumps(json.loads(path.read_text()) | {"last_epoch_val_accuracy": 1.0}))
    progress = list(run_suggestion(plan))
    decisions = [step for step in progress if isinstance(step, Decision)]
    assert decisions[0].chosen.value == "saccade"
    assert decisions[1].tried[0].last == {3: 1.0, 4: 1.0, 5: 1.0}
    trained = [step.run.recipe for step in progress if isinstance(step, RunEnded)]
    assert [(run.data.image_encoding, run.model.separate_heads) for run in trained] == [("saccade", False)] * 3
    assert len(list((tmp_path / "out").rglob("result.json"))) == plan.num_runs == 9
    assert chosen_values(decisions) == {"data.image_encoding": "saccade"}


def test_time_is_measured_and_leaves_nothing(recipe, tiny_cache, tmp_path):
    plan = suggest(recipe, tiny_cache, tmp_path / "out", "method.name=images-only")
    assert 0 < estimate_seconds(plan) < 3600
    assert list((tmp_path / "out").iterdir()) == []


def test_runs_in_processes_give_the_same_decisions(recipe, tiny_cache, suggestion, tmp_path):
    shutil.copytree(suggestion[0].out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "runs" / "data.image_encoding=saccade")
    plan = suggest(recipe, tiny_cache, tmp_path / "out", "method.name=images-only", epochs=4, steps=8)
    steps = list(run_suggestion(plan, lambda: False, Slots(2)))
    assert sum(isinstance(step, RunEnded) for step in steps) == 2
    assert not any(isinstance(step, RunAdvanced) for step in steps)
    assert accuracies([step for step in steps if isinstance(step, Decision)]) == accuracies(suggestion[1])
