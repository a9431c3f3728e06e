"""Stopped commands, and `tmkt-train resume`."""

import signal

import pytest
import torch

from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.run import start_run

from ..conftest import make_recipe
from ..training.runs import assert_same_run
from .commands import PATIENCE_S, PROGRAM, call, call_program

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.usefixtures("run")
def test_resume_of_a_finished_run_shows_its_result():
    code, out, err = call("resume", "run")
    assert (code, err) == (0, "")
    assert "already finished" in out
    assert "test accuracy" in out


LONG = make_recipe(train__epochs=4)


@pytest.fixture(scope="module")
def whole(tiny_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    torch.set_num_threads(1)
    list(start_run(LONG, cache=tiny_cache, out=out).train())
    return out


# SIGTERM stops a process that is still setting up, below, and those of test_compare.py.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_process_resumes_to_the_same_run(here, whole, tiny_cache, number):
    (here / "recipes" / "long.toml").write_text(recipe_text(LONG), encoding="utf-8")
    # The signal comes from inside, when the checkpoint of the second epoch gets its name: no clock decides.
    code = (
        "import os, sys\n"
        "names = []\n"
        "def watch(event, given):\n"
        "    if event == 'os.rename' and os.path.basename(given[1]) == 'last.pt':\n"
        "        names.append(given[1])\n"
        "        if len(names) == 2:\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "sys.addaudithook(watch)\n" + PROGRAM
    )
    process = call_program(code, here, "recipe", "long", "--out", "cut", "--cache", str(tiny_cache))
    _, err = process.communicate(timeout=PATIENCE_S)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert err.endswith("stopped; resume with:\n  tmkt-train resume cut\n")
    assert not (here / "cut" / "result.json").exists()
    assert 1 <= load_checkpoint(here / "cut" / "last.pt")["position"]["epoch"] < 4
    code, out, err = call("resume", "cut", "--no-report")
    assert (code, err) == (0, "")
    assert "resumes" in out
    assert_same_run(here / "cut", whole)


def test_damaged_diagnostics_are_written_again_as_the_report_says(here, run):
    assert "report            run/report.html" in run
    path = here / "run" / "diagnostics.npz"
    path.write_bytes(path.read_bytes()[:100])
    code, _, err = call("report", "run")
    assert (code, err.count("\n")) == (1, 1)
    assert err.endswith("the file is damaged; remove it, and `tmkt-train resume` writes it again\n")
    path.unlink()
    assert call("resume", "run")[0] == 0
    assert call("report", "run")[0] == 0


def test_what_a_process_left_that_died_at_the_end_is_removed(here, run):
    assert "report            run/report.html" in run
    folder = here / "run"
    left = (".lock", "last.previous.pt", "best.previous.pt", "evaluations.pt")
    for name in left:
        (folder / name).write_bytes(b"")
    assert call("resume", "run")[0] == 0
    assert not [path.name for path in folder.iterdir() if path.name in left]


def test_stop_while_setting_up_waits_for_the_first_step(here):
    # The import of the run is the first thing of setting up; the signal comes from inside it. Nothing on the way loads
    # the compiler of torch, which takes as long as torch itself.
    code = (
        "import os, sys, importlib.abc\n"
        "class Hook(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'tmkt_train.training.run':\n"
        f"            os.kill(os.getpid(), {int(signal.SIGTERM)})\n"
        "        if name in ('torch._dynamo', 'torch._inductor'):\n"
        "            sys.exit(f'{name} is loaded')\n"
        "sys.meta_path.insert(0, Hook())\n" + PROGRAM
    )
    process = call_program(code, here, "recipe", "tiny", "--out", "cut")
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert err.endswith("stopped; resume with:\n  tmkt-train resume cut\n")
    assert load_checkpoint(here / "cut" / "last.pt")["position"]["step"] == 1


@pytest.mark.usefixtures("run")
def test_stop_outside_a_training_is_130(here):
    code = (
        "import os, signal, sys, importlib.abc\n"
        "class Hook(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'tmkt_train.training.result':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Hook())\n" + PROGRAM
    )
    process = call_program(code, here, "evaluate", "run")
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (130, "stopped\n")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("recipe.toml", "run/recipe.toml: "),
        ("result.json", "run/result.json: cannot be read"),
        ("best.pt", "run/best.pt: not a readable checkpoint"),
    ],
)
def test_resume_of_a_finished_run_checks_its_files_first(here, run, name, problem):
    assert "report            run/report.html" in run
    (here / "run" / "last.pt").unlink()
    path = here / "run" / name
    path.write_bytes(path.read_bytes()[:40])
    code, out, err = call("resume", "run")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {problem}")


def test_ctrl_c_in_the_report_says_how_to_resume(here, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tmkt_train.report.page.write_report", interrupted)
        code, _, err = call("recipe", "tiny", "--set", "train.epochs=1", "--out", "cut")
    assert (code, err) == (130, "stopped; resume with:\n  tmkt-train resume cut\n")
    assert (here / "cut" / "result.json").is_file()
    code, out, err = call("resume", "cut", "--no-report")
    assert (code, err) == (0, "")
    assert "cut: already finished" in out
