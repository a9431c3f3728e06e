import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tmkt_train.cli.main import main
from tmkt_train.training.folder import RunFolder

from ..conftest import make_recipe
from .commands import PATIENCE_S, PROGRAM, call, call_program

pytestmark = pytest.mark.usefixtures("here")


def test_training_says_what_it_will_do_does_and_did(here, run):
    for words in (
        "tmkt with scnn", "100 recordings of 10 classes of digits", "10 recordings of val", "2 of 5 steps of 24",
        "0.002 (effective)", "cpu, 1 thread", "epoch   1/2", "epoch   2/2", "mixed 0.", "left ", "test accuracy",
        "val accuracy", "report", "run/report.html", "next,",
    ):  # fmt: skip
        assert words in run, words
    assert max(len(line) for line in run.splitlines()) <= 80
    assert (here / "run" / "report.html").stat().st_size > 1000
    assert json.loads((here / "run" / "result.json").read_text(encoding="utf-8"))["epochs"] == 2


@pytest.mark.usefixtures("run")
def test_evaluate_agrees_and_says_when_it_does_not(here):
    code, out, err = call("evaluate", "run")
    assert (code, err) == (0, "")
    assert "of 10 recordings" in out
    result = RunFolder(here / "run").read_result()
    RunFolder(here / "run").write_result(result | {"test_accuracy": 2.0})
    code, _, err = call("evaluate", "run")
    assert code == 1
    assert err.startswith("error: run: test accuracy ")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("run")
def test_report_of_one_run_and_of_two(here):
    # What is drawn of them takes most of the time; the page of a training, and that of test_page.py, have it.
    (here / "run" / "diagnostics.npz").unlink()
    assert call("report", "run") == (0, "report: run/report.html\nfigures: run/figures\n", "")
    shutil.copytree(here / "run", here / "other")
    assert call("report", "run", "other") == (0, "report: report.html\n", "")
    assert (here / "report.html").is_file()
    code, _, err = call("report", "nowhere")
    assert code == 1
    assert err.startswith("error: nowhere: no such folder")


@pytest.mark.usefixtures("run")
def test_taken_folder_is_refused_with_what_to_do(here):
    code, _, err = call("recipe", "tiny", "--out", "run")
    assert (code, err) == (1, "error: run: holds a finished run; choose another folder with --out\n")
    (here / "run" / "result.json").unlink()
    code, _, err = call("recipe", "tiny", "--out", "run")
    assert (code, err) == (1, "error: run: holds an unfinished run; resume it with: tmkt-train resume run\n")
    assert (here / "run" / "best.pt").is_file()


def test_recipes_lists_name_title_and_dataset(here):
    (here / "recipes" / "broken.toml").write_text("seed = -1", encoding="utf-8")
    loud = 'extends = "tiny"\nname = "loud"\ntitle = "red \\u001b[31m"\n'
    (here / "recipes" / "loud.toml").write_text(loud, encoding="utf-8")
    code, out, _ = call("recipes")
    assert code == 0
    assert "loud\n  red \\x1b[31m\n" in out
    assert "tiny\n  A tiny one\n  needs: digits\n" in out
    assert "vggsnn_ncaltech\n" in out
    assert "  also:  _event_only _images_only _fine_tune" in out
    assert all(len(line) <= 80 for line in out.splitlines() if "error:" not in line)
    assert "broken\n  error: " in out


def test_variant_is_given_by_name_or_by_path(here):
    with (here / "recipes" / "tiny.toml").open("a", encoding="utf-8") as file:
        file.write('\n[variants.short]\ntitle = "A short one"\ntrain.epochs = 2\n[variants.bad]\ntrain.epochs = 0\n')
    for given in ("tiny_short", "recipes/tiny.toml:short"):
        code, out, err = call("check", given)
        assert (code, err) == (0, "")
        assert '  name                         "tiny_short"\n' in out
        assert "  train.epochs                 2                  inferred\n" in out
        assert "recipes/tiny.toml:short: the recipe is valid\n" in out
    mistake = "recipes/tiny.toml: variants.bad.train.epochs: found 0, expected a whole number of 1 or more"
    assert call("check", "tiny_bad")[::2] == (1, f"error: {mistake}\n")
    assert f"tiny\n  A tiny one\n  needs: digits\n  error: {mistake}\n  also:  _short\n" in call("recipes")[1]
    assert call("check", "tiny_shot")[::2] == (
        1, "error: tiny_shot: no recipe of this name; tiny has the variants short, bad\n",
    )  # fmt: skip


