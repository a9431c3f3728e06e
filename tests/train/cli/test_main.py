import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from tmkt_train.cli.main import main
from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.run import start_run

from ..conftest import make_recipe
from ..training.runs import assert_same_run

PATIENCE_S = 240
"""How long a process may take on a busy machine, where its imports alone take a minute."""
PROGRAM = "import sys; sys.argv[0] = 'tmkt-train'; from tmkt_train.cli.main import main; main()"


@pytest.fixture(autouse=True)
def here(tiny_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMKT_CACHES", "caches")
    monkeypatch.delenv("TMKT_DEBUG", raising=False)
    write_inputs(tmp_path, tiny_cache)
    return tmp_path


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def call_program(code, folder, *arguments, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def write_inputs(folder, cache):
    """Write a cache and a recipe where the commands look for them."""
    (folder / "caches").mkdir()
    shutil.copy(cache, folder / "caches")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "tiny.toml").write_text(recipe_text(make_recipe()), encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tiny_cache, tmp_path_factory):
    """The folder where a run was trained by the command, and what the command said."""
    folder = tmp_path_factory.mktemp("trained")
    write_inputs(folder, tiny_cache)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TMKT_CACHES", "caches")
        code, out, err = call("recipe", "tiny", "--set", "train.epochs=2", "--out", "run")
    assert (code, err) == (0, "")
    return folder, out


@pytest.fixture
def run(here, trained):
    shutil.copytree(trained[0] / "run", here / "run")
    return trained[1]


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
def test_resume_of_a_finished_run_shows_its_result():
    code, out, err = call("resume", "run")
    assert (code, err) == (0, "")
    assert "already finished" in out
    assert "test accuracy" in out


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
    code, out, _ = call("recipes")
    assert code == 0
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


def test_check_prints_every_setting_and_the_cache():
    code, out, err = call("check", "tiny", "--set", "mix.ratio=0.8")
    assert (code, err) == (0, "")
    assert "  mix.ratio                    0.8                inferred\n" in out
    assert "  optim.learning_rate          0.002              inferred\n" in out
    assert "recipes/tiny.toml: the recipe is valid\n" in out
    assert "cache: caches/digits-tiny.h5\n" in out
    code, out, _ = call("check", "tiny", "--set", "method.name=event-only")
    assert "  mix.ratio                    0.5                unused by this method\n" in out


def test_check_measures_what_a_training_takes():
    code, out, err = call("check", "tiny", "--measure")
    assert (code, err) == (0, "")
    assert re.search(
        r"^device: cpu, 1 thread\nmemory: about [0-9.]+ [MG]B( of [0-9.]+ GB that are free)?\n"
        r"time: about [0-9]+ s, 15 steps of [0-9.e-]+ s, and an evaluation after each epoch\n\Z", out, re.MULTILINE,
    )  # fmt: skip
    code, _, err = call("check", "tiny", "--measure", "--set", "train.batch_size=500", "--set", "train.drop_last=true")
    assert (code, err.count("\n")) == (1, 1)
    assert "expected at least train.batch_size = 500" in err
    large = ("--set", "train.batch_size=1000000000", "--set", "train.steps_per_epoch=1")
    code, out, err = call("check", "tiny", "--measure", *large)
    assert (code, err) == (0, "")
    assert "time:" not in out
    assert re.search(r"^note: train.batch_size = 1000000000 does not fit, about \d+ do: lower it", out, re.MULTILINE)


def test_check_without_measuring_loads_no_torch(here):
    code = "import sys; from tmkt_train.cli.main import main; main(['check', 'tiny'], standalone_mode=False)"
    with call_program(f"{code}; assert 'torch' not in sys.modules", here) as process:
        assert "the recipe is valid" in process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0


def test_check_says_how_to_make_a_missing_cache():
    code, out, _ = call("check", "tiny", "--set", "data.prepare.size=20")
    assert code == 0
    wanted = "tmkt-data prepare digits --time-bins 4 --size 20"
    assert f"no cache yet: caches/digits-tiny.h5: size is 16, expected 20; make it with: {wanted}\n" in out


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


def test_check_of_an_unknown_dataset_fails():
    code, out, err = call("check", "tiny", "--set", "data.dataset=nmnits")
    assert code in (1, 2)
    assert "is valid" not in out
    assert err.count("\n") == 1
    assert "did you mean 'nmnist'" in err


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


def test_check_refuses_what_the_training_would(here, monkeypatch):
    # Importing a network puts the current folder on the path of this process.
    monkeypatch.setattr(sys, "path", [*sys.path])
    (here / "broken_nets.py").write_text(
        "import torch\nbuild = 3\nfrom tmkt_train.nothing import Net\n", encoding="utf-8"
    )
    for setting, problem in (
        ("data.held_out_classes=9", "held-out classes: found 9 of 10, expected 0 to 8"),
        ("model.backbone=nowhere.nets:build", "model.backbone: nowhere.nets:build: found no module nowhere"),
        ("model.backbone=broken_nets:build", "model.backbone: broken_nets:build: broken_nets cannot be imported"),
    ):
        code, out, err = call("check", "tiny", "--set", setting)
        assert "is valid" not in out
        assert err.startswith(f"error: {problem}")
        trained = call("recipe", "tiny", "--set", setting, "--out", "new")
        assert (trained[0], trained[2]) == (code, err)
    assert call("check", "tiny", "--set", "data.held_out_classes=8")[0] == 0
    # Without a cache, only the recipe itself is checked.
    settings = ("--set", "data.held_out_classes=9", "--set", "data.prepare.size=20")
    assert call("check", "tiny", *settings)[0] == 0
