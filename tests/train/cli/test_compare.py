import os
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tmkt_train.errors import RunError, RunInterruptedError
from tmkt_train.experiments.compare import train_runs
from tmkt_train.experiments.jobs import RunEnded, RunStarted
from tmkt_train.experiments.plan import RunOptions, plan_comparison
from tmkt_train.experiments.slots import Slots
from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder

from ..cli.commands import PATIENCE_S, PROGRAM, call, call_program
from ..conftest import make_recipe
from ..experiments.conftest import without_pages
from ..training.runs import StopAfter, assert_same_run


@pytest.fixture(autouse=True)
def here(tiny_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMKT_CACHES", "caches")
    (tmp_path / "caches").mkdir()
    shutil.copy(tiny_cache, tmp_path / "caches")
    (tmp_path / "recipes").mkdir()
    for name, method in (("tiny_event_only", "event-only"), ("tiny", "tmkt")):
        text = recipe_text(make_recipe(name=name, method__name=method, train__epochs=2))
        (tmp_path / "recipes" / f"{name}.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_compare_from_start_to_end_and_again(here):
    words = ("compare", "tiny_event_only", "tiny", "--seeds", "2", "--event-share", "0.3")
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    folder = "runs/compare-tiny_event_only"
    for text in (
        "4 runs: 0 finished, 0 to resume, 4 to start", "   1/4 tiny_event_only share 0.3 seed 3: val ",
        "   4/4 tiny share 0.3 seed 4: val ", "test  last epoch  difference, 95 %\n",
            f"report.html       {folder}/report.html",
    ):  # fmt: skip
        assert text in out, text
    assert max(len(line) for line in out.splitlines()) <= 80
    assert {path.name for path in (here / folder).iterdir()} == {
        "runs", "table.csv", "summary.csv", "summary.md", "summary.tex", "figure.png", "figure.pdf", "figure.svg",
        "curves.pdf", "curves.svg", "report.html",
    }  # fmt: skip
    table = (here / folder / "table.csv").read_bytes()
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    assert "4 runs: 4 finished" in out
    assert (here / folder / "table.csv").read_bytes() == table


@pytest.mark.parametrize("words", [("compare", "tiny"), ("sweep", "tiny", "--over", "mix.ratio=0.1,0.2")])
def test_a_logger_that_is_not_installed_is_told_before_anything_trains(here, monkeypatch, words):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    code, out, err = call(*words, "--logger", "mlflow")
    told = "error: --logger mlflow: found no mlflow; install it with: pip install 'tmkt[mlflow]'\n"
    assert (code, out, err) == (1, "", told)
    assert not (here / "runs").exists()


def test_failed_run_makes_the_command_fail(here):
    recipe = make_recipe(name="exploding", optim__learning_rate=1e30, optim__min_learning_rate=0.0, train__epochs=2)
    (here / "recipes" / "exploding.toml").write_text(recipe_text(recipe), encoding="utf-8")
    code, out, err = call("compare", "tiny", "exploding", "--seeds", "1")
    assert code == 1
    assert "exploding share 1.0 seed 3: failed: epoch 2" in out
    assert err == "error: 1 of 2 runs failed; run the same command again to retry them\n"
    assert "failed" in (here / "runs/compare-tiny/table.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "Missing argument 'RECIPE...'"),
        (["tiny", "--seeds", "0"], 2, "0 is not in the range"),
        (["tiny", "--jobs", "0"], 2, "0 is not in the range"),
        (["tiny", "--devices", "0,one"], 2, "found 'one', expected numbers of GPUs such as 0,1, or all"),
        (["tiny", "--devices", "0,-1"], 2, "found '-1', expected numbers of GPUs"),
        (["tiny", "--devices", ""], 2, "found '', expected numbers of GPUs"),
        (["tiny", "--devices", "1,0,1"], 2, "found 1 twice, expected each GPU once; for more runs on it, raise --jobs"),
        (["tiny", "--event-share", "0"], 2, "found 0, expected shares above 0 and at most 1"),
        (["tiny", "--event-share", "0.1,1.5"], 2, "found 1.5, expected"),
        (["tiny", "--event-share", "nan"], 2, "found nan, expected"),
        (["tiny", "--event-share", "0.1,,1"], 2, "found '', expected shares such as"),
        (["tiny", "--event-share", "1,1.0"], 2, "found 1.0 twice"),
        (["tinny"], 1, "error: tinny: no recipe of this name; did you mean tiny?\n"),
        (["tiny", "tiny"], 1, "error: tiny: found twice"),
        (["tiny", "--out", "s3://bucket/out"], 2, "error: --out: found the URL 's3://bucket/out', expected a path"),
        (["tiny", "--out", "recipes/tiny.toml"], 1, "error: recipes/tiny.toml: cannot be written (File exists)"),
        (["tiny", "--devices", "99"], 1, "error: --devices 99: "),
        (["tiny", "--cache", "none.h5"], 1, "error: none.h5: "),
        (["tiny", "--set", "train.epoch=3"], 1, "error: --set train.epoch: found an unknown key"),
    ],
)
def test_bad_input_is_told_and_writes_nothing(here, arguments, code, text):
    found, _, err = call("compare", *arguments)
    assert found == code
    assert text in err
    assert "Traceback" not in err
    if code == 1:
        assert err.count("\n") == 1
    assert not (here / "runs").exists()


def wait_for(path, process):
    deadline = time.monotonic() + PATIENCE_S
    while not path.is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_stopped_processes_save_where_they_stand(here):
    words = ["compare", "tiny_event_only", "tiny", "--seeds", "1", "--jobs", "2", "--out", "out"]
    process = call_program(PROGRAM, here, *words, "--set", "train.epochs=2000", start_new_session=True)
    folders = [here / "out/runs" / name / "share-1.0/seed-3" for name in ("tiny_event_only", "tiny")]
    for folder in folders:
        wait_for(folder / "last.pt", process)
    # As Ctrl-C on a terminal: to every process of its group.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert err.endswith("stopped; run the same command again to resume\n")
    assert "2 runs: 0 finished, 0 to resume, 2 to start" in out
    assert not any((folder / "result.json").exists() for folder in folders)
    assert all(load_checkpoint(folder / "last.pt")["position"]["epoch"] >= 1 for folder in folders)
    for folder in folders:
        # Nobody trains on: the lock of the folder is free.
        with RunFolder(folder).lock():
            pass


def wait_until_free(folder):
    """Wait until nobody trains in a folder."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with RunFolder(folder).lock():
                return
        except RunError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "names"),
    # SIGHUP comes with a terminal that is closed, below.
    [(signal.SIGKILL, ["tiny_event_only", "tiny"]), (signal.SIGTERM, ["tiny"])],
)
def test_children_stop_with_their_parent_and_lose_nothing(here, number, names):
    words = ["compare", *names, "--seeds", "1", "--jobs", "2", "--out", "out"]
    process = call_program(PROGRAM, here, *words, "--set", "train.epochs=2000", start_new_session=True)
    folders = [here / "out/runs" / name / "share-1.0/seed-3" for name in names]
    for folder in folders:
        wait_for(folder / "last.pt", process)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    for folder in folders:
        wait_until_free(folder)
        assert not (folder / "result.json").exists()
        rows = RunFolder(folder).metrics.read()[0]
        position = load_checkpoint(folder / "last.pt")["position"]
        assert len(rows) == position["epoch"] >= 1
        assert not list(folder.glob(".*"))


def test_a_terminal_that_is_closed_stops_the_training_in_order(here):
    terminal, end = os.openpty()
    words = ["compare", "tiny", "--seeds", "1", "--out", "out", "--set", "train.epochs=2000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    code = f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {PROGRAM}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=here, env=environment, stdin=end, stdout=end, stderr=end, start_new_session=True,
    )  # fmt: skip
    os.close(end)
    folder = here / "out/runs/tiny/share-1.0/seed-3"
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / "last.pt").is_file():
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 0.01)[0]:
            os.read(terminal, 4096)
    os.close(terminal)
    # As a shell does beside the system.
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=PATIENCE_S) == 130
    wait_until_free(folder)
    position = load_checkpoint(folder / "last.pt")["position"]
    assert len(RunFolder(folder).metrics.read()[0]) == position["epoch"]
    assert position["step"] > 0 or position["epoch"] >= 1


def test_nohup_stays_in_force(here):
    code = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); {PROGRAM}"
    process = call_program(code, here, "recipe", "tiny", "--no-report", "--out", "out", start_new_session=True)
    wait_for(here / "out/recipe.toml", process)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out


def test_processes_go_on_and_train_the_same(here):
    names = ["tiny_event_only", "tiny"]
    cut = plan_comparison(names, RunOptions(("train.epochs=3",), out=here / "out"), num_seeds=1)
    with pytest.raises(RunInterruptedError):
        list(train_runs(cut.runs, StopAfter(12)))
    assert [run.status for run in cut.runs] == ["interrupted", "missing"]
    progress = list(train_runs(without_pages(cut.runs), slots=Slots(2)))
    assert [step.is_resumed for step in progress if isinstance(step, RunStarted)] == [True, False]
    assert [step.problem for step in progress if isinstance(step, RunEnded)] == [None, None]
    whole = plan_comparison(names, RunOptions(("train.epochs=3",), out=here / "whole"), num_seeds=1)
    list(train_runs(without_pages(whole.runs)))
    for here_run, there in zip(cut.runs, whole.runs, strict=True):
        assert_same_run(here_run.folder, there.folder)


def test_process_that_fails_is_told_in_one_line(here):
    comparison = plan_comparison(["tiny"], RunOptions(out=here / "out"), num_seeds=1)
    # A cache that vanishes after planning.
    (here / "caches" / "digits-tiny.h5").unlink()
    ended = [p for p in train_runs(comparison.runs, slots=Slots(2)) if isinstance(p, RunEnded)]
    assert [p.problem for p in ended] == [
        f"{comparison.runs[0].cache.path}: no such file; make it with tmkt-data prepare"
    ]