def test_missing_and_ambiguous_caches_are_one_line(here):
    code, _, err = call("recipe", "tiny", "--set", "data.dataset=nmnist")
    assert code == 1
    assert err == (
        "error: caches: no cache of nmnist; make it with: tmkt-data prepare nmnist --time-bins 4 --size 16\n"
    )
    shutil.copy(here / "caches" / "digits-tiny.h5", here / "caches" / "digits-twice.h5")
    code, _, err = call("recipe", "tiny")
    assert code == 1
    assert "found 2 caches that fit" in err
    assert "choose one with --cache FILE" in err
    code, _, err = call("recipe", "tiny", "--cache", "caches/digits-tiny.h5", "--set", "data.prepare.canvas=tight")
    assert code == 1
    assert "canvas is fixed, expected tight; make the right one with: tmkt-data prepare digits" in err
    (here / "cut.h5").write_bytes((here / "caches" / "digits-tiny.h5").read_bytes()[:5000])
    code, _, err = call("recipe", "tiny", "--cache", "cut.h5")
    assert code == 1
    assert err.startswith("error: cut.h5: ")
    assert not (here / "runs").exists()


def test_five_mistakes_are_five_lines():
    settings = ["train.epochs=0", "seed=-1", "method.name=tkmt", "model.backbon=scnn", "loss.ratio=x"]
    code, _, err = call("recipe", "tiny", *(part for setting in settings for part in ("--set", setting)))
    lines = err.splitlines()
    assert code == 1
    assert len(lines) == 5
    assert all(line.startswith("error: --set ") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "code", "start"),
    [
        (["recipe", "tiny", "--seed", "-1"], 2, "Usage: "),
        (["recipe", "tiny", "--logger", "tensorboard"], 2, "Usage: "),
        (["recipe"], 2, "Usage: "),
        (["report"], 2, "Usage: "),
        (["nothing"], 2, "Usage: "),
        (["recipe", "tinny"], 1, "error: tinny: no recipe of this name; did you mean tiny?"),
        (["recipe", "x.toml"], 1, "error: x.toml: no such recipe file"),
        (["resume", "nowhere"], 1, "error: nowhere: no such folder"),
        (["evaluate", "."], 1, "error: .: no recipe.toml"),
        (["recipe", "tiny", "--cache", "none.h5"], 1, "error: none.h5: "),
        (
            ["recipe", "tiny", "--set", "train.device=cuda"],
            1,
            "error: train.device: found 'cuda', but torch finds no GPU",
        ),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(arguments, code, start):
    found, _, err = call(*arguments)
    assert found == code
    assert err.startswith(start)
    assert "Traceback" not in err
    if code == 1:
        assert err.count("\n") == 1


def test_seed_overrides_the_recipe(here):
    code, out, _ = call("recipe", "tiny", "--seed", "9", "--set", "train.epochs=2", "--no-report")
    assert code == 0
    assert "runs/tiny-tmkt-seed9" in out
    assert RunFolder(here / "runs" / "tiny-tmkt-seed9").read_result()["seed"] == 9


def test_help_loads_no_heavy_library(tmp_path):
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom tmkt_train.cli.main import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(main, ['recipes']).exit_code == 0\n"
        "heavy = {'torch', 'numba', 'spikingjelly', 'matplotlib', 'optuna', 'scipy'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    process = call_program(code, tmp_path)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, "")


def test_mistakes_that_need_no_torch_are_told_before_it_is_loaded(here):
    """Loading torch takes seconds; time itself is not measured, as it depends on the machine."""
    typed = [
        ["recipe", "nosuch"], ["recipe", "tiny", "--set", "epochs=2"], ["recipe", "tiny", "--cache", "none.h5"],
        ["recipe", "tiny", "--set", "data.dataset=nmnist"], ["recipe", "tiny", "--out", "full"],
        ["recipe", "tiny", "--logger", "wandb"],
        ["check", "nosuch"], ["check", "tiny", "--measure", "--set", "data.dataset=nmnist"],
        ["resume", "nowhere"], ["resume", "full"], ["evaluate", "nowhere"], ["evaluate", "begun"],
        ["predict", "nowhere", "x.bin"], ["predict", "begun", "x.bin"], ["few-shot", "nowhere"], ["few-shot", "begun"],
        ["evaluate", "ended", "--cache", "none.h5"], ["report", "nowhere"],
        ["compare", "nosuch"], ["compare", "tiny", "--set", "epochs=2"], ["compare", "tiny", "--cache", "none.h5"],
        ["compare", "tiny", "--set", "data.dataset=nmnist"],
        ["sweep", "nosuch", "--over", "mix.ratio=0:1"], ["sweep", "tiny", "--over", "ratio=0:1"],
        ["sweep", "tiny", "--over", "mix.ratio=0:1", "--set", "data.dataset=nmnist"],
        ["suggest", "nosuch"], ["suggest", "tiny", "--set", "epochs=2"], ["suggest", "--cache", "none.h5"],
        ["suggest", "tiny", "--set", "data.dataset=nmnist"],
    ]  # fmt: skip
    for folder in ("full", "begun", "ended"):
        (here / folder).mkdir()
    (here / "full" / "a file").touch()
    for folder in ("begun", "ended"):
        RunFolder(here / folder).write_recipe(make_recipe())
    (here / "ended" / "result.json").write_text("{}", encoding="utf-8")
    code = (
        "import json, sys\nfrom click.testing import CliRunner\nfrom tmkt_train.cli.main import main\n"
        "sys.modules['wandb'] = None\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    found = CliRunner().invoke(main, words)\n"
        "    print(json.dumps([words, found.exit_code, found.stderr, 'torch' in sys.modules]))\n"
    )
    with call_program(code, here, json.dumps(typed)) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert err == ""
    found = [json.loads(line) for line in out.splitlines()]
    assert [words for words, *_ in found] == typed
    assert [words for words, *_, has_torch in found if has_torch] == []
    for words, exit_code, error, _ in found:
        assert (exit_code, error.count("\n")) == (1, 1), (words, error)
        assert error.startswith("error: "), words


def test_short_trial_says_what_became_shorter(here):
    for name in ("tiny", "scnn_digits", "scnn_nomniglot"):
        code, out, err = call("check", name, "--set", "train.epochs=1")
        assert (code, err) == (0, "")
        assert re.match(r"note: optim.warmup_epochs is 0, not [15]: train.epochs is 1\n", out)
    code, out, err = call("recipe", "tiny", "--set", "train.epochs=1", "--no-report", "--out", "run")
    assert (code, err) == (0, "")
    assert out.endswith("  tmkt-train report run RUN\n")
    assert "  report            write it with: tmkt-train report run\n" in out
    assert not (here / "run" / "report.html").exists()
    assert out.startswith("note: optim.warmup_epochs is 0, not 1: train.epochs is 1\n")
    assert RunFolder(here / "run").read_recipe().optim.warmup_epochs == 0
    assert RunFolder(here / "run").read_result()["epochs"] == 1


def test_reader_that_leaves_stops_no_training(here):
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    words = ("recipe", "tiny", "--set", "train.epochs=1", "--no-report", "--out", "run")
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=here, env=environment, stdout=writing, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (found.returncode, found.stderr) == (0, b"")
    assert RunFolder(here / "run").is_complete


KT_PAPER = ("--set", "train.epochs=2", "--set", "data.protocol=kt-paper")


def test_choosing_on_test_is_marked_everywhere():
    code, out, _ = call("recipe", "tiny", *KT_PAPER, "--no-report", "--out", "run")
    assert code == 0
    assert "  optimistic        the epoch is selected on test" in out
    assert "test (optimistic) " in out
    code, out, _ = call("evaluate", "run")
    assert code == 0
    assert "of 10 recordings, optimistic: the epoch is selected on test\n" in out


def test_printed_commands_can_be_typed(here):
    (here / "other caches").mkdir()
    cache = (here / "caches" / "digits-tiny.h5").rename(here / "other caches" / "digits-tiny.h5")
    settings = ("--set", "train.epochs=2", "--cache", cache)
    code, out, _ = call("recipe", "tiny", *settings, "--no-report", "--out", "my run")
    assert code == 0
    lines = [shlex.split(line) for line in out.splitlines() if line.startswith("  tmkt-train ")]
    without = ["tmkt-train", "recipe", "my run/recipe.toml", "--set", "method.name=event-only", "--cache", str(cache)]
    assert lines == [without, ["tmkt-train", "report", "my run", "RUN"]]
    (here / "my run" / "result.json").unlink()
    assert call("recipe", "tiny", *settings, "--out", "my run")[2].endswith("tmkt-train resume 'my run'\n")
    assert call("evaluate", "my run")[2].endswith("tmkt-train resume 'my run'\n")


def test_report_that_cannot_be_written_does_not_undo_the_training(here, run):
    assert "report            run/report.html" in run
    (here / "run" / "report.html").unlink()
    (here / "run" / "report.html").mkdir()
    code, out, err = call("resume", "run")
    assert code == 1
    assert "report            not written\n" in out
    assert "test accuracy" in out
    assert err.startswith("error: run: the run is complete, but not its report: ")
    assert err.endswith("; write it with: tmkt-train report run\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors", "out of memory; end other programs, or use smaller batches"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA", "the GPU is busy: another process may"),
    ],
)
def test_a_device_that_has_no_room_for_another_run_is_one_line(here, monkeypatch, raised, said):
    def refuse(*_):
        raise RuntimeError(raised)

    monkeypatch.setattr("tmkt_train.training.run.build_setup", refuse)
    code, _, err = call("recipe", "tiny", "--out", "run")
    assert (code, len(err.splitlines())) == (1, 1)
    assert err.startswith(f"error: {said}")
    assert not (here / "run").exists()
    monkeypatch.setenv("TMKT_DEBUG", "1")
    assert isinstance(CliRunner().invoke(main, ["recipe", "tiny", "--out", "run"]).exception, RuntimeError)
