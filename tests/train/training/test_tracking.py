"""A run is followed by loggers across stops, and trains on without them."""

from __future__ import annotations

import json
import sys

import pytest

from tmkt_train.errors import MissingPackageError, RunInterruptedError
from tmkt_train.training import tracking as tracking_module
from tmkt_train.training.curves import scalars_of
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.run import resume_run, start_run
from tmkt_train.training.tracking import Tracking, describe_loggers, open_tracking

from ..conftest import make_recipe
from .runs import Asks, StopAfter, without_times

ROW = {"epoch": 0, "lr": 0.1, "train_loss": 2.0}


class Failing:
    """A logger whose server goes away after the first epoch."""

    place, last_step = "there", 0

    def __init__(self):
        self.logged, self.ending = [], None

    def add(self, step, values):
        if step > 1:
            raise ConnectionError("the server\nis gone")
        self.logged.append((step, values))

    def summarize(self, values):
        self.logged.append(values)

    def close(self, ending):
        self.ending = ending


def test_a_logger_that_is_not_installed_is_one_line_before_anything_is_created(tiny_cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPackageError) as caught:
        start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run", loggers=["wandb"])
    assert str(caught.value) == "--logger wandb: found no wandb; install it with: pip install 'tmkt[wandb]'"
    assert not (tmp_path / "run").exists()


def test_a_run_whose_logger_is_gone_trains_on(tiny_cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    run = start_run(make_recipe(train__epochs=1, optim__warmup_epochs=0), cache=tiny_cache, out=tmp_path / "run")
    environment = run.folder.read_environment()
    run.folder.write_environment(environment | {"started": {"loggers": "mlflow", "log_id": "0f"}})
    started, *_, done = run.train()
    warning = "mlflow stopped logging (--logger mlflow: found no mlflow; install it with: pip install 'tmkt[mlflow]')"
    assert warning in started.notes
    assert done.result["warnings"].count(warning) == 1


def test_a_logger_of_a_later_version_is_a_problem(tmp_path):
    tracking = Tracking(RunFolder(tmp_path), make_recipe(), {"loggers": "later", "log_id": "0f"})
    assert tracking.problems == [
        "later stopped logging (RunError: found logger 'later', expected one of wandb, mlflow; update tmkt)"
    ]


def test_a_logger_that_fails_is_one_problem_and_the_others_go_on(tmp_path):
    tracking = Tracking(RunFolder(tmp_path), make_recipe(), {})
    failing, whole = Failing(), Failing()
    tracking._loggers = {"wandb": failing, "mlflow": whole}
    whole.last_step = 2
    with tracking:
        for epoch in range(3):
            tracking.add(ROW | {"epoch": epoch})
            whole.add = lambda step, values: whole.logged.append((step, values))
        tracking.finish({"test_accuracy": 0.5, "method": "tmkt", "optimistic": True, "best_epoch": 2})
    assert tracking.problems == ["wandb stopped logging (ConnectionError: the server is gone)"]
    assert failing.logged == [(1, {"learning_rate": 0.1, "loss/train": 2.0})]
    assert failing.ending is None
    # What a resumed run has logged already is not logged again.
    last = {"result/test_accuracy": 0.5, "result/best_epoch": 2}
    assert whole.logged == [(3, {"learning_rate": 0.1, "loss/train": 2.0}), last]
    assert whole.ending == "finished"


@pytest.mark.parametrize(
    ("error", "ending"), [(RunInterruptedError("run"), "stopped"), (GeneratorExit(), "stopped"), (OSError(), "failed")]
)
def test_a_logger_is_told_how_a_session_ended(tmp_path, error, ending):
    tracking, logger = Tracking(RunFolder(tmp_path), make_recipe(), {}), Failing()
    tracking._loggers = {"wandb": logger}
    with pytest.raises(type(error)), tracking:
        raise error
    assert logger.ending == ending


def test_only_the_first_rank_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking_module, "own_rank", lambda: 1)
    tracking = open_tracking(RunFolder(tmp_path), make_recipe(), {"started": describe_loggers(["wandb"])}, [ROW])
    assert (tracking.places, tracking.problems) == ([], [])
    assert not list(tmp_path.iterdir())


def stop_and_resume(cache, out, name):
    """Stop a run in its second epoch, resume it, and return its rows and where it is shown."""
    run = start_run(make_recipe(), cache=cache, out=out, loggers=[name])
    progress = run.train(StopAfter(10))
    started = next(progress)
    with pytest.raises(RunInterruptedError):
        list(progress)
    assert len(RunFolder(out).metrics.read()[0]) == 1
    *_, done = resume_run(out).train(Asks())
    assert done.result["warnings"] == without_logger_warnings(done.result)
    (place,) = [note for note in started.notes if note.startswith(f"{name}: ")]
    return RunFolder(out).metrics.read()[0], done.result, place


def without_logger_warnings(result):
    return [text for text in result["warnings"] if "stopped logging" not in text]


def expected(rows):
    return {
        name: [(row["epoch"] + 1, pytest.approx(dict(scalars_of(row))[name])) for row in rows]
        for name in dict(scalars_of(rows[0]))
    }


@pytest.mark.filterwarnings("ignore:.*noload:DeprecationWarning")
def test_mlflow_has_one_run_with_each_epoch_once(tiny_cache, tmp_path, monkeypatch, finished):
    mlflow = pytest.importorskip("mlflow", reason="of the extra mlflow, which is too heavy for the tests")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    rows, result, place = stop_and_resume(tiny_cache, tmp_path / "run", "mlflow")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("tmkt").experiment_id])
    assert place == f"mlflow: experiment tmkt, run {run.info.run_id}"
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["train.epochs"] == "3"
    assert run.data.metrics["result/test_accuracy"] == result["test_accuracy"]
    for name, points in expected(rows).items():
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted((one.step, one.value) for one in history) == points, name
    # A logger changes nothing in a training.
    plain = RunFolder(finished).metrics.read()[0]
    assert [without_times(row) for row in rows] == [without_times(row) for row in plain]


def test_weights_and_biases_works_offline(tiny_cache, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="of the extra wandb, which is too heavy for the tests")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    rows, result, place = stop_and_resume(tiny_cache, tmp_path / "run", "wandb")
    sessions = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"), key=lambda folder: folder.stat().st_mtime_ns)
    assert place == f"wandb: offline; upload it with: wandb sync {sessions[0]}"
    assert len({folder.name.rpartition("-")[2] for folder in sessions}) == 1, "one run, in two sessions"
    # The later session holds the epochs of the first, too.
    records = logged_by_wandb(*sessions[-1].glob("*.wandb"))
    history = [values_of(one.history.item) for one in records if one.HasField("history")]
    for name, points in expected(rows).items():
        assert [(row["_step"], row[name]) for row in history] == points, name
    summary = {}
    for one in records:
        summary |= values_of(one.summary.update)
    assert summary["result/test_accuracy"] == result["test_accuracy"]
    assert [one.exit.exit_code for one in records if one.HasField("exit")] == [0]


def values_of(items):
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def logged_by_wandb(path):
    """Read the file of a run that was logged offline: records of protobuf in the log format of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record, found = path.read_bytes(), 7, b"", []
    while at < len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(record))
            record = b""
    return found
