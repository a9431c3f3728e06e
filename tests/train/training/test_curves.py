"""The event file holds the metrics of each epoch once, also after a stop, and never stops a training."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tmkt_train.errors import RunInterruptedError
from tmkt_train.training.curves import Curves, scalars_of
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.run import resume_run, start_run

from ..conftest import make_recipe
from .runs import Asks, StopAfter


def points(folder):
    """Return (epoch, value) of each curve."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def expected(folder):
    curves = {}
    for row in RunFolder(folder).metrics.read()[0]:
        for name, value in scalars_of(row):
            curves.setdefault(name, []).append((row["epoch"] + 1, pytest.approx(value, rel=1e-6)))
    return curves


def test_every_metric_of_every_epoch_is_a_point(finished):
    found = points(finished)
    assert found == expected(finished)
    assert {"learning_rate", "loss/train", "loss/val", "accuracy/train", "accuracy/val", "realised_ratio"} <= set(found)
    assert [epoch for epoch, _ in found["loss/train"]] == [1, 2, 3]
    assert any(name.startswith("loss/") and name not in ("loss/train", "loss/val") for name in found)


@pytest.mark.parametrize("num_asks", [1, 6, 9])
def test_an_epoch_that_is_trained_again_is_no_second_point(tiny_cache, tmp_path, num_asks):
    recipe, out = make_recipe(), tmp_path / "cut"
    with pytest.raises(RunInterruptedError):
        list(start_run(recipe, cache=tiny_cache, out=out).train(StopAfter(num_asks)))
    # A process that was killed after an epoch and before its checkpoint has left a point too many.
    curves = Curves(out / "tensorboard")
    for row in (*RunFolder(out).metrics.read()[0], {"epoch": 1, "train_loss": 9.0}):
        curves.add(row)
    list(resume_run(out).train(Asks()))
    assert points(out) == expected(out)
    assert len(list((out / "tensorboard").iterdir())) == 1


def test_curves_that_cannot_be_written_are_a_warning(tiny_cache, tmp_path):
    run = start_run(make_recipe(train__epochs=1, optim__warmup_epochs=0), cache=tiny_cache, out=tmp_path / "run")
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    *_, done = run.train()
    (warning,) = [text for text in done.result["warnings"] if "TensorBoard" in text]
    assert warning.startswith("the curves for TensorBoard were not written (")
    assert "\n" not in warning
    assert RunFolder(tmp_path / "run").read_result()["test_accuracy"] is not None
