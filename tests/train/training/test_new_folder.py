"""Folders of new runs, and folders that are refused."""

import shutil

import pytest

from tmkt_train.errors import RunError
from tmkt_train.training.checkpoint import load_checkpoint, save_checkpoint
from tmkt_train.training.new_folder import create_run_folder
from tmkt_train.training.result import evaluate_run
from tmkt_train.training.run import resume_run, start_run

from ..conftest import make_recipe


def test_folder_in_use_is_refused(tiny_cache, tmp_path):
    run = start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run")
    with run.folder.lock(), pytest.raises(RunError, match="another process is training here"):
        list(run.train())


def test_folders_get_numbers_and_taken_ones_are_refused(tmp_path, monkeypatch, finished):
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe()
    paths = [create_run_folder(recipe, None, {}).path.as_posix() for _ in range(3)]
    assert paths == ["runs/tiny-tmkt-seed3", "runs/tiny-tmkt-seed3-2", "runs/tiny-tmkt-seed3-3"]
    with pytest.raises(RunError, match="holds a finished run"):
        create_run_folder(recipe, finished, {})
    with pytest.raises(RunError, match=r"unfinished run; resume it with: tmkt-train resume runs"):
        create_run_folder(recipe, tmp_path.joinpath("runs/tiny-tmkt-seed3").relative_to(tmp_path), {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RunError, match="not empty"):
        create_run_folder(recipe, tmp_path / "full", {})
    with pytest.raises(RunError, match="a file, expected a new folder"):
        create_run_folder(recipe, tmp_path / "full" / "x", {})
    with pytest.raises(RunError, match="cannot be created"):
        create_run_folder(recipe, tmp_path / "full" / "x" / "y", {})


def test_problem_with_the_recipe_leaves_no_folder(tiny_cache, tmp_path):
    with pytest.raises(RunError):
        start_run(make_recipe(train__batch_size=500, train__drop_last=True), cache=tiny_cache, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_below_a_file_is_told_without_its_number(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError) as refused:
        create_run_folder(make_recipe(), tmp_path / "file/run", {})
    words = "the folder cannot be created (Not a directory); choose another with --out"
    assert str(refused.value) == f"{tmp_path / 'file/run'}: {words}"


def test_folder_that_is_no_run_or_is_damaged_is_one_line(finished, tmp_path):
    with pytest.raises(RunError, match="no such folder"):
        resume_run(tmp_path / "none")
    with pytest.raises(RunError, match=r"no recipe\.toml"):
        resume_run(tmp_path)
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "environment.json").write_text("[", encoding="utf-8")
    with pytest.raises(RunError, match=r"environment\.json: cannot be read"):
        resume_run(out)


def test_weights_of_another_network_are_refused(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    state = load_checkpoint(out / "best.pt")
    state["model"].pop("event_head.weight")
    save_checkpoint(out / "best.pt", state)
    with pytest.raises(RunError, match="of another network"):
        evaluate_run(out)
    save_checkpoint(out / "last.pt", load_checkpoint(out / "last.pt") | {"model": {}})
    run = resume_run(out)
    with pytest.raises(RunError, match=r"last\.pt: the weights are of another network"):
        list(run.train())
